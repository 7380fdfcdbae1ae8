"""Schemas of the OpenAPI document: fixed components, and those made of a model's signature."""

from typing import Any

from model_server.models.repository import Served
from model_server.protocols.columns import Column, columns_of
from model_server.protocols.outputs import class_labels
from model_server.tensors import TensorSpec

Schema = dict[str, Any]

_LARGEST_LISTED = 1024
"""Features listed one by one; a flattened picture has more, and no reader."""
_JSON = {"b": "boolean", "i": "integer", "u": "integer", "f": "number", "O": "string"}

TENSOR: Schema = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string"},
        "datatype": {
            "enum": [
                *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
                *("FP16", "FP32", "FP64", "BF16", "BYTES"),
            ]
        },
        "shape": {"type": "array", "items": {"type": "integer", "minimum": -1}},
        "data": {"type": "array"},
        "parameters": {"type": "object"},
    },
}

COMPONENTS: Schema = {
    "schemas": {
        "Error": {
            "type": "object",
            "required": ["error"],
            "properties": {
                "error": {"type": "string", "description": "What was wrong, where, and what was expected."}
            },
        },
        "Tensor": TENSOR,
        "InferRequest": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": {"type": "string"},
                "parameters": {"type": "object"},
                "inputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
                "outputs": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": {"type": "string"}, "parameters": {"type": "object"}},
                    },
                },
            },
        },
        "InferResponse": {
            "type": "object",
            "required": ["model_name", "model_version", "outputs"],
            "properties": {
                "model_name": {"type": "string"},
                "model_version": {"type": "string"},
                "id": {"type": "string"},
                "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
            },
        },
    },
    "responses": {
        "Fault": {
            "description": "The request cannot be answered as asked",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        },
        "ServerFault": {
            "description": "The server or the model failed, is not ready, or ran out of time",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        },
    },
}


def nested(kind: str, shape: tuple[int, ...]) -> Schema:
    """Lists nested like a shape; -1 is any size."""
    schema: Schema = {"type": kind}
    for size in reversed(shape):
        schema = {"type": "array", "items": schema}
        if size >= 0:
            schema |= {"minItems": size, "maxItems": size}
    return schema


def element(spec: TensorSpec) -> Schema:
    """One number, text or truth value of a tensor."""
    schema: Schema = {"type": _JSON[spec.dtype.kind]}
    if spec.dtype.kind in "iu":
        schema |= {"minimum": int(spec.limits[0]), "maximum": int(spec.limits[1])}
    elif spec.dtype.kind == "f":
        schema |= {"minimum": spec.limits[0], "maximum": spec.limits[1]}
    return schema


def tensor_value(spec: TensorSpec, of_row: bool = False) -> Schema:
    """A tensor, or the part of it that belongs to one row, as nested JSON lists."""
    schema = element(spec)
    for size in reversed(spec.shape[1:] if of_row else spec.shape):
        schema = {"type": "array", "items": schema}
        if size >= 0:
            schema |= {"minItems": size, "maxItems": size}
    return schema


def feature(column: Column) -> Schema:
    """The value of one column in one row."""
    if column.kind == "list":
        return tensor_value(column.spec, of_row=True)
    schema = element(column.spec) | {"type": column.kind}
    if column.kind == "boolean":
        schema = {"type": "boolean"}
    return {**schema, "type": [column.kind, "null"]} if column.optional else schema


def row(served: Served) -> Schema | None:
    """An object with a value for every feature; None for a model without rows or with too many features."""
    columns = columns_of(served)
    if not columns.has_rows or len(columns.all) > _LARGEST_LISTED:
        return None
    return {
        "type": "object",
        "properties": {column.name: feature(column) for column in columns.all},
        "required": [column.name for column in columns.all if not column.optional],
        "additionalProperties": False,
    }


def prediction(served: Served) -> Schema:
    """The outputs of one row; numbers may be null, which is NaN."""
    labels = class_labels(served)
    outputs = served.lane.signature.outputs
    return {
        "type": "object",
        "properties": {spec.name: _output(spec, labels) for spec in outputs},
        "required": [spec.name for spec in outputs],
        "additionalProperties": False,
    }


def _output(spec: TensorSpec, labels: list[str]) -> Schema:
    if labels and spec.dtype.kind == "f" and spec.shape[1:] in ((len(labels),), (-1,)):
        return {"description": "A score for each class", "anyOf": [
            {"type": "object", "properties": {label: {"type": ["number", "null"]} for label in labels}},
            {"type": "array"},
        ]}  # fmt: skip
    kind = _JSON[spec.dtype.kind]
    if labels and kind == "integer":
        return {"type": ["string", "integer"], "description": f"One of {', '.join(labels)}"}
    if spec.shape[1:] in ((), (1,)):
        return {"type": [kind, "null"]} if kind == "number" else {"type": kind}
    return {
        "type": ["array", "number", "null"],
        "description": f"{spec.datatype} of shape {list(spec.shape[1:])}",
    }
