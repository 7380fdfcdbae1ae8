"""Rules, alerts and dashboards: of metrics that the servers have."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from model_server import errors
from model_server.telemetry.metrics import LATENCY_BUCKETS

from components.kubernetes.monitoring.dashboard import dashboard
from components.kubernetes.monitoring.rules import BOUNDS, BURNS, FAULTS, bound_ms, rules
from components.spec import Endpoint

SOURCES = Path(__file__).parents[3] / "serving_image" / "model_server"
ENDPOINT = {
    "variants": {"blue": {"model": "s3://m/1"}},
    "slo": {"latency_p99_ms": 80, "error_rate": 0.001},
}
GROUPS = rules({"digits": Endpoint.model_validate(ENDPOINT)}, "serving")


def rule_list() -> list[dict[str, Any]]:
    return [rule for group in GROUPS for rule in group["rules"]]


def known_metrics() -> set[str]:
    text = "".join(file.read_text() for file in SOURCES.rglob("*.py"))
    return set(re.findall(r'"(model_server_[a-z_]+)"', text))


def test_rules_and_dashboards_ask_for_metrics_that_the_server_has(render: Any) -> None:
    objects = render(monitoring={}, endpoints={"digits": ENDPOINT})
    board = json.loads(objects["ConfigMap", "digits-dashboard"]["data"]["digits.json"])
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    queries += [rule["expr"] for rule in rule_list()]
    recorded = {rule["record"] for rule in rule_list() if "record" in rule}
    assert len(queries) > 20
    for query in queries:
        for name in re.findall(r"model_server_[a-z_0-9]+", query):
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            assert name in recorded or base in known_metrics(), query


def test_the_latency_bounds_are_the_servers() -> None:
    assert BOUNDS == LATENCY_BUCKETS
    assert bound_ms(80) == pytest.approx(100)
    assert bound_ms(100) == pytest.approx(100)
    assert bound_ms(60_000) == pytest.approx(10_000)


def test_faults_are_the_kinds_of_errors_that_are_not_the_clients() -> None:
    kinds = {
        thing.kind: getattr(thing, "status", 500)
        for thing in vars(errors).values()
        if isinstance(thing, type) and issubclass(thing, errors.ServerError)
    }
    faults = {kind for kind, status in kinds.items() if status >= 500 or status == 429}
    assert set(FAULTS) == faults


def test_budgets_burn_as_the_workbook_has_it() -> None:
    assert [(burn.long, burn.short, burn.factor(30)) for burn in BURNS] == [
        ("1h", "5m", pytest.approx(14.4)),
        ("6h", "30m", pytest.approx(6)),
        ("1d", "2h", pytest.approx(3)),
        ("3d", "6h", pytest.approx(1)),
    ]


def test_an_endpoint_without_a_promise_is_still_watched() -> None:
    plain = rules({"digits": Endpoint.model_validate({"variants": ENDPOINT["variants"]})}, "serving")
    alerts = {rule["alert"] for group in plain for rule in group["rules"] if "alert" in rule}
    assert alerts == {"EndpointHasNoReadyServer", "EndpointRefusesModelChange", "EndpointQueueIsFull"}


def test_the_prometheus_operator_gets_its_own_objects(render: Any) -> None:
    settings = {"scrape": "service-monitor", "labels": {"release": "prometheus"}, "dashboards": False}
    objects = render(monitoring=settings)
    monitor = objects["ServiceMonitor", "monitoring"]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    service = objects["Service", "digits-blue"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    ports = {port["name"] for port in service["spec"]["ports"]}
    assert {one["port"] for one in monitor["spec"]["endpoints"]} <= ports
    assert objects["PrometheusRule", "monitoring"]["spec"]["groups"]
    assert ("ConfigMap", "digits-dashboard") not in objects


def series(labels: str, values: str) -> dict[str, str]:
    name, _, rest = labels.partition("{")
    return {
        "series": f'{name}{{namespace="serving",model="digits"{"," + rest if rest else "}"}',
        "values": values,
    }


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool of Prometheus is not on PATH")
def test_prometheus_takes_the_rules_and_alerts_when_it_should(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": GROUPS}))

    def alerts(errors_a_minute: int, slow_a_minute: int) -> list[dict[str, Any]]:
        return [
            series("model_server_request_seconds_count", "0+600x120"),
            series('model_server_request_seconds_bucket{le="0.1"}', f"0+{600 - slow_a_minute}x120"),
            series('model_server_errors_total{kind="model_failed"}', f"0+{errors_a_minute}x120"),
            series('model_server_errors_total{kind="invalid_request"}', "0+500x120"),
            series("model_server_model_ready", "1x120"),
        ]

    def page(alert: str, wanted: bool) -> dict[str, Any]:
        paged = f'ALERTS{{alertname="{alert}",alertstate="firing",severity="page"}}'
        samples = [{"labels": "{}", "value": int(wanted)}]
        expr = f"count({paged}) > bool 0 or vector(0)"
        return {"expr": expr, "eval_time": "90m", "exp_samples": samples}

    def case(failed: int, slow: int, burning: str) -> dict[str, Any]:
        names = ("EndpointErrorBudgetBurn", "EndpointLatencyBudgetBurn", "EndpointHasNoReadyServer")
        checks = [page(name, name == burning) for name in names]
        return {"interval": "1m", "input_series": alerts(failed, slow), "promql_expr_test": checks}

    def gone() -> dict[str, Any]:
        """No server at all is left after half an hour, and its series with it."""
        names = ("EndpointErrorBudgetBurn", "EndpointLatencyBudgetBurn", "EndpointHasNoReadyServer")
        checks = [page(name, name == "EndpointHasNoReadyServer") for name in names]
        there = series("model_server_model_ready", "1x30 stale")
        return {"interval": "1m", "input_series": [there], "promql_expr_test": checks}

    cases = [
        gone(),
        case(0, 0, ""),
        case(0, 30, ""),
        case(30, 0, "EndpointErrorBudgetBurn"),
        case(0, 120, "EndpointLatencyBudgetBurn"),
    ]
    file = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": cases}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(file))
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", "test.yaml"]):
        done = subprocess.run(
            ["promtool", *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool of Prometheus is not on PATH")
def test_the_dashboard_shows_predictions_that_drift(tmp_path: Path) -> None:
    """Blue predicts what it never did before, for a quarter; green, which is new, only ever the same."""
    board = dashboard("digits", Endpoint.model_validate(ENDPOINT), "serving")
    drift, apart = (
        next(panel["targets"][0]["expr"] for panel in board["panels"] if panel["title"].startswith(title))
        for title in ("Drift", "Part of a variant's")
    )

    def predicted(variant: str, kind: str, values: str) -> dict[str, str]:
        labels = f'model="digits",namespace="serving",output="y",kind="{kind}"'
        name = f'model_server_predictions_total{{{labels},serving_estate_variant="{variant}"}}'
        return {"series": name, "values": values}

    def expected(expr: str, **by_variant: float) -> dict[str, Any]:
        labels = '{{output="y", serving_estate_variant="{}"}}'
        samples = [{"labels": labels.format(name), "value": value} for name, value in by_variant.items()]
        return {"expr": f"round({expr}, 0.001)", "eval_time": "26h", "exp_samples": samples}

    day_and_two_hours = [  # a value each ten minutes
        predicted("blue", "0", "0+10x143 1435+5x12"),
        predicted("blue", "1", "0+10x156"),
        predicted("blue", "2", "_x143 0+5x12"),
        predicted("green", "0", "_x143 0+20x12"),
    ]
    checks = [expected(drift, blue=0.25), expected(apart, blue=0.375, green=0.375)]
    tests = [{"interval": "10m", "input_series": day_and_two_hours, "promql_expr_test": checks}]
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"tests": tests}))
    done = subprocess.run(
        ["promtool", "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_servers_of_a_watched_estate_count_what_they_predict(render: Any) -> None:
    for watched in ({}, {"monitoring": {}}):
        objects = render(**watched, endpoints={"digits": ENDPOINT})
        (text,) = [
            one["data"]["settings.yaml"] for one in objects.values() if "settings.yaml" in one.get("data", {})
        ]
        assert ("predictions" in yaml.safe_load(text)) is bool(watched)


def test_servers_that_may_be_gone_alarm_nobody() -> None:
    away = {"variants": ENDPOINT["variants"], "scaling": {"zero_after_s": 600}}
    (_, group) = rules({"digits": Endpoint.model_validate(away)}, "serving")
    (alert,) = [rule for rule in group["rules"] if rule.get("alert") == "EndpointHasNoReadyServer"]
    assert "vector(0)" not in alert["expr"]
