"""Endpoints whose weights Flagger moves."""

import json
from typing import Any

import pytest

from components import RolloutGate
from components.spec import EstateSpec, SpecError, validate
from tests.unit.kubernetes.conftest import run

GATE = "http://rollout-gate.serving:8080"


def endpoints(**more: Any) -> dict[str, Any]:
    block = {"variants": {"blue": {"model": "s3://m/1"}}, "rollout": {"flagger": {"gate": GATE}}, **more}
    return {"digits": block}


def test_flagger_makes_the_route_and_asks_the_gate_before_each_step(recorded: Any) -> None:
    rollout = {"flagger": {"gate": GATE, "interval_s": 15}, "min_samples": 500, "alpha": 0.01}
    asked = recorded(endpoints=endpoints(rollout=rollout))
    objects = asked.objects
    assert not {kind for kind, _ in objects} & {"HTTPRoute", "GRPCRoute"}, "two owners would fight"
    spec = objects["Canary", "digits"]["spec"]
    assert spec["targetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "digits-blue"}
    assert spec["service"]["hosts"] == ["digits.models.internal"]
    (gateway,) = spec["service"]["gatewayRefs"]
    assert (gateway["name"], gateway["namespace"]) == ("gateway", "serving-test")
    analysis = spec["analysis"]
    assert (analysis["interval"], analysis["stepWeights"]) == ("15s", [1, 5, 25, 100])
    hooks = {hook["type"]: hook for hook in analysis["webhooks"]}
    assert hooks["confirm-traffic-increase"]["url"] == hooks["confirm-promotion"]["url"] == f"{GATE}/promote"
    assert hooks["rollback"]["url"] == f"{GATE}/rollback"
    told = hooks["rollback"]["metadata"]
    assert (told["endpoint"], told["target"]) == ("digits", "digits-blue")
    assert json.loads(told["rollout"]) == {"alpha": 0.01, "min_samples": 500}
    (replicas,) = [
        ignored
        for (kind, _), ignored in asked.ignored.items()
        if kind == "kubernetes:apps/v1:Deployment" and ignored == ["spec.replicas"]
    ]
    assert replicas, "Flagger scales what it copies to nothing"


def test_whom_flagger_tells(render: Any) -> None:
    alerts = {"secret": "flagger-alerts", "channel": "models"}
    objects = render(endpoints=endpoints(rollout={"flagger": {"gate": GATE, "alerts": alerts}}))
    provider = objects["AlertProvider", "digits-alerts"]["spec"]
    assert provider == {"type": "slack", "secretRef": {"name": "flagger-alerts"}, "channel": "models"}
    (alert,) = objects["Canary", "digits"]["spec"]["analysis"]["alerts"]
    assert alert["providerRef"] == {"name": "digits-alerts"}


@pytest.mark.parametrize(
    ("block", "field", "why"),
    [
        ({"rollout": {"strategy": "blue-green"}}, "rollout.strategy", "only canaries"),
        (
            {
                "variants": {"blue": {"model": "s3://m/1"}, "green": {"model": "s3://m/2"}},
                "traffic": {"blue": 100},
                "shadow": {"variant": "green", "percent": 10},
            },
            "shadow",
            "copies all requests or none",
        ),
        (
            {"rollout": {"analysis": {"golden": "golden.json"}}},
            "rollout.analysis.golden",
            "errors and latency",
        ),
        (
            {"rollout": {"analysis": {"predictions": {}}}},
            "rollout.analysis.predictions",
            "not at answers",
        ),
        ({"scaling": {"min": 1, "max": 4}}, "scaling.max", "number of replicas"),
    ],
)
def test_what_flagger_cannot_do_is_refused_with_the_way_out(block: Any, field: str, why: str) -> None:
    rollout = {"flagger": {"gate": GATE}, **block.get("rollout", {})}
    with pytest.raises(SpecError) as refused:
        validate(
            EstateSpec,
            {"platform": "kubernetes", "endpoints": endpoints(**{**block, "rollout": rollout})},
        )
    said = {".".join(map(str, path)): message for path, message in refused.value.problems}
    message = said[f"endpoints.digits.{field}"]
    assert why in message
    assert "leave `rollout.flagger` out" in message


def test_a_gate_may_read_metrics_and_nothing_else() -> None:
    objects = run(lambda: RolloutGate("rollout-gate", {"image": "estate:1", "host": "serving"})).objects
    rights = {
        (resource, verb)
        for rule in objects["Role", "rollout-gate"]["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert rights == {("pods", "get"), ("pods", "list"), ("pods/proxy", "get"), ("httproutes", "get")}
    pod = objects["Deployment", "rollout-gate"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["command"][:3] == ["estate", "rollout", "gate"]
    assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
