"""What each route takes and gives: for any model, and for one model by its signature."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from model_server.http.incoming import STREAMED
from model_server.models.repository import Served
from model_server.protocols.columns import columns_of
from model_server.protocols.openapi import schemas
from model_server.protocols.openapi.schemas import Schema
from model_server.tensors import TensorSpec, to_json

JSON = "application/json"
NDJSON = STREAMED.decode()
_OBJECT: Schema = {"type": "object"}
_ANY: Mapping[str, Schema] = {JSON: {}}
_OBJECTS: Mapping[str, Schema] = {JSON: _OBJECT}
_EXAMPLE_ELEMENTS = 10_000
_MODEL_VERSION = ("", "/versions/{version}", "/labels/{label}")


def _header(name: str, what: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": what, "schema": {"type": "string"}}


TIMEOUT = _header("X-Request-Timeout", "Seconds after which the answer is of no use; then 504.")
MODEL_HEADERS = (
    _header("X-Model-Name", "Which model; default: the setting default_model, or the only one."),
    _header("X-Model-Version", "Which version; default: the model's default version."),
)


@dataclass(frozen=True)
class Operation:
    """The body of a request and of its answer, by media type."""

    answer: Mapping[str, Schema] = field(default_factory=lambda: _ANY)
    request: Mapping[str, Schema] | None = None
    request_required: bool = True
    parameters: tuple[dict[str, Any], ...] = ()
    runs: bool = False
    """It needs a model, so it may also fail as a model does."""
    may_be_unready: bool = False
    """503 when the server is not ready."""
    summary: str = ""
    """Default: the first line of the handler's docstring."""
    example: Any = None


def _runs(request: Mapping[str, Schema], answer: Mapping[str, Schema], **more: Any) -> Operation:
    more.setdefault("parameters", (TIMEOUT,))
    return Operation(answer, request, runs=True, **more)


_INFER = _runs(
    {JSON: {"$ref": "#/components/schemas/InferRequest"}},
    {JSON: {"$ref": "#/components/schemas/InferResponse"}, "application/octet-stream": {}},
    parameters=(
        TIMEOUT,
        _header(
            "Inference-Header-Content-Length", "Bytes of JSON before the binary tensors; 0 is a raw body."
        ),
        _header("X-Latency-Budget", "Any value: the answer says in the same header where the time went."),
    ),
)
_ROWS: Schema = {"anyOf": [_OBJECT, {"type": "array", "items": _OBJECT}]}
_PREDICT = _runs({JSON: _ROWS, NDJSON: {"type": "string"}}, {JSON: _OBJECT, NDJSON: {"type": "string"}})
_TF_PREDICT = _runs(
    {
        JSON: {
            "type": "object",
            "properties": {
                "signature_name": {"type": "string"},
                "instances": {"type": "array"},
                "inputs": {},
            },
        }
    },
    {JSON: {"type": "object", "properties": {"predictions": {"type": "array"}, "outputs": {}}}},
)
_EXAMPLES = {
    JSON: {
        "type": "object",
        "required": ["examples"],
        "properties": {
            "signature_name": {"type": "string"},
            "context": _OBJECT,
            "examples": {"type": "array", "items": _OBJECT, "minItems": 1},
        },
    }
}
_RESULTS = {JSON: {"type": "object", "required": ["results"], "properties": {"results": {"type": "array"}}}}
_PROBE = Operation(_OBJECTS, may_be_unready=True)
_FRAME_SPLIT: Schema = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "columns": {"type": "array", "items": {"type": ["string", "integer"]}},
        "index": {"type": "array"},
        "data": {"type": "array", "items": {"type": "array"}},
    },
    "additionalProperties": False,
}


def _invocation(split: Schema, records: Schema, instances: Schema, inputs: Schema) -> Schema:
    forms = {"dataframe_split": split, "dataframe_records": records, "instances": instances, "inputs": inputs}
    return {
        "oneOf": [
            {"type": "object", "required": [form], "properties": {form: schema, "params": _OBJECT}}
            for form, schema in forms.items()
        ]
    }


