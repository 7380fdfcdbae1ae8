"""MLflow's scoring protocol: /invocations in every body form, /ping, /health, /version.

Columns are matched by the names of the model's MLflow signature; further columns are ignored, as MLflow does.
Without names, on either side, they are matched by their order. null in a column of floats is a missing number
(NaN). Answers have the form of MLflow's own server for the same kind of model, except that NaN and infinities
are null: MLflow writes words that are not JSON.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from model_server.engine.service import InferenceService
from model_server.errors import InvalidRequest, UnsupportedMediaType
from model_server.http.exchange import Exchange
from model_server.http.router import Router
from model_server.models.repository import Served
from model_server.process.state import ServerState
from model_server.protocols.columns import Columns, columns_of
from model_server.protocols.common import answer, default_model, errors_counted, json_body, media_type, member
from model_server.protocols.nested import json_of, tensor_from_nested
from model_server.protocols.outputs import records
from model_server.tensors import Array, Signature, named

PROTOCOL_VERSION = b"3.0.0"
"""The version of MLflow whose scoring protocol is spoken; unchanged since 2.0, but for additions."""
FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")

_SPLIT_KEYS = frozenset({"columns", "index", "data"})


class MlflowScoring:
    """The routes of MLflow's scoring server."""

    def __init__(self, service: InferenceService, state: ServerState, model: str | None) -> None:
        """`model`: who answers when a client names nobody; see common.default_model."""
        self._service = service
        self._state = state
        self._model = model

    def add_routes(self, router: Router) -> None:
        """Put them on the router."""
        router.add("GET", "/ping", self.ping)
        router.add("GET", "/health", self.ping)
        router.add("GET", "/version", self.version)
        router.add("POST", "/invocations", self.invocations)

    def ping(self, exchange: Exchange) -> None:
        """200 while every declared model can answer, else 503."""
        reasons = self._state.not_ready_reasons()
        if reasons:
            exchange.respond_json(503, {"error": "; ".join(reasons)})
        else:
            exchange.respond_json(200, {"ready": True})

    def version(self, exchange: Exchange) -> None:
        """The version of MLflow whose protocol this is."""
        exchange.respond(200, PROTOCOL_VERSION, b"text/plain; charset=utf-8")

    def invocations(self, exchange: Exchange) -> None:
        """Run the model on a data frame or on tensors."""
        served = default_model(self._service, exchange, self._model)
        with errors_counted(served):
            content_type = media_type(exchange)
            if content_type == "text/csv":
                inputs, rows = _csv(exchange.body, columns_of(served))
                form = partial(_frame_form, served, rows)
            elif content_type in ("application/json", ""):
                inputs, form = _read(json_body(exchange), served)
            else:
                raise UnsupportedMediaType(
                    f"Content-Type {content_type!r:.100}: expected application/json or text/csv"
                )
            answer(self._service, exchange, served, inputs, form)


def _read(document: object, served: Served) -> tuple[dict[str, Array], Any]:
    """The model's inputs, and what makes the answer of its outputs."""
    if type(document) is not dict:
        raise InvalidRequest(
            f"the body is {named(document)}, expected an object with one of {', '.join(FORMS)}"
        )
    forms = [form for form in FORMS if form in document]
    if len(forms) != 1:
        got = " and ".join(forms) if forms else f"{', '.join(map(repr, document))!s:.200}" or "nothing"
        raise InvalidRequest(f"the body has {got}, expected exactly one of {', '.join(FORMS)}")
    member(document, "params", dict)
    (form,) = forms
    data = document[form]
    columns = columns_of(served)
    if form == "dataframe_split":
        rows, names = _split(data)
        return _frame(rows, names, columns, form), partial(_frame_form, served, len(rows))
    if form == "dataframe_records":
        return _records(data, columns, form), partial(_frame_form, served, len(data))
    if type(data) is list and data and type(data[0]) is dict:
        return _records(data, columns, form), partial(_tensor_form, served)
    return _tensors(data, columns, form), partial(_tensor_form, served)


def _split(data: object) -> tuple[list[Any], list[str] | None]:
    """Rows and column names of a data frame in pandas' form "split"."""
    if type(data) is not dict:
        raise InvalidRequest(
            f"dataframe_split: got {named(data)}, expected an object with 'columns' and 'data'"
        )
    unknown = [key for key in data if key not in _SPLIT_KEYS]
    if unknown:
        raise InvalidRequest(f"dataframe_split: unknown {unknown[0]!r:.100}, expected columns, index, data")
    rows = data.get("data")
    if type(rows) is not list:
        raise InvalidRequest(f"dataframe_split.data: got {named(rows)}, expected a list of rows")
    names = data.get("columns")
    if names is None:
        return rows, None
    if type(names) is not list or any(type(name) not in (str, int) for name in names):
        raise InvalidRequest(f"dataframe_split.columns: got {named(names)}, expected a list of names")
    for at, row in enumerate(rows):
        if type(row) is list and len(row) != len(names):
            raise InvalidRequest(
                f"dataframe_split.data[{at}]: has {len(row)} values, expected {len(names)}, one a column"
            )
    # pandas numbers the columns that nobody named.
    return rows, None if all(type(name) is int for name in names) else [str(name) for name in names]


def _frame(rows: list[Any], names: list[str] | None, columns: Columns, form: str) -> dict[str, Array]:
    """Inputs of a data frame: by name where both sides have names, else by order."""
    columns.check_has_rows()
    where = _cell(form)
    order: list[int] | None = None
    if names is not None and columns.named:
        order = columns.order_of(names)
    width = len(columns.all)
    chosen: list[Any] = []
    for at, row in enumerate(rows):
        if type(row) is not list:
            raise InvalidRequest(f"{form} row {at}: got {named(row)}, expected a list of {width} values")
        if order is not None:
            chosen.append([row[index] if index >= 0 else None for index in order])
        elif len(row) == width:
            chosen.append(row)
        else:
            raise InvalidRequest(f"{form} row {at}: has {len(row)} values, expected {width}, one a column")
    return columns.tensors(chosen, where, null_is_nan=True)


