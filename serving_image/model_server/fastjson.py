"""JSON of inference requests, with long runs of numbers read straight into arrays.

A Python list of a hundred thousand floats costs several milliseconds to build and to convert; simdjson writes
the same numbers into a buffer in a third of the time. Whatever the short way does not read exactly as the
long way would (nested data, mixed types, numbers out of range) goes the long way, which has the better
messages.
"""

from typing import Any

import numpy as np
import orjson

from model_server.tensors import Array

try:
    import simdjson
except ImportError:  # no wheel for this platform
    simdjson = None  # type: ignore[assignment]

_WORTH_IT_BYTES = 2048
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