OPERATIONS: dict[tuple[str, str], Operation] = {
    ("GET", "/metrics"): Operation({"text/plain": {"type": "string"}}),
    ("GET", "/docs"): Operation({"text/html": {"type": "string"}}),
    ("GET", "/openapi.json"): Operation(_OBJECTS),
    ("GET", "/v2"): Operation(_OBJECTS),
    ("GET", "/v2/health/live"): Operation(_OBJECTS),
    ("GET", "/v2/health/ready"): _PROBE,
    ("POST", "/v2/repository/index"): Operation(
        {JSON: {"type": "array", "items": _OBJECT}},
        {JSON: {"type": "object", "properties": {"ready": {"type": "boolean"}}}},
        request_required=False,
    ),
    ("POST", "/v2/repository/models/{model}/load"): Operation(
        _OBJECTS, _OBJECTS, request_required=False, runs=True
    ),
    ("POST", "/v2/repository/models/{model}/unload"): Operation(
        _OBJECTS, _OBJECTS, request_required=False, runs=True
    ),
    ("GET", "/ping"): Operation(_ANY, may_be_unready=True),
    ("GET", "/health"): Operation(_ANY, may_be_unready=True),
    ("GET", "/version"): Operation({"text/plain": {"type": "string"}}),
    ("POST", "/invocations"): _runs(
        {
            JSON: _invocation(_FRAME_SPLIT, {"type": "array", "items": _OBJECT}, {"type": "array"}, {}),
            "text/csv": {"type": "string"},
        },
        {JSON: {"type": "object", "required": ["predictions"]}},
        parameters=(TIMEOUT, *MODEL_HEADERS),
    ),
    ("POST", "/predict"): _runs(
        {JSON: _ROWS, NDJSON: {"type": "string"}},
        {JSON: _OBJECT, NDJSON: {"type": "string"}},
        parameters=(TIMEOUT, *MODEL_HEADERS),
    ),
    ("POST", "/predict/{model}"): _PREDICT,
    ("POST", "/predict/{model}/versions/{version}"): _PREDICT,
}
for _base in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
    OPERATIONS["GET", _base] = Operation(_OBJECTS, runs=True)
    OPERATIONS["GET", f"{_base}/ready"] = Operation(_OBJECTS, runs=True)
    OPERATIONS["POST", f"{_base}/infer"] = _INFER
for _suffix in _MODEL_VERSION:
    _base = f"/v1/models/{{model}}{_suffix}"
    OPERATIONS["GET", _base] = Operation(_OBJECTS, runs=True)
    OPERATIONS["GET", f"{_base}/metadata"] = Operation(_OBJECTS, runs=True)
    OPERATIONS["POST", f"{_base}:predict"] = _TF_PREDICT
    OPERATIONS["POST", f"{_base}:classify"] = _runs(_EXAMPLES, _RESULTS)
    OPERATIONS["POST", f"{_base}:regress"] = _runs(_EXAMPLES, _RESULTS)


def _shape(spec: TensorSpec) -> Schema:
    sizes = [{"const": size} if size >= 0 else {"type": "integer", "minimum": 0} for size in spec.shape]
    # prefixItems must not be empty.
    fixed: Schema = {"prefixItems": sizes} if sizes else {}
    return {"type": "array", **fixed, "minItems": len(sizes), "maxItems": len(sizes)}


def _infer(served: Served) -> Operation:
    tensors = [
        {
            "type": "object",
            "required": ["name", "datatype", "shape", "data"],
            "properties": {
                "name": {"const": spec.name},
                "datatype": {"const": spec.datatype},
                "shape": _shape(spec),
                "data": {
                    "description": "Flat in row-major order, or nested like the shape.",
                    "type": "array",
                    "items": {"anyOf": [schemas.element(spec), {"type": "array"}]},
                },
            },
        }
        for spec in served.lane.signature.inputs
    ]
    request = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "parameters": _OBJECT,
            "inputs": {
                "type": "array",
                "items": {"anyOf": tensors} if tensors else {},
                "minItems": len(tensors),
                "maxItems": len(tensors),
            },
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": {"enum": list(served.lane.signature.output_names)}},
                },
            },
        },
    }
    return _runs(
        {JSON: request},
        _INFER.answer,
        parameters=_INFER.parameters,
        summary=f"Infer with {served.name}",
        example=_tensors(served),
    )


