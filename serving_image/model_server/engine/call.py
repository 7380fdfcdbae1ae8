"""One inference on its way through the engine."""

from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING

from model_server.errors import ServerError
from model_server.tensors import Array

if TYPE_CHECKING:
    from model_server.engine.lane import Lane


class Call:
    """Inputs, who waits for the outputs, and when what happened (seconds of the monotonic clock)."""

    __slots__ = (
        "batch_rows",
        "cancelled",
        "deadline",
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
    ) -> None:
        """Describe an inference; `on_done` is called once, on the event loop, unless it is cancelled."""
        self.inputs = inputs
        self.outputs = outputs
        self.on_done = on_done
        self.received = monotonic() if received is None else received
        self.deadline = deadline
        self.priority = priority
        """0 is customary; lower numbers run first."""
        self.cancelled = False
        self.lane: Lane | None = None
        self.rows = 0
        """Rows along the first dimension, when it can share a run; else 0."""
        self.queued = 0.0
        self.started = 0.0
        self.finished = 0.0
        self.batch_rows = 0
        """Rows of the run that answered it."""
        self.results: list[Array] = []
        self.error: ServerError | None = None

    def cancel(self) -> None:
        """Nobody waits any more: it is not run if it has not started, and `on_done` is not called."""
        if not self.cancelled:
            self.cancelled = True
            if self.lane is not None:
                self.lane.forget(self)
