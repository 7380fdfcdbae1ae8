"""The plain protocol: named features in, named outputs out.

    POST /predict/iris   {"sepal length": 5.1, …}            one row
                         [{"sepal length": 5.1, …}, …]       many rows
                         one JSON object a line (NDJSON)     any number of rows, see ndjson.py

Names are held to the model's: a missing or an unknown feature is an error, with the nearest name. null stands
for a missing number only where the model's signature says that the feature is optional.
"""

from functools import partial
from typing import Any

from model_server.engine.service import InferenceService
from model_server.errors import InvalidRequest
from model_server.http.exchange import Exchange
from model_server.http.router import Router
from model_server.models.repository import Served
from model_server.protocols.columns import columns_of
from model_server.protocols.common import answer, default_model, errors_counted, json_body
from model_server.protocols.outputs import class_labels, records
from model_server.settings import Settings
from model_server.tensors import Array, named


class Predict:
    """The routes under /predict."""

    def __init__(self, service: InferenceService, settings: Settings) -> None:
        self._service = service
        self._repository = service.repository
        self._default_model = settings.default_model
        self._max_line_bytes = settings.http.max_body_bytes

    def add_routes(self, router: Router) -> None:
        """Put them on the router."""
        router.add("POST", "/predict", self.predict_default, streams=True)
        router.add("POST", "/predict/{model}", self.predict, streams=True)
        router.add("POST", "/predict/{model}/versions/{version}", self.predict, streams=True)

    def predict_default(self, exchange: Exchange) -> Any:
        """Predict with the default model, for one row or many."""
        return self._predict(exchange, default_model(self._service, exchange, self._default_model))

    def predict(self, exchange: Exchange, model: str, version: str = "") -> Any:
        """Predict for one row (an object of features) or many (a list of them, or NDJSON)."""
        return self._predict(exchange, self._repository.get(model, version))

    def _predict(self, exchange: Exchange, served: Served) -> Any:
        if exchange.incoming is not None:
            from model_server.protocols.ndjson import RowStream

            return RowStream(self._service, exchange, served, self._max_line_bytes).run()
        with errors_counted(served):
            document = json_body(exchange)
            columns = columns_of(served)
            columns.check_has_rows()
            if type(document) is dict:
                inputs = columns.tensors([columns.row_of(document, "")], _feature)
                answer(self._service, exchange, served, inputs, partial(one_row, served), signed=True)
            elif type(document) is list and document:
                rows = [_row(columns, record, at) for at, record in enumerate(document)]
                inputs = columns.tensors(rows, _feature_of_row)
                form = partial(many_rows, served, len(rows))
                answer(self._service, exchange, served, inputs, form, signed=True)
            else:
                got = "an empty list" if document == [] else named(document)
                raise InvalidRequest(f"the body is {got}, expected an object of features, or a list of them")
        return None


def one_row(served: Served, results: list[Array]) -> dict[str, Any]:
    """The answer for a single object of features."""
    (row,) = records(served.lane.signature, results, 1, class_labels(served))
    return {"model": served.name, "version": served.version, "prediction": row}


def many_rows(served: Served, rows: int, results: list[Array]) -> dict[str, Any]:
    """The answer for a list of them."""
    found = records(served.lane.signature, results, rows, class_labels(served))
    return {"model": served.name, "version": served.version, "predictions": found}


def _row(columns: Any, record: object, at: int) -> Any:
    if type(record) is not dict:
        raise InvalidRequest(f"row {at}: got {named(record)}, expected an object of features")
    return columns.row_of(record, f"row {at}")


def _feature(_: int, name: str) -> str:
    return f"feature {name!r}"


def _feature_of_row(row: int, name: str) -> str:
    return f"row {row}, feature {name!r}"
