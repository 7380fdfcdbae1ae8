"""One inference on its way through the engine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Protocol
from urllib.parse import quote

from model_server.errors import ServerError
from model_server.tensors import Array


class Caller(Protocol):
    """The request behind a call: an HTTP exchange or an RPC. What the engine sees of a protocol."""

    trace_id: str
    """For logs; set where the server traces."""

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """The request's headers or metadata, names in lower case."""

    @property
    def request_id(self) -> str:
        """The caller's own id of the request, or nothing."""

    def add_header(self, name: bytes, value: bytes | Callable[[], bytes]) -> None:
        """Have a header sent with the answer, whatever it is; a function is called when it is sent."""


def log_fields(caller: Caller) -> dict[str, str]:
    """What log lines about a request carry: request_id, and trace_id where there is one."""
    trace_id = caller.trace_id
    if not trace_id and b"traceparent" in caller.headers:
        # version-traceid-parentid-flags; joined in the logs even where this server makes no spans.
        parts = caller.headers[b"traceparent"].decode("latin-1").split("-")
        trace_id = parts[1][:32] if len(parts) > 1 else ""
    fields = {"request_id": caller.request_id}
    return {**fields, "trace_id": trace_id} if trace_id else fields


class Holder(Protocol):
    """Who has a call in hand, and lets it go when nobody waits any more."""

    def forget(self, call: "Call") -> None:
        """The call was cancelled; Call.cancel tells."""


@dataclass(frozen=True, slots=True)
class Degraded:
    """What answered in the place of the model that was asked."""

    rung: str
    """The step of the ladder: model, previous-version, cached or static."""
    reason: str
    """Why the model itself did not answer: the `kind` of its error."""
    model: str
    version: str
    """Who computed the answer; of a static one, who should have."""
    age_seconds: float | None = None
    """Of a cached answer."""

    def parameters(self) -> dict[str, str | float]:
        """The form of the Open Inference Protocol's response parameters."""
        said: dict[str, str | float] = {"degraded": self.rung, "degraded_reason": self.reason}
        return said if self.age_seconds is None else {**said, "degraded_age": round(self.age_seconds, 1)}

    def header(self) -> bytes:
        """The value of X-Degraded."""
        value = f"{self.rung}; reason={self.reason}; by={quote(self.model)}/{quote(self.version)}"
        return (value if self.age_seconds is None else f"{value}; age={self.age_seconds:.1f}").encode()


_NO_RESULTS: list[Array] = []


class Call:
    """Inputs, who waits for the outputs, and when what happened (seconds of the monotonic clock)."""

    __slots__ = (
        "batch_rows",
        "caller",
        "cancelled",
        "deadline",
        "degraded",
        "error",
        "finished",
        "inputs",
        "lane",
        "on_done",
        "outputs",
        "priority",
        "queued",
        "received",
        "results",
        "rows",
        "started",
    )

    def __init__(
        self,
        inputs: Mapping[str, Array],
        outputs: tuple[str, ...],
        on_done: Callable[["Call"], None],
        *,
        received: float | None = None,
        deadline: float | None = None,
        priority: int = 0,
        caller: Caller | None = None,
    ) -> None:
        """Describe an inference; `on_done` is called once, on the event loop, unless it is cancelled.

        `caller` is the request to answer; without it, nothing can be said in headers, and no trace joined.
        """
        self.inputs = inputs
        self.outputs = outputs
        self.on_done = on_done
        self.received = monotonic() if received is None else received
        self.deadline = deadline
        self.priority = priority
        """0 is customary; lower numbers run first."""
        self.caller = caller
        self.cancelled = False
        self.degraded: Degraded | None = None
        """Set when another than the model that was asked gave the results."""
        self.lane: Holder | None = None
        self.rows = 0
        """Rows along the first dimension, when it can share a run; else 0."""
        self.queued = 0.0
        self.started = 0.0
        self.finished = 0.0
        self.batch_rows = 0
        """Rows of the run that answered it."""
        self.results = _NO_RESULTS
        """Of the outputs, in their order; replaced, never added to."""
        self.error: ServerError | None = None

    def cancel(self) -> None:
        """Nobody waits any more: it is not run if it has not started, and `on_done` is not called."""
        if not self.cancelled:
            self.cancelled = True
            if self.lane is not None:
                self.lane.forget(self)
