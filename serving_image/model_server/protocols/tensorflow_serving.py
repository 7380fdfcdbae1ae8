"""TensorFlow Serving's REST interface: status, metadata, predict, classify, regress.

Every model has one signature, `serving_default`. Version labels are the aliases that models come from. NaN
and Infinity, which TensorFlow Serving writes although they are not JSON, are null here.
"""

from functools import partial
from typing import Any

from model_server.engine.service import InferenceService
from model_server.errors import InvalidRequest, ModelFailed, NotFound, NotReady
from model_server.http.exchange import Exchange
from model_server.http.router import Router
from model_server.models.repository import Served
from model_server.protocols.columns import columns_of
from model_server.protocols.common import answer, errors_counted, json_body, member
from model_server.protocols.nested import json_of, rows_of, tensor_from_nested
from model_server.protocols.outputs import class_labels, scores, single_number
from model_server.tensors import Array, Signature, TensorSpec, named

SIGNATURE_NAME = "serving_default"

DATATYPES = {
    "BOOL": "DT_BOOL",
    "UINT8": "DT_UINT8",
    "UINT16": "DT_UINT16",
    "UINT32": "DT_UINT32",
    "UINT64": "DT_UINT64",
    "INT8": "DT_INT8",
    "INT16": "DT_INT16",
    "INT32": "DT_INT32",
    "INT64": "DT_INT64",
    "FP16": "DT_HALF",
    "FP32": "DT_FLOAT",
    "FP64": "DT_DOUBLE",
    "BF16": "DT_BFLOAT16",
    "BYTES": "DT_STRING",
}
_STATES = {"READY": "AVAILABLE", "LOADING": "LOADING", "UNLOADING": "UNLOADING", "UNAVAILABLE": "END"}


class TensorFlowServing:
    """The routes under /v1/models."""

    def __init__(self, service: InferenceService) -> None:
        self._service = service
        self._repository = service.repository

    def add_routes(self, router: Router) -> None:
        """Put them on the router."""
        verbs = {"predict": self.predict, "classify": self.classify, "regress": self.regress}
        router.add("GET", "/v1/models/{model}", self.status)
        router.add("GET", "/v1/models/{model}/metadata", self.metadata)
        for verb, handler in verbs.items():
            router.add("POST", f"/v1/models/{{model}}:{verb}", handler)
        router.add("GET", "/v1/models/{model}/versions/{version}", self.status)
        router.add("GET", "/v1/models/{model}/versions/{version}/metadata", self.metadata)
        router.add("GET", "/v1/models/{model}/labels/{label}", self.label_status)
        router.add("GET", "/v1/models/{model}/labels/{label}/metadata", self.label_metadata)
        for verb, handler in verbs.items():
            router.add("POST", f"/v1/models/{{model}}/versions/{{version}}:{verb}", handler)
            by_label = partial(self._with_label, handler)
            by_label.__doc__ = handler.__doc__
            router.add("POST", f"/v1/models/{{model}}/labels/{{label}}:{verb}", by_label)

    def status(self, exchange: Exchange, model: str, version: str = "") -> None:
        """Versions of a model and their states."""
        entry = self._repository.entry(model)
        try:
            served = self._repository.get(model, version)
        except NotReady:
            rows = [_version_status(version or "0", _STATES.get(entry.state, "END"), entry.reason)]
        else:
            versions = [served.version] if version else sorted(entry.versions)
            rows = [_version_status(known, "AVAILABLE", "") for known in versions]
        exchange.respond_json(200, {"model_version_status": rows})

    def label_status(self, exchange: Exchange, model: str, label: str) -> None:
        """State of the version with this label."""
        self.status(exchange, model, self._labelled(model, label))

    def metadata(self, exchange: Exchange, model: str, version: str = "") -> None:
        """Signature of a model: its inputs and outputs."""
        served = self._repository.get(model, version)
        signature = served.lane.signature
        definition = {
            "inputs": {spec.name: _tensor_info(spec) for spec in signature.inputs},
            "outputs": {spec.name: _tensor_info(spec) for spec in signature.outputs},
            "method_name": "tensorflow/serving/predict",
        }
        exchange.respond_json(
            200,
            {
                "model_spec": {"name": model, "signature_name": "", "version": served.version},
                "metadata": {"signature_def": {"signature_def": {SIGNATURE_NAME: definition}}},
            },
        )

    def label_metadata(self, exchange: Exchange, model: str, label: str) -> None:
        """Signature of the version with this label."""
        self.metadata(exchange, model, self._labelled(model, label))

    def predict(self, exchange: Exchange, model: str, version: str = "") -> None:
        """Run the model on rows (`instances`) or on whole tensors (`inputs`)."""
        served = self._repository.get(model, version)
        with errors_counted(served):
            document = _document(exchange, ("instances", "inputs"))
            signature = served.lane.signature
            if ("instances" in document) == ("inputs" in document):
                raise InvalidRequest("expected exactly one of 'instances' (rows) and 'inputs' (tensors)")
            if "inputs" in document:
                inputs = _column_inputs(document["inputs"], signature)
                form = partial(_column_form, signature)
            else:
                inputs, rows = _row_inputs(document["instances"], signature)
                form = partial(_row_form, signature, rows)
            answer(self._service, exchange, served, inputs, form)

    def classify(self, exchange: Exchange, model: str, version: str = "") -> None:
        """Score the classes for each example: `[[label, score], …]` a row."""
        served = self._repository.get(model, version)
        with errors_counted(served):
            signature = served.lane.signature
            if not any(_may_be_scores(spec) for spec in signature.outputs):
                raise InvalidRequest(
                    f"model {model!r} cannot classify: it has no output with a score for each class; "
                    "use :predict"
                )
            inputs, rows = _examples(exchange, served)
            answer(self._service, exchange, served, inputs, partial(_classes, class_labels(served), rows))

    def regress(self, exchange: Exchange, model: str, version: str = "") -> None:
        """One number for each example."""
        served = self._repository.get(model, version)
        with errors_counted(served):
            if not any(_may_be_number(spec) for spec in served.lane.signature.outputs):
                raise InvalidRequest(
                    f"model {model!r} cannot regress: it has no output with one number a row; use :predict"
                )
            inputs, rows = _examples(exchange, served)
            answer(self._service, exchange, served, inputs, partial(_numbers, rows))

    def _with_label(self, handler: Any, exchange: Exchange, model: str, label: str) -> None:
        handler(exchange, model, self._labelled(model, label))

    def _labelled(self, model: str, label: str) -> str:
        """The version that a label means: the alias in the model's source."""
        entry = self._repository.entry(model)
        _, _, alias = entry.settings.source.partition("@")
        if not entry.settings.source.startswith("models:") or alias != label:
            known = f"it has {alias!r}" if alias else "it has none"
            raise NotFound(f"model {model!r} has no label {label!r:.100} here; {known}")
        return self._repository.get(model).version


