"""Answers that a model has given before, bounded in number, bytes and age.

An answer is found again by the version that gave it, the digest of every input (name, type, shape, values)
and the outputs that were asked for. A version that stops serving takes its answers with it. Workers do not
share it.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from time import monotonic

import numpy as np

from model_server.engine.lane import Lane
from model_server.settings import CacheSettings
from model_server.telemetry.metrics import Metrics
from model_server.tensors import Array, to_bytes

Key = tuple[Lane, bytes]
"""The version, as its lane, and what was asked."""

_ENTRY_BYTES = 400
_ARRAY_BYTES = 200
_ELEMENT_BYTES = 60
"""What Python needs around the data, roughly: without it, a million tiny answers would look like nothing."""


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """Results in the order of the outputs that were asked for; read-only."""

    results: list[Array]
    size: int
    """Bytes."""
    stored: float
    """Seconds of the monotonic clock."""


class ResponseCache:
    """Least recently used goes first."""

    def __init__(self, settings: CacheSettings, keep_seconds: float, model: str, metrics: Metrics) -> None:
        """`keep_seconds`: how long answers are of any use, if only to a rung of the ladder."""
        self._settings = settings
        self._keep_seconds = keep_seconds
        self._entries: OrderedDict[Key, CachedAnswer] = OrderedDict()
        self._bytes = 0
        labels = {"model": model}
        self._count = metrics.gauge("model_server_cache_entries", "Answers in the response cache.", labels)
        self._size = metrics.gauge("model_server_cache_bytes", "Bytes of the response cache.", labels)
        self._evicted = metrics.counter(
            "model_server_cache_evicted_total", "Answers that left the cache for lack of room.", labels
        )

    def get(self, key: Key, max_age_seconds: float) -> CachedAnswer | None:
        """The answer, if there is one that is no older."""
        answer = self._entries.get(key)
        if answer is None:
            return None
        age = monotonic() - answer.stored
        if age > self._keep_seconds:
            self._remove(key)
            self._show()
            return None
        if age > max_age_seconds:
            return None
        self._entries.move_to_end(key)
        return answer

    def put(self, key: Key, results: list[Array]) -> None:
        """Keep an answer, at the cost of those that were not used for longest."""
        size = _ENTRY_BYTES + sum(_bytes_of(result) for result in results)
        if key in self._entries:
            self._remove(key)
        if size <= self._settings.max_bytes:
            # A copy: results of a batch are views, each of which would keep the whole batch alive.
            copies = [np.array(result) for result in results]
            for copy in copies:
                copy.flags.writeable = False
            self._entries[key] = CachedAnswer(copies, size, monotonic())
            self._bytes += size
        while self._bytes > self._settings.max_bytes or len(self._entries) > self._settings.max_entries:
            self._remove(next(iter(self._entries)))
            self._evicted.add()
        self._show()

    def keep_only(self, lanes: list[Lane]) -> None:
        """Forget the answers of versions that do not serve any more."""
        for key in [key for key in self._entries if key[0] not in lanes]:
            self._remove(key)
        self._show()

    def _remove(self, key: Key) -> None:
        self._bytes -= self._entries.pop(key).size

    def _show(self) -> None:
        self._count.set(len(self._entries))
        self._size.set(self._bytes)


def digest(inputs: Mapping[str, Array], outputs: tuple[str, ...]) -> bytes:
    """What makes two requests equal. Every part is preceded by its length: no two requests look the same."""
    state = sha256()
    for name in sorted(inputs):
        array = inputs[name]
        head = f"{name!r}{array.dtype.str}{array.shape}".encode()
        state.update(len(head).to_bytes(4, "little"))
        state.update(head)
        if array.dtype.kind == "O":
            state.update(to_bytes(array))
        else:
            state.update(np.ascontiguousarray(array).data)
    state.update(repr(outputs).encode())
    return state.digest()


def _bytes_of(array: Array) -> int:
    if array.dtype.kind != "O":
        return array.nbytes + _ARRAY_BYTES
    return sum(len(element) + _ELEMENT_BYTES for element in array.ravel()) + array.nbytes + _ARRAY_BYTES
