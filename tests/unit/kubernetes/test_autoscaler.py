"""Autoscalers: one at most, and nobody else who writes the number of replicas."""

import re
from typing import Any

import pytest

from components.arguments import ArgumentsError
from tests.unit.kubernetes.conftest import run

NAME = "digits-blue"


def stack(scaling: Any, **more: Any) -> dict[str, Any]:
    variants = {"blue": {"model": "s3://m/1"}}
    return {"endpoints": {"digits": {"variants": variants, "scaling": scaling}}, **more}


def kinds(objects: Any) -> set[str]:
    return {kind for kind, name in objects if kind in ("HorizontalPodAutoscaler", "ScaledObject")}


KEDA = {"kubernetes": {"autoscaler": "keda"}, "monitoring": {"prometheus": "http://prometheus:9090"}}


def test_a_fixed_number_of_replicas_has_no_autoscaler(render: Any) -> None:
    objects = render(**stack({"min": 3}))
    assert not kinds(objects)
    assert objects["Deployment", NAME]["spec"]["replicas"] == 3


def test_cpu_is_the_target_where_there_is_no_other(render: Any) -> None:
    spec = render(**stack({"min": 2, "max": 6}))["HorizontalPodAutoscaler", NAME]["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 6)
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME}
    (metric,) = spec["metrics"]
    assert metric["resource"]["target"] == {"type": "Utilization", "averageUtilization": 70}


def test_targets_are_those_that_were_given(render: Any) -> None:
    scaling = {"max": 4, "requests_per_second": 12.5, "latency_p99_ms": 80, "queue_length": 10}
    metrics = render(**stack(scaling))["HorizontalPodAutoscaler", NAME]["spec"]["metrics"]
    assert [(one["pods"]["metric"]["name"], one["pods"]["target"]["averageValue"]) for one in metrics] == [
        ("model_server_requests_per_second", "12500m"),
        ("model_server_latency_p99_seconds", "80m"),
        ("model_server_queue_length", "10"),
    ]
    both = render(**stack({"max": 4, "cpu_percent": 50, "queue_length": 10}))
    assert len(both["HorizontalPodAutoscaler", NAME]["spec"]["metrics"]) == 2


def test_windows_are_those_of_the_stack_file(render: Any) -> None:
    spec = render(**stack({"max": 4, "scale_up_s": 30, "scale_down_s": 0}))["HorizontalPodAutoscaler", NAME][
        "spec"
    ]
    assert spec["behavior"]["scaleUp"]["stabilizationWindowSeconds"] == 30
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 0


@pytest.mark.parametrize("more", [{}, KEDA], ids=["hpa", "keda"])
def test_there_is_one_autoscaler_and_never_two(render: Any, more: Any) -> None:
    assert len(kinds(render(**stack({"max": 4}, **more)))) == 1


def test_keda_asks_prometheus_for_this_variant_alone(render: Any) -> None:
    spec = render(**stack({"max": 4, "queue_length": 10}, **KEDA))["ScaledObject", NAME]["spec"]
    (trigger,) = spec["triggers"]
    assert trigger["metadata"] == {
        "serverAddress": "http://prometheus:9090",
        "query": 'sum(model_server_queue_length{namespace="serving-test",pod=~"digits-blue-[^-]+-[^-]+"})',
        "threshold": "10",
    }
    assert trigger["metricType"] == "AverageValue"
    assert spec["minReplicaCount"] == 1


def test_a_variant_is_not_scaled_by_another_ones_pods(render: Any) -> None:
    """The pods of `blue-2` are called digits-blue-2-…, and must not count for `blue`."""
    variants = {"blue": {"model": "s3://m/1"}, "blue-2": {"model": "s3://m/2"}}
    scaling = {"max": 4, "queue_length": 10, "zero_after_s": 60}
    one = {"variants": variants, "traffic": {"blue": 100}, "scaling": scaling}
    objects = render(endpoints={"digits": one}, **KEDA)
    asked = [one["metadata"]["query"] for one in objects["ScaledObject", NAME]["spec"]["triggers"]]
    pods = re.compile(re.search(r'pod=~"([^"]+)"', asked[0])[1])  # type: ignore[index]
    assert pods.fullmatch("digits-blue-7f9c4d5b6-x7k2p")
    assert not pods.fullmatch("digits-blue-2-7f9c4d5b6-x7k2p")
    other = objects["ScaledObject", "digits-blue-2"]["spec"]["triggers"][-1]["metadata"]["query"]
    assert "route/serving-test/digits/" in other, "the gateway counts by endpoint"


def test_work_outside_of_the_servers_can_be_the_target(render: Any) -> None:
    external = {"name": "queue_messages_ready", "labels": {"queue": "digits"}, "per_replica": 2.5}
    scaling = {"max": 4, "external": external}
    (metric,) = render(**stack(scaling))["HorizontalPodAutoscaler", NAME]["spec"]["metrics"]
    assert metric == {
        "type": "External",
        "external": {
            "metric": {"name": "queue_messages_ready", "selector": {"matchLabels": {"queue": "digits"}}},
            "target": {"type": "AverageValue", "averageValue": "2500m"},
        },
    }
    (trigger,) = render(**stack(scaling, **KEDA))["ScaledObject", NAME]["spec"]["triggers"]
    assert trigger["metadata"]["query"] == 'sum(queue_messages_ready{queue="digits"})'
    assert trigger["metadata"]["threshold"] == "2.5"


@pytest.mark.parametrize(
    ("settings", "arguments", "path"),
    [
        ({}, {"scaling": {"zero_after_s": 60}, "endpoint": "digits"}, "scaling.zero_after_s"),
        ({"autoscaler": "keda"}, {"scaling": {"max": 4, "queue_length": 1}}, "scaling:"),
        (
            {"autoscaler": "keda"},
            {"scaling": {"zero_after_s": 60}, "prometheus": "http://prometheus:9090"},
            "endpoint:",
        ),
    ],
)
def test_an_autoscaler_alone_is_checked_as_one_of_an_estate(settings: Any, arguments: Any, path: str) -> None:
    from components import Autoscaler

    args = {"service": "digits.serving", "kubernetes": settings, **arguments}
    with pytest.raises(ArgumentsError, match=path):
        run(lambda: Autoscaler("digits", args))


def test_scale_to_zero_looks_at_the_requests_that_find_nobody(render: Any) -> None:
    spec = render(**stack({"min": 2, "max": 4, "zero_after_s": 600}, **KEDA))["ScaledObject", NAME]["spec"]
    assert (spec["idleReplicaCount"], spec["minReplicaCount"], spec["cooldownPeriod"]) == (0, 2, 600)
    wake = spec["triggers"][-1]["metadata"]
    assert wake["activationThreshold"] == "0"
    assert "route/serving-test/digits/" in wake["query"]


def test_what_an_autoscaler_owns_is_left_alone(recorded: Any) -> None:
    def ignored(scaling: Any) -> list[str]:
        return list(recorded(**stack(scaling)).ignored["kubernetes:apps/v1:Deployment", NAME])

    assert ignored({"max": 4}) == ["spec.replicas"]
    assert ignored({"min": 4}) == []
