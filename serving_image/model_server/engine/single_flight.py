"""Equal requests that meet are run once: the response cache, and who waits for an answer on its way to it."""

import asyncio
from collections.abc import Callable
from time import monotonic

from model_server.engine.call import Call
from model_server.engine.response_cache import CachedAnswer, Key, ResponseCache, digest
from model_server.errors import DeadlineExceeded, ServerError
from model_server.models.repository import Served
from model_server.settings import CacheSettings
from model_server.telemetry.logs import log
from model_server.telemetry.metrics import Counter, Metrics

Attempt = Callable[[Served, Call], None]
"""Starts a call on one version; raises ServerError."""

_MIN_TIMER_SECONDS = 0.001


class _Flight:
    """One run for all who ask the same at the same time.

    It runs under the model's own time limit, not under that of the one who happened to come first: each
    waiter has a limit of its own, and when none is left the run is called off.
    """

    __slots__ = ("_on_empty", "call", "timers", "waiting")

    def __init__(self, on_empty: Callable[["_Flight"], None]) -> None:
        self._on_empty = on_empty
        self.call: Call | None = None
        self.waiting: list[Call] = []
        self.timers: dict[Call, asyncio.TimerHandle] = {}

    def join(self, call: Call, seconds: float | None) -> None:
        """Wait for the answer, for that long."""
        call.lane = self
        self.waiting.append(call)
        if seconds is not None:
            loop = asyncio.get_running_loop()
            self.timers[call] = loop.call_later(max(seconds, _MIN_TIMER_SECONDS), self._give_up, call)

    def forget(self, call: Call) -> None:
        """See Holder: one less waits. The others go on, whoever was first."""
        timer = self.timers.pop(call, None)
        if timer is not None:
            timer.cancel()
        if call in self.waiting:
            self.waiting.remove(call)
            if not self.waiting and self.call is not None:
                self.call.cancel()
                self._on_empty(self)

    def land(self) -> list[Call]:
        """Everybody who waits, to be answered now."""
        for timer in self.timers.values():
            timer.cancel()
        landed, self.waiting, self.timers = self.waiting, [], {}
        return landed

    def _give_up(self, call: Call) -> None:
        call.cancel()
        now = monotonic()
        call.queued = call.queued or call.received
        call.started = call.finished = now
        call.error = DeadlineExceeded("the request's time ran out before the model answered")
        call.on_done(call)


class CachedRuns:
    """The response cache of one model in front of its runs."""

    def __init__(
        self, settings: CacheSettings, cache: ResponseCache, attempt: Attempt, model: str, metrics: Metrics
    ) -> None:
        self.cache = cache
        self._settings = settings
        self._attempt = attempt
        self._flights: dict[Key, _Flight] = {}
        self._live: list[object] | None = None
        self._outcomes: dict[str, Counter] = {
            outcome: metrics.counter(
                "model_server_cache_requests_total",
                "Requests by what the response cache did: hit, miss, joined (the run of an equal request), "
                "bypass (the client asked for a run of its own).",
                {"model": model, "outcome": outcome},
            )
            for outcome in ("hit", "miss", "joined", "bypass")
        }

    def submit(self, served: Served, call: Call) -> None:
        """Answer from the cache, join an equal call, or run. Raises what running raises."""
        key = (served.lane, digest(call.inputs, call.outputs))
        control = b"" if call.caller is None else call.caller.headers.get(b"cache-control", b"").lower()
        if b"no-store" in control or b"no-cache" in control:
            self._note(call, "bypass")
            self._run(served, call, None if b"no-store" in control else key)
            return
        answer = self.cache.get(key, self._settings.ttl_seconds) if self._settings.ttl_seconds else None
        if answer is not None:
            self._note(call, "hit", answer)
            call.queued = call.started = call.finished = monotonic()
            call.results = answer.results
            call.on_done(call)
            return
        flight = self._flights.get(key)
        if flight is not None:
            self._note(call, "joined")
            call.queued = monotonic()
            flight.join(call, _seconds_left(call))
            return
        self._note(call, "miss")
        self._lead(served, call, key)

    def keep_only(self, served: list[Served]) -> None:
        """The versions that serve from now on; answers of others that are still on their way are not kept."""
        lanes = [one.lane for one in served]
        self._live = list(lanes)
        self.cache.keep_only(lanes)

    def _run(self, served: Served, call: Call, key: Key | None) -> None:
        """Alone; the answer still refreshes the cache where there is a key."""
        answer = call.on_done
        if key is None:
            self._attempt(served, call)
            return

        def keep(done: Call) -> None:
            self._keep(key, done)
            answer(done)

        call.on_done = keep
        self._attempt(served, call)

    def _lead(self, served: Served, call: Call, key: Key) -> None:

        def end(flight: _Flight) -> None:
            if self._flights.get(key) is flight:
                del self._flights[key]

        flight = _Flight(end)

        def land(done: Call) -> None:
            end(flight)
            self._keep(key, done)
            for waiter in flight.land():
                _hand_over(done, waiter)

        flight.call = Call(
            call.inputs,
            call.outputs,
            land,
            received=call.received,
            priority=call.priority,
            caller=call.caller,
        )
        flight.join(call, _seconds_left(call))
        self._flights[key] = flight
        try:
            self._attempt(served, flight.call)
        except ServerError:
            # Whoever else waits joined in this very turn of the event loop: nobody has.
            flight.land()
            end(flight)
            raise

    def _keep(self, key: Key, done: Call) -> None:
        if done.error is None and (self._live is None or key[0] in self._live):
            self.cache.put(key, done.results)

    def _note(self, call: Call, outcome: str, answer: CachedAnswer | None = None) -> None:
        self._outcomes[outcome].add()
        if call.caller is not None:
            call.caller.add_header(b"x-cache", outcome.encode())
            if answer is not None:
                call.caller.add_header(b"age", b"%d" % (monotonic() - answer.stored))


def _hand_over(done: Call, waiter: Call) -> None:
    waiter.results, waiter.error = done.results, done.error
    waiter.queued = max(waiter.queued, waiter.received) if waiter.queued else done.queued
    waiter.started, waiter.finished = max(done.started, waiter.queued), done.finished
    waiter.batch_rows = done.batch_rows
    try:
        waiter.on_done(waiter)
    except Exception:
        log.exception("an answer could not be delivered")


def _seconds_left(call: Call) -> float | None:
    return None if call.deadline is None else call.deadline - monotonic()
