"""Answers for whoever compares versions: kept while somebody takes them, and for nobody else.

Which calls are kept is told by their request ids, so two servers that get copies of one request keep both
answers or neither. A model that nobody asks about pays nothing.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any
from zlib import crc32

import numpy as np

from model_server.engine.call import Call
from model_server.engine.single_flight import Attempt
from model_server.errors import ServerError
from model_server.models.repository import Served
from model_server.tensors import Array, to_json

KEPT_SECONDS = 60.0
"""How long after the last taker answers are still kept."""
MAX_ANSWERS = 2000
"""How many wait to be taken; the oldest go first."""
MAX_BYTES = 64 * 1024
"""Of one answer's outputs; larger ones are told without them."""
MAX_TOTAL_BYTES = 16 * 2**20
"""Of all outputs that wait to be taken."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A call that is over. The arrays are shared with others who read."""

    request_id: str
    part: str
    version: str
    seconds: float
    error: str
    names: tuple[str, ...]
    results: tuple[Array, ...]
    datatypes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """For the taker; outputs in the form of the Open Inference Protocol."""
        told: dict[str, Any] = {
            "id": self.request_id,
            "version": self.version,
            "ms": round(self.seconds * 1000, 3),
        }
        if self.part:
            told["slice"] = self.part
        if self.error:
            return {**told, "error": self.error}
        outputs = [
            {
                "name": name,
                "datatype": datatype,
                "shape": list(array.shape),
                "data": to_json(_from_bits(array) if datatype == "BF16" else array),
            }
            for name, array, datatype in zip(self.names, self.results, self.datatypes, strict=True)
        ]
        return {**told, "outputs": outputs}


def _from_bits(array: Array) -> Array:
    """The numbers of a BF16 tensor, of which numpy knows only the bits."""
    return (array.astype(np.uint32) << 16).view(np.float32)


class Tap:
    """The answers of one model."""

    def __init__(self, way: Attempt, close: Callable[[], None]) -> None:
        """`way`: what its calls go through; `close` takes the tap off again."""
        self._way, self._close = way, close
        self._answers: deque[Answer] = deque(maxlen=MAX_ANSWERS)
        self._share = 0
        self._slice_header = b""
        self._until = 0.0
        self._bytes = 0

    def take(self, share: float, slice_header: str) -> list[Answer]:
        """What was kept since the last time; from now on `share` of the calls is."""
        self._share, self._slice_header = round(share * 2**32), slice_header.lower().encode()
        self._until = monotonic() + KEPT_SECONDS
        taken = list(self._answers)
        self._answers.clear()
        self._bytes = 0
        return taken

    def submit(self, served: Served, call: Call) -> None:
        """Start a call its usual way, and keep its answer if it is one of those that are wanted."""
        caller = call.caller
        if monotonic() > self._until:
            self._close()
        elif caller is not None and caller.request_id and crc32(caller.request_id.encode()) < self._share:
            self._watch(served, call)
            return
        self._way(served, call)

    def _watch(self, served: Served, call: Call) -> None:
        answer = call.on_done

        def answer_and_keep(done: Call) -> None:
            answer(done)
            self._keep(served, done, done.error)

        call.on_done = answer_and_keep
        try:
            self._way(served, call)
        except ServerError as error:
            self._keep(served, call, error)
            raise

    def _keep(self, served: Served, call: Call, error: ServerError | None) -> None:
        caller = call.caller
        assert caller is not None
        signature = served.lane.signature
        datatypes = {spec.name: spec.datatype for spec in signature.outputs}
        results = () if error is not None else tuple(call.results)
        size = sum(array.nbytes for array in results)
        if size > MAX_BYTES or self._bytes + size > MAX_TOTAL_BYTES:
            results, size = (), 0
        self._bytes += size
        names = tuple(call.outputs) if results else ()
        self._answers.append(
            Answer(
                caller.request_id,
                caller.headers.get(self._slice_header, b"").decode("latin-1")[:64],
                served.version,
                monotonic() - call.received,
                "" if error is None else error.kind,
                names,
                tuple(array.copy() for array in results),  # a view would hold its whole batch
                tuple(datatypes.get(name, "") for name in names),
            )
        )