def _tensors(served: Served) -> Any:
    """One row of the example that came with the model, else of zeros; none where JSON has no form for it."""
    tensors: list[dict[str, Any]] = []
    for spec in served.lane.signature.inputs:
        if spec.datatype == "BF16":
            return None
        if served.proof.example is not None:
            array = served.proof.example[spec.name]
            array = array[:1] if spec.shape[:1] == (-1,) else array
        else:
            empty = b"" if spec.datatype == "BYTES" else 0
            array = np.full([1 if size == -1 else size for size in spec.shape], empty, spec.dtype)
        if array.size > _EXAMPLE_ELEMENTS:
            return None
        data = to_json(array)
        tensors.append(
            {
                "name": spec.name,
                "datatype": spec.datatype,
                "shape": list(array.shape),
                "data": data if isinstance(data, list) else data.tolist(),
            }
        )
    return {"inputs": tensors}


def _predict(served: Served) -> Operation | None:
    row = schemas.row(served)
    if row is None:
        return None
    stand_ins = {rung.model for rung in served.lane.settings.fallback.rungs if rung.model}
    about = {
        "model": {"enum": sorted({served.name, *stand_ins})},
        "version": {"type": "string"},
        "degraded": {"type": "string"},
        "degraded_reason": {"type": "string"},
        "degraded_age": {"type": "number"},
    }
    one = schemas.prediction(served)
    answers: Schema = {
        "oneOf": [
            {"type": "object", "required": ["prediction"], "properties": {**about, "prediction": one}},
            {
                "type": "object",
                "required": ["predictions"],
                "properties": {**about, "predictions": {"type": "array", "items": one}},
            },
        ]
    }
    return _runs(
        {JSON: {"anyOf": [row, {"type": "array", "items": row, "minItems": 1}]}, NDJSON: {"type": "string"}},
        {JSON: answers, NDJSON: {"type": "string"}},
        summary=f"Predict with {served.name}",
        example=_example(served),
    )


def _tensorflow(served: Served) -> Operation | None:
    specs = served.lane.signature.inputs
    if not all(spec.shape for spec in specs):
        return None
    named = {
        "type": "object",
        "properties": {spec.name: schemas.tensor_value(spec, of_row=True) for spec in specs},
        "required": [spec.name for spec in specs],
        "additionalProperties": False,
    }
    whole = {
        "type": "object",
        "properties": {spec.name: schemas.tensor_value(spec) for spec in specs},
        "required": [spec.name for spec in specs],
        "additionalProperties": False,
    }
    instance: list[Schema] = [named]
    inputs: list[Schema] = [whole]
    if len(specs) == 1:
        instance.append(schemas.tensor_value(specs[0], of_row=True))
        inputs.append(schemas.tensor_value(specs[0]))
    name = {"signature_name": {"const": "serving_default"}}
    forms = [
        {
            "type": "object",
            "required": ["instances"],
            "properties": {
                **name,
                "instances": {"type": "array", "minItems": 1, "items": {"anyOf": instance}},
            },
        },
        {"type": "object", "required": ["inputs"], "properties": {**name, "inputs": {"anyOf": inputs}}},
    ]
    return _runs({JSON: {"oneOf": forms}}, _TF_PREDICT.answer, summary=f"Predict with {served.name}")


def _example(served: Served) -> Any:
    """A row of zeros, to begin with."""
    values = {"number": 0.0, "integer": 0, "boolean": False, "string": ""}
    columns = columns_of(served).all
    if any(column.kind == "list" for column in columns):
        return None
    return {column.name: values[column.kind] for column in columns}


MODEL_ROUTES: dict[tuple[str, str], Callable[[Served], Operation | None]] = {
    ("POST", "/v2/models/{model}/infer"): _infer,
    ("POST", "/predict/{model}"): _predict,
    ("POST", "/v1/models/{model}:predict"): _tensorflow,
}
"""Routes that appear under each model's name as well, typed by its signature."""
