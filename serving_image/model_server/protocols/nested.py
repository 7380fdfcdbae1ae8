"""Nested JSON lists to tensors, and tensors to what orjson writes as nested lists.

As in `tensors.py`, nothing is converted silently; faults name the element by its JSON path.
"""

import base64
import binascii
from itertools import chain
from typing import Any

import numpy as np

from model_server.errors import InvalidRequest
from model_server.tensors import Array, TensorSpec, named

_ALLOWED: dict[str, tuple[frozenset[type], str]] = {
    "b": (frozenset({bool}), "true or false"),
    "i": (frozenset({int}), "an integer"),
    "u": (frozenset({int}), "an integer of 0 and up"),
    "f": (frozenset({int, float}), "a number"),
    "O": (frozenset({str}), "a string"),
}


def tensor_from_nested(value: object, spec: TensorSpec, where: str) -> Array:
    """Make an array of lists nested like the shape of `spec`; BYTES elements may be `{"b64": …}`.

    Raises InvalidRequest that starts with the JSON path of the fault; `where` is the path of `value`.
    """
    shape, flat = _unnest(value, spec, where)
    spec.check_shape(shape, where)
    if spec.datatype == "BF16":
        raise InvalidRequest(f"{where}: BF16 has no JSON form; send it as binary data of /v2")
    return array_of(flat, spec, lambda at: path_of(where, at, shape)).reshape(shape)


def array_of(flat: list[Any], spec: TensorSpec, where: Any) -> Array:
    """Make a flat array of JSON scalars. `where(index)` names an element in errors. Raises InvalidRequest."""
    kind = spec.dtype.kind
    allowed, described = _ALLOWED[kind]
    if kind == "O":
        flat = [_bytes(element, where, at) for at, element in enumerate(flat)]
        text = np.empty(len(flat), dtype=np.object_)
        text[:] = flat
        return text
    if not set(map(type, flat)) <= allowed:
        at = next(index for index, element in enumerate(flat) if type(element) not in allowed)
        raise InvalidRequest(f"{where(at)}: got {named(flat[at])}, expected {described}")
    if flat and kind != "b":
        lowest, highest = spec.limits
        if not (lowest <= min(flat) and max(flat) <= highest):
            at = next(index for index, element in enumerate(flat) if not lowest <= element <= highest)
            raise InvalidRequest(f"{where(at)}: {flat[at]!r:.40} is out of range for {spec.datatype}")
    return np.array(flat, dtype=spec.dtype)


def path_of(where: str, at: int, shape: tuple[int, ...]) -> str:
    """The JSON path of the element with this flat index; a `[*]` in `where` takes the first index."""
    indices = [f"[{index}]" for index in np.unravel_index(at, shape)] if shape else []
    if indices and "[*]" in where:
        where = where.replace("[*]", indices.pop(0), 1)
    return where + "".join(indices)


def json_of(array: Array) -> Any:
    """The tensor as nested lists for orjson with OPT_SERIALIZE_NUMPY; NaN and infinities become null."""
    if array.dtype.kind == "O":
        return _text(array.tolist())
    if not array.shape and array.dtype.kind != "f":
        return array.item()
    return np.ascontiguousarray(array) if array.shape else array[()]


def rows_of(array: Array) -> list[Any]:
    """One JSON value for each row along the first dimension."""
    if array.dtype.kind == "O":
        rows: list[Any] = _text(array.tolist())
        return rows
    if array.dtype.kind != "f":
        # ONNX Runtime makes `longlong` arrays, whose scalars orjson does not know.
        return list(array.tolist())
    # Floats stay in their own precision: 0.1 as FP32 is written 0.1, not 0.10000000149011612.
    return list(np.ascontiguousarray(array))


def _unnest(value: object, spec: TensorSpec, where: str) -> tuple[tuple[int, ...], list[Any]]:
    """The shape of the lists, to the depth of the spec, and their elements."""
    rank = len(spec.shape)
    level: list[Any] = [value]
    shape: tuple[int, ...] = ()
    for axis in range(rank):
        if not level:
            # Nothing is left to show the size: an empty list fits whatever the model expects.
            return shape + tuple(max(size, 0) for size in spec.shape[axis:]), []
        first = level[0]
        size = len(first) if type(first) is list else -1
        for at, part in enumerate(level):
            if type(part) is not list or len(part) != size:
                got = f"a list of {len(part)}" if type(part) is list else named(part)
                expected = f"a list of {size}" if size >= 0 and at else "a list"
                raise InvalidRequest(
                    f"{path_of(where, at, shape)}: got {got}, expected {expected} "
                    f"(the shape is {list(spec.shape)})"
                )
        shape += (size,)
        level = list(chain.from_iterable(level))
    return shape, level


def _bytes(element: object, where: Any, at: int) -> bytes:
    if type(element) is str:
        return element.encode()
    if type(element) is dict and element.keys() == {"b64"} and type(element["b64"]) is str:
        try:
            return base64.b64decode(element["b64"], validate=True)
        except (binascii.Error, ValueError):
            raise InvalidRequest(f"{where(at)}.b64: got {named(element['b64'])}, expected base64") from None
    raise InvalidRequest(f'{where(at)}: got {named(element)}, expected a string or {{"b64": …}}')


def _text(value: Any) -> Any:
    """Bytes as text where they are UTF-8, else as TensorFlow Serving shows them."""
    if isinstance(value, list):
        return [_text(part) for part in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"b64": base64.b64encode(value).decode()}
    return str(value)
