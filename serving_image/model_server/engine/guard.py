"""What stands between a protocol and the lanes of one model, where its settings ask for anything.

    ladder ─> response cache, single flight ─> circuit breaker ─> lane
       └───── other version or model ────────> circuit breaker ─> lane

A model that asks for none of it has no guard, and its calls go straight to the lane.
"""

from collections.abc import Callable
from functools import partial
from time import monotonic

from model_server.engine.breaker import Breaker
from model_server.engine.call import Call
from model_server.engine.ladder import Ladder
from model_server.engine.lane import Lane
from model_server.engine.response_cache import ResponseCache
from model_server.engine.single_flight import Attempt, CachedRuns
from model_server.errors import ServerError
from model_server.models.repository import Repository, Served
from model_server.settings import ModelSettings
from model_server.telemetry.metrics import Metrics


class Guard:
    """The steps of one model, put together."""

    def __init__(
        self, settings: ModelSettings, repository: Repository, stand_in: Attempt, metrics: Metrics
    ) -> None:
        """`stand_in` runs any other model behind its own breaker."""
        self._settings = settings
        self._repository = repository
        self._metrics = metrics
        self._breakers: dict[Lane, Breaker] = {}
        self._patience = settings.slo_ms / 1000
        self._runs: CachedRuns | None = None
        self._ladder: Ladder | None = None
        self.submit: Attempt = self.run
        """Start a call on a version of this model. Raises ServerError."""
        cache: ResponseCache | None = None
        if settings.cache is not None:
            rungs = (rung.cached_seconds or 0.0 for rung in settings.fallback.rungs)
            keep_seconds = max(settings.cache.ttl_seconds, *rungs, 0.0)
            cache = ResponseCache(settings.cache, keep_seconds, settings.name, metrics)
            self._runs = CachedRuns(settings.cache, cache, self.run, settings.name, metrics)
            self.submit = self._runs.submit
        if settings.fallback.rungs:
            self._ladder = Ladder(settings, repository, self.submit, stand_in, cache, metrics)
            self.submit = self._ladder.submit

    @staticmethod
    def wanted(settings: ModelSettings) -> bool:
        """Whether the settings ask for any step."""
        return bool(settings.fallback.rungs or settings.cache or settings.breaker)

    def run(self, served: Served, call: Call) -> None:
        """Run a call on a version, unless its breaker is open. Raises ServerError."""
        if self._settings.breaker is None:
            served.lane.submit(call)
            return
        breaker = self._breaker(served)
        probe = breaker.admit()
        began = monotonic()
        call.on_done = partial(self._ended, breaker, probe, began, call.on_done)
        try:
            served.lane.submit(call)
        except ServerError as error:
            breaker.ended(error, monotonic() - began, self._patience, probe)
            raise

    def changed(self) -> None:
        """The model's versions have changed: what belonged to others goes."""
        serving = list(self._repository.entry(self._settings.name).versions.values())
        lanes = [served.lane for served in serving]
        for lane in [lane for lane in self._breakers if lane not in lanes]:
            self._breakers.pop(lane).forget()
        if self._runs is not None:
            self._runs.keep_only(serving)
        if self._ladder is not None:
            self._ladder.forget()

    def breaker_state(self, served: Served) -> str:
        """closed, open or half-open."""
        breaker = self._breakers.get(served.lane)
        return "closed" if breaker is None else breaker.state

    def _breaker(self, served: Served) -> Breaker:
        breaker = self._breakers.get(served.lane)
        if breaker is None:
            assert self._settings.breaker is not None
            breaker = Breaker(self._settings.breaker, served.name, served.version, self._metrics)
            self._breakers[served.lane] = breaker
        return breaker

    def _ended(
        self, breaker: Breaker, probe: bool, began: float, on_done: Callable[[Call], None], call: Call
    ) -> None:
        breaker.ended(call.error, monotonic() - began, self._patience, probe)
        on_done(call)
