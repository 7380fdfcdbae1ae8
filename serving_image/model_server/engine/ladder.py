"""The degradation ladder of a model: what answers when the model itself does not.

    the model ─(time-out, overload, open breaker, failure)─> rung 1 ─> rung 2 ─> … ─> the model's own error

Rungs are tried in their declared order, each only if time is left; every answer from a rung says so: header
`X-Degraded: <rung>; reason=<kind>; by=<model>/<version>`, `Call.degraded` for the protocols' own ways, metric
`model_server_degraded_total`. What is wrong with the request itself never leads down the ladder.
"""

from time import monotonic

from model_server.engine.call import Call, Degraded
from model_server.engine.previous import previous_version
from model_server.engine.response_cache import ResponseCache, digest
from model_server.engine.single_flight import Attempt
from model_server.engine.static_answer import StaticAnswer
from model_server.errors import (
    BreakerOpen,
    DeadlineExceeded,
    ModelFailed,
    NotReady,
    QueueFull,
    ServerError,
)
from model_server.models.repository import Repository, Served
from model_server.settings import FallbackRung, ModelSettings
from model_server.telemetry.logs import log
from model_server.telemetry.metrics import Counter, Metrics
from model_server.tensors import Array, Signature

_REASONS: tuple[tuple[type[ServerError], str], ...] = (
    (DeadlineExceeded, "timeout"),
    (QueueFull, "overload"),
    (BreakerOpen, "breaker"),
    (NotReady, "failure"),
    (ModelFailed, "failure"),
)


class Ladder:
    """The rungs of one model."""

    def __init__(
        self,
        settings: ModelSettings,
        repository: Repository,
        first: Attempt,
        stand_in: Attempt,
        cache: ResponseCache | None,
        metrics: Metrics,
    ) -> None:
        """`first` runs the model as it was asked; `stand_in` another version or model in its place."""
        self._settings = settings
        self._repository = repository
        self.first = first
        self.stand_in = stand_in
        self._cache = cache
        self._metrics = metrics
        self._counters: dict[tuple[str, str, str], Counter] = {}
        self._static: dict[Signature, StaticAnswer] = {}
        self._unfit: set[tuple[str, str, str]] = set()

    def submit(self, served: Served, call: Call) -> None:
        """Run the model, and go down as far as it takes. Raises ServerError when no rung answers."""
        _Descent(self, served, call).begin()

    def forget(self) -> None:
        """Versions have changed."""
        self._static.clear()
        self._unfit.clear()

    @property
    def rungs(self) -> list[FallbackRung]:
        """From the top."""
        return self._settings.fallback.rungs

    def reason_of(self, error: ServerError) -> str | None:
        """Why the ladder is climbed down; None for errors that are the answer."""
        for kind, reason in _REASONS:
            if isinstance(error, kind):
                return reason if reason in self._settings.fallback.on else None
        return None

    def time_for(self, call: Call, rungs_left: int) -> float:
        """Until when an attempt may last, so that the rungs below have time too (monotonic clock)."""
        assert call.deadline is not None
        if not rungs_left:
            return call.deadline
        now = monotonic()
        return now + (call.deadline - now) * (1 - self._settings.fallback.reserve)

    def limit(self, call: Call) -> float:
        """When the whole request is over."""
        limit = call.received + self._settings.timeout_seconds
        return limit if call.deadline is None else min(call.deadline, limit)

    def who(self, rung: FallbackRung, served: Served) -> Served | None:
        """The version that a rung runs, if it runs one and that one is there and fits."""
        if rung.previous_version:
            other = previous_version(self._repository.entry(served.name).versions, served)
        elif rung.model is not None:
            try:
                other = self._repository.get(rung.model, rung.version or "")
            except ServerError:
                return None
        else:
            return None
        return other if other is not None and self._fits(other, served) else None

    def results_of(self, rung: FallbackRung, served: Served, call: Call) -> tuple[list[Array], float] | None:
        """What a rung that runs nothing answers, and its age in seconds."""
        if rung.cached_seconds is not None and self._cache is not None:
            answer = self._cache.get((served.lane, digest(call.inputs, call.outputs)), rung.cached_seconds)
            return None if answer is None else (answer.results, monotonic() - answer.stored)
        if rung.value is not None:
            return self._static_answer(rung, served).results(call), 0.0
        return None

    def count(self, served: Served, degraded: Degraded) -> None:
        """One more degraded answer."""
        key = (served.version, degraded.rung, degraded.reason)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = self._metrics.counter(
                "model_server_degraded_total",
                "Requests that another than the model they asked for answered, by rung and reason.",
                {
                    "model": served.name,
                    "version": served.version,
                    "rung": degraded.rung,
                    "reason": degraded.reason,
                },
            )
        counter.add()

    def _static_answer(self, rung: FallbackRung, served: Served) -> StaticAnswer:
        signature = served.lane.signature
        answer = self._static.get(signature)
        if answer is None:
            assert rung.value is not None
            answer = self._static[signature] = StaticAnswer(rung.value, signature, "value")
        return answer

    def _fits(self, other: Served, served: Served) -> bool:
        """Whether another version takes this one's requests and gives its outputs; the log says why not."""
        wrong = misfit(other.lane.signature, served.lane.signature)
        if wrong is None:
            return True
        key = (served.version, other.name, other.version)
        if key not in self._unfit:
            self._unfit.add(key)
            log.error(
                "a fallback cannot stand in for the model",
                extra={"model": served.name, "fallback": f"{other.name}/{other.version}", "reason": wrong},
            )
        return False


