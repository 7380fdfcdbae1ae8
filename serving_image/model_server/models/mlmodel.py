"""What MLflow says about a model in its MLmodel file: signature and input example."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from model_server.errors import LoadFailed
from model_server.models.artifact import Artifact
from model_server.tensors import NUMPY_TYPES, Array, Signature, TensorSpec

COLUMN_DATATYPES = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
    "binary": "BYTES",
    "datetime": "BYTES",
}
"""Type of an MLflow column -> OIP datatype. Times are ISO 8601 text."""

_TENSOR_DATATYPES = {str(dtype): name for name, dtype in NUMPY_TYPES.items() if name not in ("BF16", "BYTES")}
_TEXT = ("object", "str", "bytes")


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    type: str
    """MLflow's name, such as "double"."""


@dataclass(frozen=True)
class Schema:
    """Inputs or outputs: columns or tensors, not both."""

    columns: tuple[Column, ...] = ()
    tensors: tuple[TensorSpec, ...] = ()
    """The name is "" where MLflow has none."""


def read_schema(artifact: Artifact, side: str) -> Schema | None:
    """The signature's "inputs" or "outputs"; None without one. Raises LoadFailed."""
    signature = (artifact.mlmodel or {}).get("signature") or {}
    text = signature.get(side)
    if not text:
        return None
    where = f"{artifact.uri}: MLmodel: signature.{side}"
    try:
        items = orjson.loads(text)
        if items and items[0]["type"] == "tensor":
            return Schema(tensors=tuple(_tensor(item, where) for item in items))
        return Schema(columns=tuple(_column(item, index, where) for index, item in enumerate(items)))
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise LoadFailed(f"{where} cannot be read: {error!r}") from error


def check_signature(artifact: Artifact, signature: Signature) -> None:
    """Raise LoadFailed if the MLmodel's inputs are not those of the model's own file.

    Whoever follows the registry's signature would otherwise get errors, or wrong answers, from every request.
    """
    schema = read_schema(artifact, "inputs")
    if schema is None:
        return
    where = f"{artifact.uri}: the signature in MLmodel does not fit the model's file:"
    for spec in schema.tensors:
        own = signature.inputs_by_name.get(spec.name)
        if own is None and not spec.name and len(signature.inputs) == 1:
            own = signature.inputs[0]
        if own is None:
            raise LoadFailed(f"{where} it has input {spec.name!r}, the file has {_names(signature)}")
        if spec.datatype != own.datatype:
            raise LoadFailed(
                f"{where} input {own.name!r} is {spec.datatype} in one, {own.datatype} in the other"
            )
        if not _shapes_fit(spec.shape, own.shape):
            raise LoadFailed(
                f"{where} input {own.name!r} is {list(spec.shape)} in one, {list(own.shape)} in the other"
            )
    if schema.columns:
        _check_columns(schema.columns, signature, where)


def read_example(artifact: Artifact, signature: Signature) -> dict[str, Array] | None:
    """The input example as this model's inputs; None if there is none or it does not fit."""
    info = (artifact.mlmodel or {}).get("saved_input_example_info") or {}
    name = info.get("serving_input_path") or info.get("artifact_path")
    if not name or name not in artifact.digests:
        return None
    try:
        document = orjson.loads((artifact.root / name).read_bytes())
        return _example_inputs(document, signature)
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError, IndexError):
        return None


def _tensor(item: dict[str, Any], where: str) -> TensorSpec:
    spec, name = item["tensor-spec"], str(item.get("name") or "")
    dtype = str(spec["dtype"])
    datatype = "BYTES" if dtype.startswith(_TEXT) else _TENSOR_DATATYPES.get(dtype)
    if datatype is None:
        raise LoadFailed(f"{where}: {name!r} is {dtype}, which is not a datatype of the protocol")
    return TensorSpec(name, datatype, tuple(int(size) for size in spec["shape"]))


def _column(item: dict[str, Any], index: int, where: str) -> Column:
    name, kind = str(item.get("name") or index), str(item["type"])
    if kind not in COLUMN_DATATYPES:
        raise LoadFailed(f"{where}: column {name!r} is {kind}, which has no tensor form")
    return Column(name, kind)


def _check_columns(columns: tuple[Column, ...], signature: Signature, where: str) -> None:
    """Columns are either the inputs themselves or, in their order, the second dimension of the only input."""
    if {column.name for column in columns} == set(signature.inputs_by_name):
        return
    if len(signature.inputs) != 1:
        names = ", ".join(repr(column.name) for column in columns)
        raise LoadFailed(f"{where} it has columns {names}, the file has {_names(signature)}")
    shape = signature.inputs[0].shape
    if len(shape) != 2 or shape[1] not in (-1, len(columns)):
        raise LoadFailed(
            f"{where} it has {len(columns)} columns, "
            f"the file's input {signature.inputs[0].name!r} is {list(shape)}"
        )


def _names(signature: Signature) -> str:
    return ", ".join(repr(name) for name in signature.inputs_by_name) or "no inputs"


def _shapes_fit(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return len(one) == len(other) and all(a == b or -1 in (a, b) for a, b in zip(one, other, strict=True))


def _example_inputs(document: Any, signature: Signature) -> dict[str, Array]:
    """Read `{"inputs": …}`, `{"dataframe_split": …}` or the older forms of an input example."""
    specs = signature.inputs
    if isinstance(document, dict):
        document = document.get("inputs", document.get("dataframe_split", document))
    if isinstance(document, dict) and "columns" in document:
        rows = document["data"]
        if len(specs) > 1 or specs[0].name in document["columns"]:
            at = [document["columns"].index(spec.name) for spec in specs]
            columns = [[row[i] for row in rows] for i in at]
            return {spec.name: _as_tensor(values, spec) for spec, values in zip(specs, columns, strict=True)}
        document = rows
    if isinstance(document, dict):
        return {spec.name: _as_tensor(document[spec.name], spec) for spec in specs}
    (spec,) = specs
    return {spec.name: _as_tensor(document, spec)}


def _as_tensor(values: Any, spec: TensorSpec) -> Array:
    array = np.array(values)
    if spec.dtype.kind == "O":
        text = np.empty(array.shape, dtype=np.object_)
        text.ravel()[:] = [str(value).encode() for value in array.ravel()]
        array = text
    if array.ndim == 1 and len(spec.shape) == 2:
        array = array.reshape(-1, spec.shape[1] if spec.shape[1] > 0 else 1)
    if not _shapes_fit(array.shape, spec.shape):
        raise ValueError(f"shape {array.shape}")
    return array.astype(spec.dtype)
