"""JSON of inference requests, with long runs of numbers read straight into arrays.

A Python list of a hundred thousand floats costs several milliseconds to build and to convert; simdjson writes
the same numbers into a buffer in a third of the time. Whatever the short way does not read exactly as the
long way would (ragged lists, mixed types, numbers out of range) goes the long way, which has the better
messages.
"""

import asyncio
import math
import re
from collections.abc import Generator, Iterable
from typing import Any

import numpy as np
import orjson

from model_server.tensors import Array

try:
    import simdjson
except ImportError:  # no wheel for this platform
    simdjson = None  # type: ignore[assignment]

BIG_BYTES = 1_000_000
"""Bodies from here on are read in pieces: as a whole, 16 MB stop the event loop for 50 to 100 ms."""

_WORTH_IT_BYTES = 2048
_PIECE_BYTES = 1 << 17
"""About half a millisecond of work."""
_DATA = re.compile(rb'"data"\s*:\s*\[(\s*\[)?')
_NUMBERS_AND_SPACE = b"0123456789eE+-. \t\r\n"
_BUFFER_TYPES = {"F": ("d", np.float64), "I": ("i", np.int64), "U": ("u", np.uint64)}
"""First letter of an OIP datatype -> simdjson's name of the widest type, and numpy's."""

_NOT_THE_SHORT_WAY = (ValueError, TypeError, RuntimeError, KeyError, AttributeError, IndexError)
_Tensors = list[tuple[dict[str, Any], list[Array]]]
"""Tensors whose `data` is still to be joined, with its parts."""

_parser = simdjson.Parser() if simdjson is not None else None


def loads_request(body: bytes) -> Any:
    """Parse a request; `inputs[*].data` may come as a flat numpy array of the widest type of its kind.

    Raises orjson.JSONDecodeError. For the event loop's thread only: the parser is shared.
    """
    if _parser is not None and len(body) >= _WORTH_IT_BYTES:
        try:
            return _loads_with_arrays(body)
        except _NOT_THE_SHORT_WAY:
            pass
    return orjson.loads(body)


async def loads_big_request(body: bytes) -> tuple[Any, _Tensors]:
    """Parse a request, giving way to others after each piece of a long run of numbers.

    A thread would not do: parsers hold the interpreter's lock, and the event loop would wait for it as long.
    Returns the document, and the tensors whose `data` is still to be joined, with its parts.
    Raises orjson.JSONDecodeError.
    """
    if _parser is not None:
        reading = _read(body)
        try:
            while True:
                next(reading)
                await asyncio.sleep(0)
        except StopIteration as done:
            document, tensors = done.value
            return document, tensors
        except _NOT_THE_SHORT_WAY:
            pass
    return loads_request(body), []


def _read(body: bytes) -> Generator[None, None, tuple[Any, _Tensors]]:
    """Read long runs of numbers by themselves, and the rest without them; yield after each piece."""
    rest: list[bytes] = []
    runs: dict[str, tuple[int, int, bool]] = {}
    at = 0
    # A quote inside of a text is escaped: these bytes are always a member's name.
    for match in _DATA.finditer(body):
        if match.start() < at:
            continue
        start, nested = body.index(b"[", match.start()), match[1] is not None
        end = _end_of_nested(body, start) if nested else body.index(b"]", start) + 1
        if end - start < _WORTH_IT_BYTES:
            continue
        if not nested and body.find(b"[", start + 1, end) >= 0:
            # To look for the end of each of many such would take hours.
            raise ValueError("numbers, then lists")
        # A text of the client's that looks like this can only mix up the client's own numbers.
        name = f"\0{start}:{end}"
        runs[name] = (start, end, nested)
        rest += [body[at:start], orjson.dumps(name)]
        at = end
    if not runs:
        raise ValueError("no long run of numbers")
    document = orjson.loads(b"".join((*rest, body[at:])))
    tensors: _Tensors = []
    for tensor in document["inputs"]:
        data = tensor.get("data")
        if type(data) is str and data in runs:
            start, end, nested = runs.pop(data)
            parts, frame = yield from _numbers(body, start, end, tensor["datatype"])
            if nested and not _frames(frame, tensor["shape"], sum(map(len, parts))):
                raise ValueError("not nested as the shape says")
            tensors.append((tensor, parts))
    if runs:
        raise ValueError("data elsewhere than in inputs")
    return document, tensors


def _end_of_nested(body: bytes, start: int) -> int:
    """Past the last bracket before the next text or the end of the object: lists of numbers hold neither."""
    quote = body.find(b'"', start) % (len(body) + 1)  # the end, where there is none
    brace = body.find(b"}", start, quote)
    return body.rindex(b"]", start, quote if brace < 0 else brace) + 1


def _numbers(
    body: bytes, at: int, end: int, datatype: str
) -> Generator[None, None, tuple[list[Array], list[bytes]]]:
    """The numbers of `body[at:end]` in order, in parts; and its brackets and commas."""
    assert _parser is not None
    code, dtype = _BUFFER_TYPES[datatype[0]]
    parts: list[Array] = []
    frame: list[bytes] = []
    depth = 0
    while at < end:
        comma = body.find(b",", at + _PIECE_BYTES, end)
        stop = end if comma < 0 else comma
        piece = body[at:stop]
        opened = b"[" * depth
        depth += piece.count(b"[") - piece.count(b"]")
        part: Any = _parser.parse(b"%b%b%b" % (opened, piece, b"]" * depth))
        values = np.frombuffer(part.as_buffer(of_type=code), dtype=dtype)
        del part  # the parser is shared, and others have their turn now
        if not len(values):
            raise ValueError("a comma without a number")
        parts.append(values)
        frame.append(piece.translate(None, _NUMBERS_AND_SPACE))
        at = stop + 1
        yield
    return parts, frame


def _frames(frame: Iterable[bytes], shape: list[int], numbers: int) -> bool:
    """Whether these brackets and commas are those of lists of this shape."""
    if math.prod(shape) != numbers:
        return False
    expected = b""
    for size in reversed(shape):
        expected = b"[%b]" % b",".join([expected] * size)
    return b",".join(frame) == expected


def _loads_with_arrays(body: bytes) -> dict[str, Any]:
    assert _parser is not None
    root: Any = _parser.parse(body)
    document = {name: _plain(root[name]) for name in root if name != "inputs"}
    inputs = root["inputs"]
    lists = 1 + 2 * len(inputs) + ("outputs" in document)
    if body.count(b"[") != lists:
        # Short nested data is read as fast as a whole.
        raise ValueError("nested data, or brackets in a text")
    document["inputs"] = [_tensor(tensor) for tensor in inputs]
    return document


def _tensor(tensor: Any) -> dict[str, Any]:
    plain = {name: _plain(tensor[name]) for name in tensor if name != "data"}
    code, dtype = _BUFFER_TYPES[plain["datatype"][0]]
    data: Array = np.frombuffer(tensor["data"].as_buffer(of_type=code), dtype=dtype)
    return {**plain, "data": data}


def _plain(value: Any) -> Any:
    if isinstance(value, simdjson.Object):
        return value.as_dict()
    return value.as_list() if isinstance(value, simdjson.Array) else value