def _document(exchange: Exchange, data: tuple[str, ...]) -> dict[str, Any]:
    document = json_body(exchange)
    if type(document) is not dict:
        raise InvalidRequest(f"the body is {named(document)}, expected an object with {' or '.join(data)}")
    name = member(document, "signature_name", str, "")
    if name not in ("", SIGNATURE_NAME):
        raise InvalidRequest(f"signature_name: got {name!r:.100}, expected {SIGNATURE_NAME!r}")
    return document


def _column_inputs(value: object, signature: Signature) -> dict[str, Array]:
    """Whole tensors: by name, or the only one."""
    if type(value) is dict and not (value.keys() == {"b64"} and "b64" not in signature.inputs_by_name):
        _check_names(value, signature, "inputs")
        return {
            spec.name: tensor_from_nested(value[spec.name], spec, f"inputs.{spec.name}")
            for spec in signature.inputs
        }
    if len(signature.inputs) != 1:
        raise InvalidRequest(f"inputs: got {named(value)}, expected an object with {_names(signature)}")
    return {signature.inputs[0].name: tensor_from_nested(value, signature.inputs[0], "inputs")}


def _row_inputs(instances: object, signature: Signature) -> tuple[dict[str, Array], int]:
    """Rows: each the value of the only input, or an object with a value for each input."""
    if type(instances) is not list or not instances:
        raise InvalidRequest(
            f"instances: got {'an empty list' if instances == [] else named(instances)}, "
            "expected a list of rows"
        )
    by_name = [type(row) is dict and row.keys() != {"b64"} for row in instances]
    if not any(by_name) and len(signature.inputs) == 1:
        (spec,) = signature.inputs
        return {spec.name: tensor_from_nested(instances, spec, "instances")}, len(instances)
    columns: dict[str, list[Any]] = {spec.name: [] for spec in signature.inputs}
    for at, row in enumerate(instances):
        if type(row) is not dict:
            raise InvalidRequest(
                f"instances[{at}]: got {named(row)}, expected an object with {_names(signature)}"
            )
        _check_names(row, signature, f"instances[{at}]")
        for name, value in row.items():
            columns[name].append(value)
    return {
        spec.name: tensor_from_nested(columns[spec.name], spec, f"instances[*].{spec.name}")
        for spec in signature.inputs
    }, len(instances)


