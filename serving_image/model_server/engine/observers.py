"""Where payload capture and drift statistics attach: they see calls after the answer has left.

An observer is any object with `observe` and `close`, made by a factory that the settings name: an entry point
of the group `model_server.observers`, or `package.module:factory`. It is called in a thread of its own, one
call at a time, and may block: what its bounded queue cannot hold is dropped and counted, never waited for.
"""

import importlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from queue import SimpleQueue
from random import random
from time import monotonic, time
from typing import Any, Protocol

from model_server.engine.call import Call, Degraded
from model_server.engine.single_flight import Attempt
from model_server.errors import ServerError, SettingsError
from model_server.models.repository import Served
from model_server.settings import ObserverSettings, PredictionSettings
from model_server.telemetry.logs import log
from model_server.telemetry.metrics import Metrics
from model_server.telemetry.predictions import Predictions
from model_server.tensors import Array

_GROUP = "model_server.observers"
_NICENESS = 10
_CLOSE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Observation:
    """A call that is over. The arrays are shared with others who read: nobody writes to them."""

    model: str
    version: str
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    """Empty if the call failed."""
    error: ServerError | None
    degraded: Degraded | None
    received: float
    """Seconds since 1970."""
    seconds: float
    """From the request's last byte to the answer."""
    request_id: str
    trace_id: str


class Observer(Protocol):
    """What a factory makes."""

    def observe(self, observation: Observation) -> None:
        """Look at a call. May block; an exception is logged and counted, and ends nothing."""

    def close(self) -> None:
        """The server stops; called after the last `observe`, in the same thread."""


Factory = Callable[[dict[str, Any]], Observer]
"""Called with the `options` of the settings, in each worker."""


def find_factory(settings: ObserverSettings) -> Factory:
    """What the settings name. Raises SettingsError."""
    if ":" not in settings.use:
        found = list(entry_points(group=_GROUP, name=settings.use))
        if not found:
            known = ", ".join(sorted(entry_points(group=_GROUP).names)) or "none"
            raise SettingsError(
                f"observers: no entry point {settings.use!r} in the group {_GROUP}; installed: {known}. "
                "A factory can be named as package.module:factory too"
            )
        module, _, name = found[0].value.partition(":")
    else:
        module, _, name = settings.use.partition(":")
    try:
        factory: Factory = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"observers: {settings.use!r} cannot be imported: {error}") from error
    return factory


class Observers:
    """All observers of this process."""

    def __init__(
        self,
        settings: Sequence[ObserverSettings],
        metrics: Metrics,
        predictions: PredictionSettings | None = None,
    ) -> None:
        """Raises SettingsError."""
        self._queues = [_Queue(one, metrics, find_factory(one)(dict(one.options))) for one in settings]
        if predictions is not None:
            counting = ObserverSettings(use="predictions", sample=predictions.sample)
            self._queues.append(_Queue(counting, metrics, Predictions(metrics)))

    def watches(self, model: str) -> bool:
        """Whether any observer wants calls of this model."""
        return any(queue.watches(model) for queue in self._queues)

    def submit(self, way: Attempt, served: Served, call: Call) -> None:
        """Start a call its usual way, and show it to the observers that want this one when it is over."""
        wanted = [queue for queue in self._queues if queue.watches(served.name) and random() < queue.sample]  # noqa: S311 - a sample, no secret
        if not wanted:
            way(served, call)
            return
        answer = call.on_done

        def answer_and_show(done: Call) -> None:
            answer(done)
            _show(wanted, served, done, done.error)

        call.on_done = answer_and_show
        try:
            way(served, call)
        except ServerError as error:
            _show(wanted, served, call, error)
            raise

    def close(self) -> None:
        """Let every observer finish what is queued. Blocks, up to a limit."""
        for queue in self._queues:
            queue.end()
        until = monotonic() + _CLOSE_SECONDS
        for queue in self._queues:
            queue.join(max(0.0, until - monotonic()))


class _Queue:
    """One observer: its queue and its thread.

    The event loop only writes `_put…`, the thread only `_taken…`: no lock is ever waited for.
    """

    def __init__(self, settings: ObserverSettings, metrics: Metrics, observer: Observer) -> None:
        self.sample = settings.sample
        self._settings = settings
        self._models = frozenset(settings.models)
        self._observer = observer
        self._queue: SimpleQueue[tuple[Observation, int] | None] = SimpleQueue()
        self._put = self._put_bytes = self._taken = self._taken_bytes = self._failures = 0
        outcomes = {
            outcome: metrics.counter(
                "model_server_observations_total",
                "Calls shown to an observer, by outcome: queued, dropped for lack of room, failed in it.",
                {"observer": settings.use, "outcome": outcome},
            )
            for outcome in ("queued", "dropped", "failed")
        }
        self._queued, self._dropped, self._failed = outcomes.values()
        self._thread = threading.Thread(target=self._work, name=f"observe-{settings.use}", daemon=True)
        self._thread.start()

    def watches(self, model: str) -> bool:
        return not self._models or model in self._models

    def offer(self, observation: Observation, size: int) -> None:
        """Queue it if there is room."""
        waiting = self._put - self._taken
        waiting_bytes = self._put_bytes - self._taken_bytes
        if waiting >= self._settings.queue_size or waiting_bytes + size > self._settings.queue_bytes:
            self._dropped.add()
            return
        self._put += 1
        self._put_bytes += size
        self._queued.add()
        self._queue.put((observation, size))

    def end(self) -> None:
        self._queue.put(None)

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)
        if self._thread.is_alive():
            left = self._put - self._taken
            log.warning("an observer was cut off", extra={"observer": self._settings.use, "left": left})

    def _work(self) -> None:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
        except OSError:
            log.debug("thread priority cannot be lowered")
        while (item := self._queue.get()) is not None:
            observation, size = item
            try:
                self._observer.observe(observation)
            except Exception as error:  # noqa: BLE001 - whatever an observer does, requests are served
                self._note_failure(error)
            self._taken += 1
            self._taken_bytes += size
        try:
            self._observer.close()
        except Exception as error:  # noqa: BLE001 - as above
            self._note_failure(error)

    def _note_failure(self, error: Exception) -> None:
        self._failed.add()
        self._failures += 1
        # One broken observer at a thousand calls a second must not drown the log.
        if self._failures == 1:
            log.error(
                "an observer failed; its further failures are only counted",
                exc_info=error,
                extra={"observer": self._settings.use},
            )


def _show(queues: list[_Queue], served: Served, call: Call, error: ServerError | None) -> None:
    caller = call.caller
    now = monotonic()
    outputs = {} if error is not None else dict(zip(call.outputs, call.results, strict=True))
    observation = Observation(
        served.name,
        served.version,
        call.inputs,
        outputs,
        error,
        call.degraded,
        time() - (now - call.received),
        now - call.received,
        "" if caller is None else caller.request_id,
        "" if caller is None else caller.trace_id,
    )
    size = sum(array.nbytes for array in (*call.inputs.values(), *outputs.values()))
    for queue in queues:
        queue.offer(observation, size)
