"""A model as a table of named, typed columns, whatever its tensors look like.

- One input of N numbers a row: N columns, named by the model's MLflow signature, else `x[0]`, `x[1]`, …
- Several inputs, or one of another shape: a column an input; it holds a scalar a row, or a nested list.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from operator import itemgetter
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import orjson

from model_server.engine.lane import Lane
from model_server.errors import InvalidRequest
from model_server.models.repository import Served
from model_server.protocols.nested import array_of, tensor_from_nested
from model_server.tensors import Array, Signature, TensorSpec, named

Where = Callable[[int, str], str]
"""Names a cell in errors, by row and column."""

_KINDS = {"b": "boolean", "i": "integer", "u": "integer", "f": "number", "O": "string"}
_NARROWER = {"integer": "integer", "long": "integer", "boolean": "boolean"}
"""MLflow types that say more than the tensor of floats that they are put in."""
_TYPES: dict[str, tuple[frozenset[type], str]] = {
    "number": (frozenset({int, float}), "a number"),
    "integer": (frozenset({int}), "an integer"),
    "boolean": (frozenset({bool}), "true or false"),
    "string": (frozenset({str}), "a string"),
}
_SHOWN_NAMES = 8


@dataclass(frozen=True, slots=True)
class Column:
    """One named value of a row."""

    name: str
    kind: str
    """JSON type: number, integer, boolean, string; or list for a nested list."""
    spec: TensorSpec
    """The input that it is, or is a part of."""
    optional: bool = False
    """It may be null or missing, which the model sees as NaN."""


class Columns:
    """The columns of one model version."""

    def __init__(self, signature: Signature, described: Sequence[Mapping[str, Any]] = ()) -> None:
        """`described`: the inputs of the model's MLflow signature, if it has one."""
        self.signature = signature
        self.packed = _is_packed(signature, described)
        """All columns lie side by side in the one input."""
        specs = signature.inputs
        names = [str(column["name"]) for column in described if "name" in column]
        if self.packed:
            width = specs[0].shape[1] if specs[0].shape[1] != -1 else len(names)
            fits = len(names) == width and len(set(names)) == width and "tensor-spec" not in described[0]
            self.named = fits
            """The names are the model's own, not made up of positions."""
            if not fits:
                names = [f"{specs[0].name}[{index}]" for index in range(width)]
            types = described if fits else [{}] * width
            self.all = tuple(
                _column(name, specs[0], type_, packed=True) for name, type_ in zip(names, types, strict=True)
            )
        else:
            self.named = True
            types_by_name = {str(column.get("name")): column for column in described}
            self.all = tuple(_column(spec.name, spec, types_by_name.get(spec.name, {})) for spec in specs)
        self.names = tuple(column.name for column in self.all)
        self._index = {name: index for index, name in enumerate(self.names)}
        self._required = tuple(column for column in self.all if not column.optional)
        self._getter = itemgetter(*self.names) if len(self.names) > 1 else None

    @property
    def has_rows(self) -> bool:
        """Whether a request can be made of rows: every input has a first dimension."""
        return bool(self.all) and all(spec.shape for spec in self.signature.inputs)

    @cached_property
    def _plain(self) -> bool:
        """One input of numbers, without further rules for some columns."""
        return self.packed and all(c.kind == "number" and not c.optional for c in self.all)

    def check_has_rows(self) -> None:
        """Raise InvalidRequest if the model does not take rows."""
        if not self.has_rows:
            raise InvalidRequest(
                "this model has an input without rows; send its tensors to /v2/models/{model}/infer"
            )

    def row_of(self, record: Mapping[str, Any], where: str, ignore_unknown: bool = False) -> Sequence[Any]:
        """The values of a JSON object in the order of the columns; None for a missing optional one.

        Raises InvalidRequest for missing and unknown names, with the nearest known name.
        """
        if len(record) == len(self.names) and self._getter is not None:
            try:
                values: tuple[Any, ...] = self._getter(record)
            except KeyError:
                pass
            else:
                return values
        at = f"{where}: " if where else ""
        unknown = [name for name in record if name not in self._index]
        missing = [column.name for column in self._required if column.name not in record]
        if missing:
            raise InvalidRequest(f"{at}{self._explain_missing(missing, unknown)}")
        if unknown and not ignore_unknown:
            near = difflib.get_close_matches(unknown[0], self.names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"expected {_some(self.names)}"
            raise InvalidRequest(f"{at}{unknown[0]!r:.100} is not a feature of this model; {hint}")
        return [record.get(name) for name in self.names]

    def order_of(self, names: Sequence[str]) -> list[int]:
        """For each column its position among `names`; -1 for a missing optional one. Others are ignored.

        Raises InvalidRequest for a missing one.
        """
        positions = {name: at for at, name in enumerate(names)}
        missing = [column.name for column in self._required if column.name not in positions]
        if missing:
            raise InvalidRequest(self._explain_missing(missing, [n for n in names if n not in self._index]))
        return [positions.get(name, -1) for name in self.names]

    def tensors(
        self, rows: Sequence[Sequence[Any]], where: Where, null_is_nan: bool = False
    ) -> dict[str, Array]:
        """The model's inputs, made of rows whose values are in the order of the columns.

        `null_is_nan`: null stands for a missing number in every column of floats, as in MLflow.
        Raises InvalidRequest that starts with `where` of the first fault.
        """
        specs = self.signature.inputs
        if self.packed:
            return {specs[0].name: self._pack(rows, where, null_is_nan)}
        inputs: dict[str, Array] = {}
        for index, column in enumerate(self.all):
            values = [row[index] for row in rows]
            inputs[column.name] = self._tensor(column, values, where, null_is_nan)
        return inputs

    def _pack(self, rows: Sequence[Sequence[Any]], where: Where, null_is_nan: bool) -> Array:
        spec = self.signature.inputs[0]
        width = len(self.all)
        flat = list(chain.from_iterable(rows))
        clean = set(map(type, flat)) <= {int, float}
        if not clean or not self._plain:
            flat = list(
                chain.from_iterable(self._checked(row, at, where, null_is_nan) for at, row in enumerate(rows))
            )

        def cell(at: int) -> str:
            return where(at // width, self.names[at % width])

        shape = (len(rows), width)
        spec.check_shape(shape, "rows")
        return _numbers(flat, spec, cell).reshape(shape)

    def _checked(self, row: Sequence[Any], at: int, where: Where, null_is_nan: bool) -> list[Any]:
        return [
            _scalar(value, column, at, where, null_is_nan)
            for value, column in zip(row, self.all, strict=True)
        ]

    def _tensor(self, column: Column, values: list[Any], where: Where, null_is_nan: bool) -> Array:
        spec = column.spec
        if column.kind == "list":
            single = TensorSpec(spec.name, spec.datatype, spec.shape[1:])
            parts: list[Array] = []
            for row, value in enumerate(values):
                parts.append(tensor_from_nested(value, single, where(row, column.name)))
                if parts[0].shape != parts[-1].shape:
                    raise InvalidRequest(
                        f"{where(row, column.name)}: the shape is {list(parts[-1].shape)}, "
                        f"in the first row it is {list(parts[0].shape)}"
                    )
            array = np.stack(parts) if parts else np.empty((0, *map(abs, spec.shape[1:])), spec.dtype)
        else:
            checked = [_scalar(value, column, row, where, null_is_nan) for row, value in enumerate(values)]

            def cell(at: int) -> str:
                return where(at, column.name)

            array = _numbers(checked, spec, cell).reshape(len(values), *spec.shape[1:])
        spec.check_shape(array.shape, f"column {column.name!r}")
        return array

    def _explain_missing(self, missing: Sequence[str], unknown: Sequence[str]) -> str:
        near = difflib.get_close_matches(missing[0], unknown, n=1, cutoff=0.5)
        hint = f"; is {near[0]!r} meant to be it?" if near else ""
        return f"missing {_some(missing)}{hint}"


_by_lane: "WeakKeyDictionary[Lane, Columns]" = WeakKeyDictionary()


def columns_of(served: Served) -> Columns:
    """The columns of a model version; worked out once."""
    columns = _by_lane.get(served.lane)
    if columns is None:
        columns = _by_lane[served.lane] = Columns(served.lane.signature, mlflow_inputs(served))
    return columns


def mlflow_inputs(served: Served) -> list[dict[str, Any]]:
    """The inputs of the model's MLflow signature: name, type, required of each; empty without one."""
    signature = (served.artifact.mlmodel or {}).get("signature")
    try:
        inputs = orjson.loads(signature["inputs"])  # type: ignore[index]
    except (TypeError, KeyError, orjson.JSONDecodeError):
        return []
    well_formed = isinstance(inputs, list) and all(isinstance(column, dict) for column in inputs)
    return inputs if well_formed else []


def _is_packed(signature: Signature, described: Sequence[Mapping[str, Any]]) -> bool:
    if len(signature.inputs) != 1:
        return False
    (spec,) = signature.inputs
    if len(spec.shape) != 2 or spec.datatype == "BF16":
        return False
    return spec.shape[1] > 0 or (
        spec.shape[1] == -1
        and len(described) > 0
        and all("name" in c and "tensor-spec" not in c for c in described)
    )


def _column(name: str, spec: TensorSpec, described: Mapping[str, Any], packed: bool = False) -> Column:
    kind = _KINDS[spec.dtype.kind]
    if not packed and spec.shape[1:] not in ((), (1,)):
        return Column(name, "list", spec)
    type_ = described.get("type")
    if kind == "number" and isinstance(type_, str):
        kind = _NARROWER.get(type_, kind)
    optional = described.get("required") is False and spec.dtype.kind == "f"
    return Column(name, kind, spec, optional)


def _scalar(value: Any, column: Column, row: int, where: Where, null_is_nan: bool) -> Any:
    allowed, described = _TYPES[column.kind]
    if type(value) in allowed:
        return value
    if value is None and (column.optional or (null_is_nan and column.spec.dtype.kind == "f")):
        return float("nan")
    if column.kind == "string" and type(value) is dict:
        return value
    raise InvalidRequest(f"{where(row, column.name)}: got {named(value)}, expected {described}")


def _numbers(flat: list[Any], spec: TensorSpec, cell: Callable[[int], str]) -> Array:
    """Like array_of, for values whose types are checked and which may be NaN."""
    if spec.dtype.kind != "f":
        return array_of(flat, spec, cell)
    wide = np.array(flat, dtype=np.float64)
    lowest, highest = spec.limits
    outside = (wide < lowest) | (wide > highest)
    if outside.any():
        at = int(outside.argmax())
        raise InvalidRequest(f"{cell(at)}: {flat[at]!r:.40} is out of range for {spec.datatype}")
    return wide.astype(spec.dtype)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(f"{name!r:.100}" for name in names[:_SHOWN_NAMES])
    return f"{shown} and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else shown
