"""The one way from a protocol to a model: what every protocol calls, and where cross-cutting steps attach.

    protocol ─> observers, trace ─> Guard (ladder, cache, breaker) ─> Lane

Each step exists only where the settings ask for it: without any, `submit` is a look-up and the lane.
"""

import asyncio
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from model_server.engine.budget import HEADER as BUDGET
from model_server.engine.budget import budget_header
from model_server.engine.call import Call, Caller
from model_server.engine.guard import Guard
from model_server.engine.single_flight import Attempt
from model_server.errors import SettingsError
from model_server.models.repository import Repository, Served
from model_server.settings import Settings
from model_server.telemetry.metrics import Metrics
from model_server.tensors import Array

if TYPE_CHECKING:
    from model_server.engine.observers import Observers
    from model_server.engine.taps import Answer, Tap
    from model_server.telemetry.tracing import Tracing


class InferenceService:
    """Takes calls for models by name and version."""

    def __init__(
        self, repository: Repository, settings: Settings | None = None, metrics: Metrics | None = None
    ) -> None:
        """Without settings: no steps at all. Raises SettingsError."""
        self.repository = repository
        settings = settings or Settings()
        metrics = metrics or Metrics()
        self._guards = {
            model.name: Guard(model, repository, self._stand_in, metrics)
            for model in settings.models
            if Guard.wanted(model)
        }
        self._ways: dict[str, Attempt] = {name: guard.submit for name, guard in self._guards.items()}
        """What a model's calls go through; models that are not here go straight to their lanes."""
        self._tracing: Tracing | None = None
        self._observers: Observers | None = None
        self._taps: dict[str, Tap] = {}
        # Imported only where they are used: a server that needs neither starts without their weight.
        if settings.tracing.enabled:
            from model_server.telemetry import tracing

            self._tracing = tracing.Tracing()
            for model in settings.models:
                self._ways[model.name] = partial(self._tracing.submit, self._ways.get(model.name, _straight))
        if settings.observers or settings.predictions:
            from model_server.engine import observers

            self._observers = observers.Observers(settings.observers, metrics, settings.predictions)
            for model in settings.models:
                if self._observers.watches(model.name):
                    way = self._ways.get(model.name, _straight)
                    self._ways[model.name] = partial(self._observers.submit, way)
        repository.on_change.append(self._changed)

    def submit(self, served: Served, call: Call) -> None:
        """Start a call; `call.on_done` gets the outcome, perhaps before this returns.

        Raises QueueFull, NotReady, DeadlineExceeded, or what the last rung of the model's ladder raised.
        """
        caller = call.caller
        if caller is not None and BUDGET in caller.headers:
            caller.add_header(BUDGET, partial(budget_header, call, served.lane.settings))
        way = self._ways.get(served.name)
        if way is None:
            served.lane.submit(call)
        else:
            way(served, call)

    async def infer(
        self,
        served: Served,
        inputs: Mapping[str, Array],
        outputs: tuple[str, ...] | None = None,
        *,
        deadline: float | None = None,
        priority: int = 0,
        caller: Caller | None = None,
    ) -> Call:
        """Run a call and return it finished; for protocols written with coroutines.

        `deadline` is in seconds of the monotonic clock. A cancelled task cancels the call.
        Raises ServerError.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def finish(_: Call) -> None:
            if not done.done():
                done.set_result(None)

        names = served.lane.signature.output_names if outputs is None else outputs
        call = Call(inputs, names, finish, deadline=deadline, priority=priority, caller=caller)
        self.submit(served, call)
        try:
            await done
        except asyncio.CancelledError:
            call.cancel()
            raise
        if call.error is not None:
            raise call.error
        return call

    def notes(self, only: Served | None = None) -> list[str]:
        """What readiness should tell of versions that are ready and yet not well."""
        notes: list[str] = []
        for name, guard in self._guards.items():
            for served in self.repository.entry(name).versions.values():
                state = "closed" if only not in (None, served) else guard.breaker_state(served)
                if state != "closed":
                    notes.append(f"model {name!r} version {served.version}: the circuit breaker is {state}")
        return notes

    def take_answers(self, name: str, share: float, slice_header: str) -> "list[Answer]":
        """A model's answers since the last time; `share` of its calls is kept for the next one.

        Only while somebody takes them: a minute after the last time its calls go their usual way again.
        """
        tap = self._taps.get(name)
        if tap is None:
            from model_server.engine.taps import Tap  # only where it is used

            usual = self._ways.get(name)

            def close() -> None:
                if self._taps.pop(name, None) is not None:
                    if usual is None:
                        del self._ways[name]
                    else:
                        self._ways[name] = usual

            tap = self._taps[name] = Tap(usual or _straight, close)
            self._ways[name] = tap.submit
        return tap.take(share, slice_header)

    def close(self) -> None:
        """Hand over what observers and the trace exporter still hold. Blocks, for a few seconds at most."""
        if self._observers is not None:
            self._observers.close()
        if self._tracing is not None:
            self._tracing.close()

    def _stand_in(self, served: Served, call: Call) -> None:
        """Run a version in another's place: behind its own breaker, but not down its own ladder."""
        guard = self._guards.get(served.name)
        if guard is None:
            served.lane.submit(call)
        else:
            guard.run(served, call)

    def _changed(self, name: str) -> None:
        guard = self._guards.get(name)
        if guard is not None:
            guard.changed()


def check_steps(settings: Settings) -> None:
    """Whether what the settings ask for is installed. Raises SettingsError."""
    if settings.observers:
        from model_server.engine.observers import find_factory

        for observer in settings.observers:
            find_factory(observer)
    if settings.tracing.enabled:
        try:
            import_module("model_server.telemetry.tracing")
        except ImportError as error:
            raise SettingsError(
                f"tracing: {error}; install the extra: pip install 'model-server[otel]'"
            ) from error


def _straight(served: Served, call: Call) -> None:
    served.lane.submit(call)
