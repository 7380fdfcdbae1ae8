"""A Grafana dashboard of one endpoint."""

from collections.abc import Iterator
from itertools import count

from ...spec import Endpoint
from ..objects import Manifest
from .rules import FAULTS

# The pods' labels `serving-estate/…` as Prometheus names them.
_VARIANT = "serving_estate_variant"
_SOURCE = {"type": "prometheus", "uid": "${source}"}


def dashboard(name: str, endpoint: Endpoint, namespace: str) -> Manifest:
    """Traffic, errors, latency, saturation and predictions, by variant."""
    panels = [*_placed(_panels(name, endpoint, namespace))]
    return {
        "uid": f"{namespace}-{name}"[:40].strip("-"),
        "title": f"Endpoint {name} ({namespace})",
        "tags": ["serving-estate", namespace],
        "schemaVersion": 39,
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [
                {
                    "name": "source",
                    "label": "Prometheus",
                    "type": "datasource",
                    "query": "prometheus",
                    "current": {},
                }
            ]
        },
        "panels": panels,
    }


def _panels(name: str, endpoint: Endpoint, namespace: str) -> Iterator[Manifest]:
    of = f'namespace="{namespace}",model="{name}"'
    answered = f"rate(model_server_request_seconds_count{{{of}}}[$__rate_interval])"
    faults = f'rate(model_server_errors_total{{{of},kind=~"{"|".join(FAULTS)}"}}[$__rate_interval])'
    yield _panel("Requests by variant", "reqps", (f"sum by ({_VARIANT}) ({answered})", f"{{{{{_VARIANT}}}}}"))
    yield _panel(
        "Share of each variant",
        "percentunit",
        (
            f"sum by ({_VARIANT}) ({answered}) / scalar(sum({answered}))",
            f"{{{{{_VARIANT}}}}}",
        ),
    )
    slo = endpoint.slo
    yield _panel(
        "Failed requests, by kind",
        "reqps",
        (f"sum by (kind) (rate(model_server_errors_total{{{of}}}[$__rate_interval]))", "{{kind}}"),
    )
    yield _panel(
        "Share of requests that failed through no fault of the client's",
        "percentunit",
        (
            f"sum by ({_VARIANT}) ({faults}) / (sum by ({_VARIANT}) ({answered}) + sum by ({_VARIANT}) "
            f"({faults}))",
            f"{{{{{_VARIANT}}}}}",
        ),
        limit=slo.error_rate if slo else None,
    )
    buckets = f"rate(model_server_request_seconds_bucket{{{of}}}[$__rate_interval])"
    for quantile in (0.5, 0.99):
        yield _panel(
            f"Latency in the server, {quantile:.0%}",
            "s",
            (
                f"histogram_quantile({quantile}, sum by (le, {_VARIANT}) ({buckets}))",
                f"{{{{{_VARIANT}}}}}",
            ),
            limit=slo.latency_p99_ms / 1000 if slo and slo.latency_p99_ms and quantile == 0.99 else None,
        )
    phases = f"model_server_phase_seconds_bucket{{{of}}}[$__rate_interval]"
    yield _panel(
        "Latency by phase, 99%",
        "s",
        (f"histogram_quantile(0.99, sum by (le, phase) (rate({phases})))", "{{phase}}"),
    )
    yield _panel(
        "Requests that wait for a run",
        "short",
        (f"sum by ({_VARIANT}) (model_server_queue_length{{{of}}})", f"{{{{{_VARIANT}}}}}"),
    )
    rows = f"rate(model_server_batch_rows_sum{{{of}}}[$__rate_interval])"
    runs = f"rate(model_server_batch_rows_count{{{of}}}[$__rate_interval])"
    yield _panel(
        "Rows of a run",
        "short",
        (f"sum by ({_VARIANT}) ({rows}) / sum by ({_VARIANT}) ({runs})", f"{{{{{_VARIANT}}}}}"),
    )
    yield _panel(
        "Refused or out of time",
        "reqps",
        (f"sum(rate(model_server_rejected_total{{{of}}}[$__rate_interval]))", "queue full"),
        (f"sum(rate(model_server_expired_total{{{of}}}[$__rate_interval]))", "out of time"),
    )
    yield _panel(
        "Degraded answers, by rung and reason",
        "reqps",
        (
            f"sum by (rung, reason) (rate(model_server_degraded_total{{{of}}}[$__rate_interval]))",
            "{{rung}}: {{reason}}",
        ),
    )
    yield from _predictions(of)
    # A pod is called endpoint-variant-generation-pod.
    of_variants = f"{name}-({'|'.join(endpoint.variants)})-[^-]+-[^-]+"
    pods = f'namespace="{namespace}",pod=~"{of_variants}",container="model-server"'
    yield _panel(
        "CPU by replica",
        "none",
        (f"sum by (pod) (rate(container_cpu_usage_seconds_total{{{pods}}}[$__rate_interval]))", "{{pod}}"),
    )


def _predictions(of: str) -> Iterator[Manifest]:
    """What is predicted, and how much of that was predicted otherwise a day before, or by other variants.

    The part by which two divisions differ is the sum of what is more in the one: as much is less elsewhere.
    """
    by = f"{_VARIANT}, output"

    def counted(labels: str, when: str = "") -> str:
        return f"sum by ({labels}) (increase(model_server_predictions_total{{{of}}}[1h]{when}))"

    def shares(when: str = "") -> str:
        return f"({counted(f'{by}, kind', when)} / on ({by}) group_left () {counted(by, when)})"

    now, before = shares(), shares(" offset 1d")
    was = f"({counted(by, ' offset 1d')} > 0)"
    together = f"({counted('output, kind')} / on (output) group_left () {counted('output')})"
    of_output = f"{{{{{_VARIANT}}}}} {{{{output}}}}"
    yield _panel(
        "What is predicted: share of the last hour's rows", "percentunit", (now, f"{of_output}: {{{{kind}}}}")
    )
    yield _panel(
        "Drift: part of the predictions that is another than a day before",
        "percentunit",
        # A kind that was not there had no share; an hour without any answers is no drift.
        (f"sum by ({by}) (clamp_min({now} - ({before} or 0 * {now}), 0)) and on ({by}) {was}", of_output),
    )
    yield _panel(
        "Part of a variant's predictions that is another than all variants' together",
        "percentunit",
        (
            f"sum by ({by}) (clamp_min({now} - on (output, kind) group_left () {together}, 0))",
            of_output,
        ),
    )


def _panel(title: str, unit: str, *queries: tuple[str, str], limit: float | None = None) -> Manifest:
    steps: list[Manifest] = [{"color": "green", "value": None}]
    if limit is not None:
        steps.append({"color": "red", "value": limit})
    return {
        "type": "timeseries",
        "title": title,
        "datasource": _SOURCE,
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "min": 0,
                "thresholds": {"mode": "absolute", "steps": steps},
                "custom": {"thresholdsStyle": {"mode": "line" if limit is not None else "off"}},
            },
            "overrides": [],
        },
        "targets": [
            {"refId": chr(ord("A") + at), "datasource": _SOURCE, "expr": expr, "legendFormat": legend}
            for at, (expr, legend) in enumerate(queries)
        ],
    }


def _placed(panels: Iterator[Manifest]) -> Iterator[Manifest]:
    """Two in a row."""
    for at, panel in zip(count(), panels, strict=False):
        yield panel | {"id": at + 1, "gridPos": {"h": 8, "w": 12, "x": at % 2 * 12, "y": at // 2 * 8}}
