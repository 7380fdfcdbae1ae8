"""The circuit breaker of one model version: after too many failures it is left alone for a while.

    closed ── too many of the window's calls failed ──> open ── open_seconds ──> half-open
      ^                                                   ^                         │
      └────────────── `probes` calls succeeded ───────────┼─────────────────────────┤
                                                          └─── one failed ──────────┘

While it is open, calls are refused at once (503 with Retry-After, or the next rung of the ladder) instead of
waiting for a model that will fail. Half-open, a few calls at a time find out whether it has recovered. Each
worker counts for itself.
"""

from collections import deque
from time import monotonic

from model_server.errors import BreakerOpen, DeadlineExceeded, NotReady, ServerError
from model_server.settings import BreakerSettings
from model_server.telemetry.logs import log
from model_server.telemetry.metrics import Metrics

_BUCKETS = 10
_SERVER_FAULT = 500


class Breaker:
    """Counts outcomes and says whether to call. All times are seconds of the monotonic clock."""

    def __init__(self, settings: BreakerSettings, model: str, version: str, metrics: Metrics) -> None:
        labels = {"model": model, "version": version}
        self._settings = settings
        self._labels = labels
        self._bucket_seconds = settings.window_seconds / _BUCKETS
        self._window: deque[list[float]] = deque()
        """Buckets of [when it began, calls, failures], oldest first."""
        self._opened: float | None = None
        self._probes: deque[float] = deque()
        """When the calls of the half-open state began that have not ended."""
        self._recovered = 0
        self._gauge = metrics.gauge(
            "model_server_breaker_open", "Workers whose circuit breaker of the version is not closed.", labels
        )
        self._openings = metrics.counter(
            "model_server_breaker_opened_total", "Times that the circuit breaker opened.", labels
        )
        self._refusals = metrics.counter(
            "model_server_breaker_refused_total", "Calls refused by the open circuit breaker.", labels
        )

    @property
    def state(self) -> str:
        """closed, open or half-open."""
        if self._opened is None:
            return "closed"
        return "open" if monotonic() < self._opened + self._settings.open_seconds else "half-open"

    def admit(self) -> bool:
        """Begin a call; True if it is a probe. Tell `ended` how it went. Raises BreakerOpen."""
        if self._opened is None:
            return False
        now = monotonic()
        left = self._opened + self._settings.open_seconds - now
        if left <= 0:
            # A probe whose client left never ends: its place is free again after a while.
            while self._probes and self._probes[0] + self._settings.open_seconds < now:
                self._probes.popleft()
            if len(self._probes) < self._settings.probes:
                self._probes.append(now)
                return True
        self._refusals.add()
        raise BreakerOpen(
            f"the model failed too often; it is left alone for {max(left, 0.0):.1f} seconds",
            retry_after_seconds=max(left, 1.0),
        )

    def ended(self, error: ServerError | None, waited: float, patience: float, probe: bool) -> None:
        """Count a call that was admitted, after `waited` seconds.

        A time-out counts only if the model had `patience` seconds: what an impatient client gives it says
        nothing about the model.
        """
        if probe and self._probes:
            self._probes.popleft()
        failed = error is not None
        if error is not None and (
            error.status < _SERVER_FAULT
            or isinstance(error, NotReady)
            or (isinstance(error, DeadlineExceeded) and waited < patience)
        ):
            return
        if self._opened is not None:
            self._judge_probe(failed, probe)
            return
        bucket = self._bucket(monotonic())
        bucket[1] += 1
        if error is not None:
            bucket[2] += 1
            calls = sum(bucket[1] for bucket in self._window)
            failures = sum(bucket[2] for bucket in self._window)
            if calls >= self._settings.min_calls and failures >= self._settings.failure_rate * calls:
                self._open(error)

    def forget(self) -> None:
        """The version is gone: its gauge must not stay up."""
        self._gauge.set(0.0)

    def _bucket(self, now: float) -> list[float]:
        window = self._window
        while window and window[0][0] + self._settings.window_seconds < now:
            window.popleft()
        if not window or window[-1][0] + self._bucket_seconds <= now:
            window.append([now, 0, 0])
        return window[-1]

    def _judge_probe(self, failed: bool, probe: bool) -> None:
        # Calls from before the opening end later than it: they are no news.
        if not probe:
            return
        if failed:
            self._open(None)
            return
        self._recovered += 1
        if self._recovered >= self._settings.probes:
            self._opened = None
            self._probes.clear()
            self._gauge.set(0.0)
            log.info("circuit breaker is closed", extra=self._labels)

    def _open(self, error: ServerError | None) -> None:
        self._opened = monotonic()
        self._window.clear()
        self._probes.clear()
        self._recovered = 0
        self._gauge.set(1.0)
        self._openings.add()
        reason = "a probe failed" if error is None else error.message[:200]
        log.warning("circuit breaker is open", extra={**self._labels, "reason": reason})