class _Descent:
    """One request on its way down. It holds the request's call; each attempt is a call of its own, because a
    run that has timed out may still write to its call from a thread.
    """

    __slots__ = ("_attempt", "_call", "_error", "_ladder", "_next", "_served", "_sync")

    def __init__(self, ladder: Ladder, served: Served, call: Call) -> None:
        self._ladder = ladder
        self._served = served
        self._call = call
        self._next = 0
        self._attempt: Call | None = None
        self._error: ServerError | None = None
        self._sync = True

    def begin(self) -> None:
        """Try the model itself. Raises ServerError if it and every rung refuse at once."""
        call = self._call
        call.deadline = self._ladder.limit(call)
        call.lane = self
        self._start(self._ladder.first, self._served, call.received, None)
        self._sync = False
        if call.error is not None and not call.cancelled:
            raise call.error

    def forget(self, call: Call) -> None:
        """See Holder."""
        del call
        if self._attempt is not None:
            self._attempt.cancel()

    def _start(self, attempt: Attempt, served: Served, received: float, rung: str | None) -> None:
        call = self._call
        deadline = self._ladder.time_for(call, len(self._ladder.rungs) - self._next)

        def done(inner: Call) -> None:
            self._done(inner, served, rung)

        self._attempt = Call(
            call.inputs,
            call.outputs,
            done,
            received=received,
            deadline=deadline,
            priority=call.priority,
            caller=call.caller,
        )
        try:
            attempt(served, self._attempt)
        except ServerError as error:
            self._failed(error)

    def _done(self, inner: Call, served: Served, rung: str | None) -> None:
        call = self._call
        if call.cancelled:
            return
        call.queued = call.queued or inner.queued
        if inner.error is not None:
            self._failed(inner.error)
            return
        call.started, call.finished = inner.started, inner.finished
        call.batch_rows = inner.batch_rows
        self._answer(inner.results, rung, served)

    def _failed(self, error: ServerError) -> None:
        first = self._error is None
        if first and self._ladder.reason_of(error) is None:
            self._give_up(error)
            return
        if first:
            self._error = error
        self._descend()

    def _descend(self) -> None:
        """The next rung that can answer; without one, the error that began it."""
        ladder, call, served = self._ladder, self._call, self._served
        assert self._error is not None
        assert call.deadline is not None
        while self._next < len(ladder.rungs) and monotonic() < call.deadline:
            rung = ladder.rungs[self._next]
            self._next += 1
            other = ladder.who(rung, served)
            if other is not None:
                self._start(ladder.stand_in, other, monotonic(), rung.name)
                return
            found = ladder.results_of(rung, served, call)
            if found is not None:
                results, age = found
                call.started = call.finished = monotonic()
                call.queued = call.queued or call.started
                self._answer(results, rung.name, served, age if rung.cached_seconds is not None else None)
                return
        self._give_up(self._error)

    def _answer(self, results: list[Array], rung: str | None, by: Served, age: float | None = None) -> None:
        call = self._call
        call.results = results
        if rung is not None:
            assert self._error is not None
            reason = self._ladder.reason_of(self._error) or "failure"
            call.degraded = Degraded(rung, reason, by.name, by.version, age)
            self._ladder.count(self._served, call.degraded)
            if call.caller is not None:
                call.caller.add_header(b"x-degraded", call.degraded.header())
                # An Envoy counts such answers apart, which else are successes to whoever compares versions.
                call.caller.add_header(b"x-envoy-upstream-canary", b"true")
        call.on_done(call)

    def _give_up(self, error: ServerError) -> None:
        self._call.error = error
        # An error that comes while `submit` is still on the stack is raised by it.
        if not self._sync:
            self._call.finished = monotonic()
            self._call.on_done(self._call)


def misfit(other: Signature, asked: Signature) -> str | None:
    """Why one signature cannot answer requests for the other; None if it can."""
    for spec in other.inputs:
        known = asked.inputs_by_name.get(spec.name)
        if known is None:
            return f"it needs the input {spec.name!r}"
        if not spec.covers(known):
            return f"its input {spec.name!r} is {spec.datatype} {list(spec.shape)}"
    if len(other.inputs) != len(asked.inputs):
        return "it takes fewer inputs"
    for spec in asked.outputs:
        given = other.outputs_by_name.get(spec.name)
        if given is None:
            return f"it has no output {spec.name!r}"
        if not given.covers(spec):
            return f"its output {spec.name!r} is {given.datatype} {list(given.shape)}"
    return None
