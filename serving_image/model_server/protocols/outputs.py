"""A model's outputs as rows: scalars where a row has one value, class names where they are known."""

from typing import Any

import numpy as np

from model_server.models.repository import Served
from model_server.protocols.nested import json_of, rows_of
from model_server.tensors import Array, Signature

_MATRIX = 2


def class_labels(served: Served) -> list[str]:
    """Names of the model's classes by index: from the settings, else `class_labels` in MLflow's metadata."""
    if served.lane.settings.class_labels:
        return served.lane.settings.class_labels
    metadata = (served.artifact.mlmodel or {}).get("metadata")
    labels = metadata.get("class_labels") if isinstance(metadata, dict) else None
    return [str(label) for label in labels] if isinstance(labels, list) else []


def records(
    signature: Signature, results: list[Array], rows: int, labels: list[str] | None = None
) -> list[dict[str, Any]]:
    """One object a row, of every output by name; an output without these rows is repeated whole."""
    columns = [_column(array, rows, labels or []) for array in results]
    names = signature.output_names
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _column(array: Array, rows: int, labels: list[str]) -> list[Any]:
    if not array.shape or array.shape[0] != rows:
        return [json_of(array)] * rows
    if array.ndim == _MATRIX and array.shape[1] == 1:
        array = array.reshape(rows)
    if labels and array.dtype.kind == "f" and array.ndim == _MATRIX and array.shape[1] == len(labels):
        return [dict(zip(labels, row, strict=True)) for row in rows_of(array)]
    if labels and array.dtype.kind in "iu" and array.ndim == 1:
        return [labels[index] if 0 <= index < len(labels) else index for index in array.tolist()]
    return rows_of(array)


def scores(results: list[Array], rows: int) -> Array | None:
    """The output that holds a score for each class of each row, if exactly one output looks like it."""
    found = [a for a in results if a.ndim == _MATRIX and a.dtype.kind == "f" and a.shape[0] == rows]
    wide = [array for array in found if array.shape[1] > 1]
    return wide[0] if len(wide) == 1 else None


def single_number(results: list[Array], rows: int) -> Array | None:
    """The output that holds one number for each row, if exactly one output does."""
    found = [a for a in results if a.dtype.kind in "fiu" and a.shape[:1] == (rows,) and a.size == rows]
    return np.ascontiguousarray(found[0].reshape(rows)) if len(found) == 1 else None
