"""Tensors as the Open Inference Protocol describes them, and as numpy holds them.

BYTES tensors are object arrays of `bytes`. BF16 has no numpy type: it is held as its 16 bits (`uint16`).
Every fault raises InvalidRequest and says what is wrong, where, and what was expected.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_server.errors import InvalidRequest

Array = NDArray[Any]

NUMPY_TYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BF16": np.dtype(np.uint16),
    "BYTES": np.dtype(np.object_),
}
"""OIP datatype -> the numpy type that holds it."""

_JSON_TYPES: dict[str, tuple[frozenset[type], str]] = {
    "b": (frozenset({bool}), "true or false"),
    "i": (frozenset({int}), "integers"),
    "u": (frozenset({int}), "integers of 0 and up"),
    "f": (frozenset({int, float}), "numbers"),
    "O": (frozenset({str}), "strings"),
}
"""numpy kind -> the Python types that JSON data of it may have, and their name for people."""

_STANDARD_CODES = {"l": "q", "L": "Q"}
"""Where the codes of numpy's 64-bit integers and of `struct`'s standard form differ."""

_MAX_ELEMENTS = 2**40


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    """-1 is a dimension of any size."""
    dtype: np.dtype[Any] = field(init=False)
    limits: tuple[float, float] = field(init=False)
    """Least and greatest number that the datatype holds."""

    def __post_init__(self) -> None:
        """Look the numpy type up once, not with each request."""
        dtype = NUMPY_TYPES[self.datatype]
        object.__setattr__(self, "dtype", dtype)
        limits: tuple[float, float] = (0, 0)
        if dtype.kind == "f":
            limits = (float(np.finfo(dtype).min), float(np.finfo(dtype).max))
        elif dtype.kind in "iu":
            limits = (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
        object.__setattr__(self, "limits", limits)

    def check(self, datatype: object, shape: object, where: str) -> tuple[int, ...]:
        """Compare what a client declared with this spec; return the shape.

        Raises InvalidRequest that starts with `where`.
        """
        if datatype == self.datatype and type(shape) is list and len(shape) == len(self.shape):
            for size, expected in zip(shape, self.shape):  # noqa: B905 - their lengths are equal; this is hot
                if type(size) is not int or (size != expected and expected != -1) or size <= 0:
                    break
            else:
                return tuple(shape)
        if datatype != self.datatype:
            raise InvalidRequest(f"{where}.datatype: got {datatype!r:.100}, expected {self.datatype!r}")
        if type(shape) is not list or any(type(size) is not int or size < 0 for size in shape):
            raise InvalidRequest(
                f"{where}.shape: expected a list of integers of 0 and up, got {shape!r:.100}"
            )
        self.check_shape(shape, where)
        return tuple(shape)

    def check_shape(self, shape: Sequence[int], where: str) -> None:
        """Raise InvalidRequest if a tensor of this shape does not fit."""
        if len(shape) != len(self.shape):
            raise InvalidRequest(
                f"{where}.shape: {list(shape)!r:.100} has {len(shape)} dimensions, "
                f"expected {len(self.shape)}: {list(self.shape)}"
            )
        for axis, (size, expected) in enumerate(zip(shape, self.shape, strict=True)):
            if size != expected and expected != -1:
                raise InvalidRequest(
                    f"{where}.shape: {list(shape)} does not fit {list(self.shape)}: "
                    f"dimension {axis} is {size}, expected {expected}"
                )
        # Any other shape is held to the data that came with it; an empty one would claim any size for free.
        if 0 in shape and math.prod(size for size in shape if size) > _MAX_ELEMENTS:
            raise InvalidRequest(f"{where}.shape: {list(shape)!r:.100} is too large")

    def covers(self, other: "TensorSpec") -> bool:
        """Whether every tensor that fits `other` fits this: sizes are equal, or free here."""
        return (
            self.datatype == other.datatype
            and len(self.shape) == len(other.shape)
            and all(size in (-1, there) for size, there in zip(self.shape, other.shape, strict=True))
        )

    def metadata(self) -> dict[str, Any]:
        """The form of the protocol's model metadata."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True, slots=True)
