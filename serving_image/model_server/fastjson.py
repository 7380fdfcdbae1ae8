"""JSON of inference requests, with long runs of numbers read straight into arrays.

A Python list of a hundred thousand floats costs several milliseconds to build and to convert; simdjson writes
the same numbers into a buffer in a third of the time. Whatever the short way does not read exactly as the
long way would (nested data, mixed types, numbers out of range) goes the long way, which has the better
messages.
"""

import asyncio
import re
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
_DATA = re.compile(rb'"data"\s*:\s*\[')
_BUFFER_TYPES = {"F": ("d", np.float64), "I": ("i", np.int64), "U": ("u", np.uint64)}
"""First letter of an OIP datatype -> simdjson's name of the widest type, and numpy's."""

_parser = simdjson.Parser() if simdjson is not None else None


def loads_request(body: bytes) -> Any:
    """Parse a request; `inputs[*].data` may come as a flat numpy array of the widest type of its kind.

    Raises orjson.JSONDecodeError. For the event loop's thread only: the parser is shared.
    """
    if _parser is not None and len(body) >= _WORTH_IT_BYTES:
        try:
            return _loads_with_arrays(body)
        except (ValueError, TypeError, RuntimeError, KeyError, AttributeError, IndexError):
            pass
    return orjson.loads(body)


async def loads_big_request(body: bytes) -> tuple[Any, list[tuple[dict[str, Any], list[Array]]]]:
    """Parse a request, giving way to others after each piece of a long flat run of numbers.

    A thread would not do: parsers hold the interpreter's lock, and the event loop would wait for it as long.
    Returns the document, and the tensors whose `data` is still to be joined, with its parts. Nested data is
    read as a whole. Raises orjson.JSONDecodeError.
    """
    if _parser is not None:
        try:
            return await _loads_pieces(body)
        except (ValueError, TypeError, RuntimeError, KeyError, AttributeError, IndexError):
            pass
    return loads_request(body), []


async def _loads_pieces(body: bytes) -> tuple[Any, list[tuple[dict[str, Any], list[Array]]]]:
    rest: list[bytes] = []
    runs: dict[str, tuple[int, int]] = {}
    at = 0
    # A quote inside of a text is escaped: these bytes are always a member's name.
    for match in _DATA.finditer(body):
        start, end = match.end(), body.index(b"]", match.end())
        if match.start() < at or end - start < _PIECE_BYTES or body.find(b"[", start, end) >= 0:
            continue
        # A text of the client's that looks like this can only mix up the client's own numbers.
        name = f"\0{start}:{end}"
        runs[name] = (start, end)
        rest += [body[at : start - 1], orjson.dumps(name)]
        at = end + 1
    document = loads_request(b"".join((*rest, body[at:])))
    tensors: list[tuple[dict[str, Any], list[Array]]] = []
    for tensor in document["inputs"]:
        data = tensor.get("data")
        if type(data) is str and data in runs:
            tensors.append((tensor, await _numbers(body, *runs.pop(data), tensor["datatype"])))
    if runs:
        raise ValueError("data elsewhere than in inputs")
    return document, tensors


async def _numbers(body: bytes, at: int, end: int, datatype: str) -> list[Array]:
    assert _parser is not None
    code, dtype = _BUFFER_TYPES[datatype[0]]
    parts: list[Array] = []
    while at <= end:
        comma = body.find(b",", at + _PIECE_BYTES, end)
        stop = end if comma < 0 else comma
        part: Any = _parser.parse(b"[%b]" % body[at:stop])
        values = np.frombuffer(part.as_buffer(of_type=code), dtype=dtype)
        del part  # the parser is shared, and others have their turn now
        if not len(values):
            raise ValueError("a comma without a number")
        parts.append(values)
        at = stop + 1
        await asyncio.sleep(0)
    return parts


def _loads_with_arrays(body: bytes) -> dict[str, Any]:
    assert _parser is not None
    root: Any = _parser.parse(body)
    document = {name: _plain(root[name]) for name in root if name != "inputs"}
    inputs = root["inputs"]
    lists = 1 + 2 * len(inputs) + ("outputs" in document)
    if body.count(b"[") != lists:
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
