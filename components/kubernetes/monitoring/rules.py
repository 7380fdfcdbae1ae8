"""Recording rules and alerts of an endpoint, from what it promises.

Alerts look at how fast the budget of errors is used up, over a long and a short window at once: the long one
says that it matters, the short one that it still goes on. (The Site Reliability Workbook, chapter 5.)
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ...spec import Endpoint, Slo
from ..objects import Manifest

# The bounds of the server's latency histogram, in seconds.
BOUNDS = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
# Errors that are no fault of the client's.
FAULTS = (
    *("internal", "model_failed", "not_ready", "breaker_open", "deadline_exceeded", "load_failed"),
    "queue_full",
)
_SLOW_SHARE = 0.01  # 99 of 100 requests


@dataclass(frozen=True)
class Burn:
    """An alert: so much of the budget is gone within `long` if it goes on like this."""

    long: str
    short: str
    hours: int
    share: float
    severity: str
    wait: str

    def factor(self, days: int) -> float:
        """How many times as fast as the budget allows, for a promise over so many days."""
        return self.share * days * 24 / self.hours


BURNS = (
    Burn("1h", "5m", 1, 0.02, "page", "2m"),
    Burn("6h", "30m", 6, 0.05, "page", "15m"),
    Burn("1d", "2h", 24, 0.10, "ticket", "1h"),
    Burn("3d", "6h", 72, 0.10, "ticket", "3h"),
)
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")


def rules(endpoints: Mapping[str, Endpoint], namespace: str) -> list[Manifest]:
    """The groups of rules of all endpoints of a namespace."""
    groups = [{"name": f"{namespace}.servers", "interval": "15s", "rules": [*_for_autoscalers(namespace)]}]
    for name, endpoint in endpoints.items():
        found = [*_health(name, namespace, endpoint)]
        if endpoint.slo:
            found = [*_promises(name, namespace, endpoint.slo), *found]
        groups.append({"name": f"{namespace}.{name}", "rules": found})
    return groups


def _for_autoscalers(namespace: str) -> Iterator[Manifest]:
    """By pod, as autoscalers want them."""
    of = f'{{namespace="{namespace}"}}'
    count = f"model_server_request_seconds_count{of}[1m]"
    yield {
        "record": "model_server_requests_per_second",
        "expr": f"sum by (namespace, pod) (rate({count}))",
    }
    buckets = f"sum by (namespace, pod, le) (rate(model_server_request_seconds_bucket{of}[2m]))"
    # Nobody asked: that is no latency at all, and NaN would make an autoscaler stop.
    yield {
        "record": "model_server_latency_p99_seconds",
        "expr": f"histogram_quantile(0.99, {buckets}) >= 0",
    }


def _promises(name: str, namespace: str, slo: Slo) -> Iterator[Manifest]:
    labels = {"namespace": namespace, "endpoint": name}
    for window in WINDOWS:
        yield {
            "record": f"serving_estate:errors:ratio_{window}",
            "expr": f"{_failed(name, namespace, window)} / {_asked(name, namespace, window)}",
            "labels": labels,
        }
        if slo.latency_p99_ms:
            yield {
                "record": f"serving_estate:slow:ratio_{window}",
                "expr": _slow(name, namespace, window, slo.latency_p99_ms),
                "labels": labels,
            }
    budget = slo.error_rate or 0.001
    yield from _alerts(name, namespace, "errors", budget, slo.window_days or 30, "requests fail")
    if slo.latency_p99_ms:
        bound = bound_ms(slo.latency_p99_ms)
        said = f"requests take longer than {bound:g} ms"
        if bound != slo.latency_p99_ms:
            said += f", the next measured bound above the promised {slo.latency_p99_ms} ms"
        yield from _alerts(name, namespace, "slow", _SLOW_SHARE, slo.window_days or 30, said)


def _alerts(name: str, namespace: str, what: str, budget: float, days: int, said: str) -> Iterator[Manifest]:
    of = f'{{namespace="{namespace}",endpoint="{name}"}}'
    alert = {"errors": "EndpointErrorBudgetBurn", "slow": "EndpointLatencyBudgetBurn"}[what]
    for burn in BURNS:
        limit = min(1.0, burn.factor(days) * budget)
        both = [
            f"serving_estate:{what}:ratio_{window}{of} > {limit:.6g}" for window in (burn.long, burn.short)
        ]
        yield {
            "alert": alert,
            "expr": " and ".join(both),
            "for": burn.wait,
            "labels": {
                "severity": burn.severity,
                "namespace": namespace,
                "endpoint": name,
                "window": burn.long,
            },
            "annotations": {
                "summary": f"Endpoint {name} uses up its error budget of {days} days: {said}.",
                "description": f"At this pace {burn.share:.0%} of the budget is gone within {burn.long}. "
                f"Promised: no more than {budget:.3%} of requests; now {{{{ $value | humanizePercentage "
                f"}}}}.",
            },
        }


def _health(name: str, namespace: str, endpoint: Endpoint) -> Iterator[Manifest]:
    of = f'{{namespace="{namespace}",model="{name}"}}'
    labels = {"severity": "page", "namespace": namespace, "endpoint": name}
    ready = f"sum(model_server_model_ready{of})"
    if not any(scaling.zero_after_s for _, scaling in endpoint.scalings):
        # Servers that are all gone have no series at all. Of those that may be gone that says nothing.
        ready += " or vector(0)"
    yield {
        "alert": "EndpointHasNoReadyServer",
        "expr": f"({ready}) == 0",
        "for": "2m",
        "labels": labels,
        "annotations": {"summary": f"No server of endpoint {name} can answer."},
    }
    yield {
        "alert": "EndpointRefusesModelChange",
        "expr": f"max(model_server_model_change_refused{of}) > 0",
        "for": "5m",
        "labels": {**labels, "severity": "ticket"},
        "annotations": {
            "summary": f"A server of endpoint {name} goes on with an older version: the newer one was "
            "refused.",
            "description": "Its log, and /v2/health/ready, say why.",
        },
    }
    yield {
        "alert": "EndpointQueueIsFull",
        "expr": f"sum(rate(model_server_rejected_total{of}[5m])) > 0",
        "for": "5m",
        "labels": {**labels, "severity": "ticket"},
        "annotations": {
            "summary": f"Servers of endpoint {name} refuse requests because their queues are full.",
            "description": "More replicas, or more CPU for each, would answer them: see `scaling` and "
            "`resources`.",
        },
    }


def _failed(name: str, namespace: str, window: str) -> str:
    of = f'{{namespace="{namespace}",model="{name}",kind=~"{"|".join(FAULTS)}"}}'
    return f"(sum(rate(model_server_errors_total{of}[{window}])) or vector(0))"


def _answered(name: str, namespace: str, window: str) -> str:
    return (
        f'sum(rate(model_server_request_seconds_count{{namespace="{namespace}",model="{name}"}}[{window}]))'
    )


def _asked(name: str, namespace: str, window: str) -> str:
    """Requests that should have been answered: the server measures the time of those only that were."""
    failed = _failed(name, namespace, window)
    return f"(({_answered(name, namespace, window)} or vector(0)) + {failed} > 0)"


def _slow(name: str, namespace: str, window: str, promised_ms: int) -> str:
    bound = bound_ms(promised_ms) / 1000
    # 1 and 1.0 are the same bound to a server, and different text to an older Prometheus.
    written = f"{bound:g}|{bound}".replace(".", "\\\\.")
    of = f'{{namespace="{namespace}",model="{name}",le=~"{written}"}}'
    fast = f"sum(rate(model_server_request_seconds_bucket{of}[{window}]))"
    answered = _answered(name, namespace, window)
    return f"1 - {fast} / ({answered} > 0)"


def bound_ms(promised_ms: int) -> float:
    """The bound of the histogram at which a promise is measured, in milliseconds: the next one above it."""
    at = bisect_left(BOUNDS, promised_ms / 1000)
    return BOUNDS[min(at, len(BOUNDS) - 1)] * 1000