class BinaryLayout:
    """What the JSON part of a request says whose tensors all follow it as binary data."""

    body_bytes: int
    inputs: tuple[tuple[str, np.dtype[Any], int, int, tuple[int, ...]], ...]
    """Name, type, number of elements, first byte in the body and shape."""
    outputs: tuple[str, ...]
    binary_outputs: frozenset[str]
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a model, in the model's order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    inputs_by_name: dict[str, TensorSpec] = field(init=False, repr=False, compare=False)
    outputs_by_name: dict[str, TensorSpec] = field(init=False, repr=False, compare=False)
    output_names: tuple[str, ...] = field(init=False, repr=False, compare=False)
    layouts: dict[bytes, BinaryLayout] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Of requests with binary tensors, by their JSON part; the codec fills it."""

    def __post_init__(self) -> None:
        """Index by name once."""
        object.__setattr__(self, "inputs_by_name", {spec.name: spec for spec in self.inputs})
        object.__setattr__(self, "outputs_by_name", {spec.name: spec for spec in self.outputs})
        object.__setattr__(self, "output_names", tuple(spec.name for spec in self.outputs))


def from_json(data: object, spec: TensorSpec, shape: tuple[int, ...], where: str) -> Array:
    """Make an array of JSON data, flat in row-major order or nested like `shape`.

    Nothing is converted silently: a string is not a number, 1.5 is not an integer, null is nothing, and a
    number that the datatype cannot hold is refused.
    """
    if isinstance(data, np.ndarray):
        return _from_widest(data, spec, shape, where)
    if not isinstance(data, list):
        data = [data]
    flat: list[Any] = _unnest(data, shape, where) if data and type(data[0]) is list else data
    count = math.prod(shape)
    if len(flat) != count:
        raise InvalidRequest(f"{where}.data: {len(flat)} elements, expected {count} for shape {list(shape)}")
    dtype = spec.dtype
    if spec.datatype == "BF16":
        raise InvalidRequest(f"{where}.data: BF16 has no JSON form; send it as binary data")
    allowed, described = _JSON_TYPES[dtype.kind]
    found = set(map(type, flat))
    if not found <= allowed:
        wrong = next(iter(found - allowed))
        at = next(index for index, element in enumerate(flat) if type(element) is wrong)
        raise InvalidRequest(
            f"{where}.data: element {at} is {named(flat[at])}, expected {described} for {spec.datatype}"
        )
    if dtype.kind == "O":
        text = np.empty(count, dtype=dtype)
        text[:] = [element.encode() for element in flat]
        return text.reshape(shape)
    array: Array = np.empty(shape, dtype)
    try:
        # Checks each number's range on the way, and takes a third of the time of numpy's conversion.
        _packer(dtype.char, count).pack_into(array.data, 0, *flat)
    except (struct.error, OverflowError):
        raise _out_of_range(flat, spec, where) from None
    return array


@lru_cache(maxsize=256)
def _packer(code: str, count: int) -> struct.Struct:
    # In the standard form, unlike the native one, a number that float32 cannot hold is an error.
    return struct.Struct(f"<{count}{_STANDARD_CODES.get(code, code)}")


def from_bytes(raw: bytes | memoryview, spec: TensorSpec, shape: tuple[int, ...], where: str) -> Array:
    """Make an array of little-endian binary data; BYTES elements have a 4-byte length before them."""
    count = math.prod(shape)
    dtype = spec.dtype
    if dtype.kind == "O":
        return _strings_from_bytes(bytes(raw), count, where).reshape(shape)
    if len(raw) != count * dtype.itemsize:
        raise InvalidRequest(
            f"{where}: {len(raw)} bytes of binary data, expected {count * dtype.itemsize} "
            f"for {spec.datatype} of shape {list(shape)}"
        )
    array: Array = np.frombuffer(raw, dtype=dtype)
    return array.reshape(shape)


def to_bytes(array: Array) -> bytes:
    """Little-endian binary data in row-major order."""
    if array.dtype.kind != "O":
        return array.tobytes()
    parts: list[bytes] = []
    for element in array.ravel():
        raw = element if isinstance(element, bytes) else str(element).encode()
        parts.append(len(raw).to_bytes(4, "little"))
        parts.append(raw)
    return b"".join(parts)


def to_json(array: Array) -> Any:
    """The elements in row-major order, as orjson takes them (OPT_SERIALIZE_NUMPY)."""
    if array.dtype.kind != "O":
        return np.ascontiguousarray(array).reshape(-1)
    return [e.decode("utf-8", "replace") if isinstance(e, bytes) else str(e) for e in array.ravel()]


def _from_widest(data: Array, spec: TensorSpec, shape: tuple[int, ...], where: str) -> Array:
    """Narrow an array of `fastjson`."""
    count = math.prod(shape)
    if data.size != count:
        raise InvalidRequest(f"{where}.data: {data.size} elements, expected {count} for shape {list(shape)}")
    if data.dtype == spec.dtype or not count:
        return data.astype(spec.dtype, copy=False).reshape(shape)
    if spec.dtype.kind == "f":
        with np.errstate(over="ignore"):
            narrow = data.astype(spec.dtype)
        fits = bool(np.isfinite(narrow).all())
    else:
        lowest, highest = spec.limits
        fits = bool(lowest <= data.min() and data.max() <= highest)
        narrow = data.astype(spec.dtype)
    if not fits:
        raise _out_of_range(data.tolist(), spec, where)
    return narrow.reshape(shape)


def _out_of_range(flat: list[Any], spec: TensorSpec, where: str) -> InvalidRequest:
    lowest, highest = spec.limits
    at = next(index for index, value in enumerate(flat) if not lowest <= value <= highest)
    return InvalidRequest(f"{where}.data: element {at} is {flat[at]!r:.60}, out of range for {spec.datatype}")


def _unnest(data: list[Any], shape: tuple[int, ...], where: str) -> list[Any]:
    level: list[Any] = [data]
    for axis, size in enumerate(shape):
        for part in level:
            if type(part) is not list or len(part) != size:
                got = f"{len(part)} elements" if type(part) is list else named(part)
                raise InvalidRequest(
                    f"{where}.data: nested data has {got} along dimension {axis}, "
                    f"expected a list of {size} for shape {list(shape)}"
                )
        level = list(chain.from_iterable(level))
    return level


def _strings_from_bytes(raw: bytes, count: int, where: str) -> Array:
    elements: list[bytes] = []
    at = 0
    while at < len(raw):
        end = at + 4 + int.from_bytes(raw[at : at + 4], "little")
        if at + 4 > len(raw) or end > len(raw):
            raise InvalidRequest(
                f"{where}: BYTES element {len(elements)} runs past the end of the binary data"
            )
        elements.append(raw[at + 4 : end])
        at = end
    if len(elements) != count:
        raise InvalidRequest(f"{where}: {len(elements)} BYTES elements, expected {count}")
    array = np.empty(count, dtype=np.object_)
    array[:] = elements
    return array


def named(value: object) -> str:
    """A JSON value as an error message shows it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return f"the string {value!r:.60}" if isinstance(value, str) else f"{value!r:.60}"