def _check_names(given: dict[str, Any], signature: Signature, where: str) -> None:
    if given.keys() == signature.inputs_by_name.keys():
        return
    missing = [repr(name) for name in signature.inputs_by_name if name not in given]
    unknown = [f"{name!r:.100}" for name in given if name not in signature.inputs_by_name]
    wrong = f"missing {', '.join(missing)}" if missing else f"{unknown[0]} is not an input"
    raise InvalidRequest(f"{where}: {wrong}; expected {_names(signature)}")


def _names(signature: Signature) -> str:
    return ", ".join(repr(spec.name) for spec in signature.inputs)


def _column_form(signature: Signature, results: list[Array]) -> dict[str, Any]:
    if len(results) == 1:
        return {"outputs": json_of(results[0])}
    return {"outputs": {n: json_of(a) for n, a in zip(signature.output_names, results, strict=True)}}


def _row_form(signature: Signature, rows: int, results: list[Array]) -> dict[str, Any]:
    for name, array in zip(signature.output_names, results, strict=True):
        if array.shape[:1] != (rows,):
            raise InvalidRequest(
                f"output {name!r} has the shape {list(array.shape)} for {rows} instances; "
                "this model cannot answer by rows, send 'inputs' instead"
            )
    if len(results) == 1:
        return {"predictions": rows_of(results[0])}
    columns = [rows_of(array) for array in results]
    rows_by_name = [dict(zip(signature.output_names, row, strict=True)) for row in zip(*columns, strict=True)]
    return {"predictions": rows_by_name}


def _examples(exchange: Exchange, served: Served) -> tuple[dict[str, Array], int]:
    """Examples are rows of named features; `context` holds features that all of them share."""
    document = _document(exchange, ("examples",))
    context = member(document, "context", dict, {})
    examples = member(document, "examples", list)
    if not examples:
        raise InvalidRequest("examples: expected a list of objects with a value for each feature")
    columns = columns_of(served)
    columns.check_has_rows()
    rows = []
    for at, example in enumerate(examples):
        if type(example) is not dict:
            raise InvalidRequest(f"examples[{at}]: got {named(example)}, expected an object of features")
        # TensorFlow's features are lists, of one value mostly.
        flat = {
            name: value[0] if type(value) is list and len(value) == 1 else value
            for name, value in {**context, **example}.items()
        }
        rows.append(columns.row_of(flat, f"examples[{at}]"))
    inputs = columns.tensors(rows, lambda row, name: f"examples[{row}][{name!r}]")
    return inputs, len(rows)


def _classes(labels: list[str], rows: int, results: list[Array]) -> dict[str, Any]:
    found = scores(results, rows)
    if found is None:
        raise ModelFailed("the outputs hold no scores, or more than one set of them")
    names = labels if len(labels) == found.shape[1] else [str(index) for index in range(found.shape[1])]
    return {"results": [[list(pair) for pair in zip(names, row, strict=True)] for row in rows_of(found)]}


def _numbers(rows: int, results: list[Array]) -> dict[str, Any]:
    found = single_number(results, rows)
    if found is None:
        raise ModelFailed("the outputs hold no single number for each row, or more than one")
    return {"results": found}


def _may_be_scores(spec: TensorSpec) -> bool:
    return spec.dtype.kind == "f" and len(spec.shape) == 2 and spec.shape[1] not in (0, 1)


def _may_be_number(spec: TensorSpec) -> bool:
    return (
        spec.dtype.kind in "fiu" and len(spec.shape) >= 1 and all(size in (1, -1) for size in spec.shape[1:])
    )


def _version_status(version: str, state: str, reason: str) -> dict[str, Any]:
    code = "OK" if not reason else "UNKNOWN"
    return {"version": version, "state": state, "status": {"error_code": code, "error_message": reason}}


def _tensor_info(spec: TensorSpec) -> dict[str, Any]:
    dimensions = [{"size": str(size), "name": ""} for size in spec.shape]
    return {
        "dtype": DATATYPES[spec.datatype],
        "tensor_shape": {"dim": dimensions, "unknown_rank": False},
        "name": f"{spec.name}:0",
    }