def _records(data: object, columns: Columns, form: str) -> dict[str, Array]:
    if type(data) is not list:
        raise InvalidRequest(f"{form}: got {named(data)}, expected a list of objects")
    columns.check_has_rows()
    rows: list[Sequence[Any]] = []
    for at, record in enumerate(data):
        if type(record) is not dict:
            raise InvalidRequest(f"{form} row {at}: got {named(record)}, expected an object")
        if not columns.named and len(record) == len(columns.all):
            # Names that the model does not know: the order decides.
            rows.append(list(record.values()))
        else:
            rows.append(columns.row_of(record, f"{form} row {at}", ignore_unknown=True))
    return columns.tensors(rows, _cell(form), null_is_nan=True)


def _tensors(data: object, columns: Columns, form: str) -> dict[str, Array]:
    """Whole tensors, or the model's columns, each with the values of all rows."""
    signature = columns.signature
    if type(data) is not dict:
        if len(signature.inputs) != 1:
            raise InvalidRequest(f"{form}: got {named(data)}, expected an object with {_known(signature)}")
        return {signature.inputs[0].name: tensor_from_nested(data, signature.inputs[0], form)}
    named_as_tensors = data.keys() == signature.inputs_by_name.keys()
    if named_as_tensors and not (columns.has_rows and _are_columns(data, columns)):
        return {
            spec.name: tensor_from_nested(data[spec.name], spec, f"{form}.{spec.name}")
            for spec in signature.inputs
        }
    columns.check_has_rows()
    order = columns.order_of(list(data))
    values = list(data.values())
    for name, value in data.items():
        if type(value) is not list:
            if all(type(other) is not list for other in values):
                # One row, a scalar a column.
                values = [[other] for other in values]
                break
            raise InvalidRequest(f"{form}.{name}: got {named(value)}, expected a list of values, one a row")
    lengths = {len(value) for value in values}
    if len(lengths) > 1:
        first, second = sorted(lengths)[:2]
        raise InvalidRequest(f"{form}: columns differ in length: {first} and {second} values")
    count = lengths.pop() if lengths else 0
    nothing = [None] * count
    by_column = [values[at] if at >= 0 else nothing for at in order]
    return columns.tensors(list(zip(*by_column, strict=True)), _cell(form), null_is_nan=True)


def _are_columns(data: dict[str, Any], columns: Columns) -> bool:
    """The values of the model's columns, rather than whole tensors."""
    if data.keys() != set(columns.names) or any(column.kind == "list" for column in columns.all):
        return False
    return all(
        type(values) is not list or not any(type(v) is list for v in values) for values in data.values()
    )


def _csv(body: bytes, columns: Columns) -> tuple[dict[str, Array], int]:
    """A CSV file with a header, as pandas writes it without its index."""
    import csv
    import io

    columns.check_has_rows()
    if not body:
        raise InvalidRequest("the body is empty")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body is not UTF-8: {error}") from None
    try:
        header, *rows = list(csv.reader(io.StringIO(text, newline=""), strict=True)) or [[]]
    except csv.Error as error:
        raise InvalidRequest(f"the body is not CSV: {error}") from None
    rows = [row for row in rows if row]
    for at, row in enumerate(rows):
        if len(row) != len(header):
            raise InvalidRequest(
                f"csv row {at}: has {len(row)} values, expected {len(header)} as in the header"
            )
    if columns.named:
        order = columns.order_of(header)
    elif len(header) == len(columns.all):
        order = list(range(len(header)))
    else:
        raise InvalidRequest(f"csv header: has {len(header)} columns, expected {len(columns.all)}")
    kinds = [column.kind for column in columns.all]
    typed = [
        [_parsed(row[at], kind) if at >= 0 else None for at, kind in zip(order, kinds, strict=True)]
        for row in rows
    ]
    return columns.tensors(typed, _cell("csv"), null_is_nan=True), len(rows)


def _parsed(text: str, kind: str) -> Any:
    """The value that a CSV field means in a column of this kind; the text itself if it means none."""
    if kind == "string":
        return text
    if not text:
        return None
    if kind == "boolean":
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        return int(text) if kind == "integer" else float(text)
    except ValueError:
        return text


def _cell(form: str) -> Any:
    return lambda row, name: f"{form} row {row}, column {name!r}"


def _frame_form(served: Served, rows: int, results: list[Array]) -> dict[str, Any]:
    """What MLflow makes of a data frame of predictions: a record a row."""
    if _is_plain(served, results):
        return {"predictions": json_of(results[0])}
    return {"predictions": records(served.lane.signature, results, rows)}


def _tensor_form(served: Served, results: list[Array]) -> dict[str, Any]:
    """What MLflow makes of a dictionary of arrays."""
    if _is_plain(served, results):
        return {"predictions": json_of(results[0])}
    names = served.lane.signature.output_names
    return {"predictions": {name: json_of(array) for name, array in zip(names, results, strict=True)}}


def _is_plain(served: Served, results: list[Array]) -> bool:
    """MLflow's ONNX models answer with named outputs; others with one output give the bare array."""
    return len(results) == 1 and not served.model.platform.startswith("onnx")


def _known(signature: Signature) -> str:
    return ", ".join(repr(spec.name) for spec in signature.inputs)
