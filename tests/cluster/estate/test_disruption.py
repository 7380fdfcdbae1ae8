"""Replicas that come and go under load: no request may be lost, and every answer must be right."""

import json
from collections.abc import Callable

import pytest

from tests.cluster.estate.conftest import light_blocks
from tests.cluster.estate.stack import ClusterStack
from tests.cluster.estate.tiny import ENDPOINT
from tests.cluster.estate.traffic import faults, load, until

NAME = f"{ENDPOINT}-blue"


@pytest.fixture(scope="module")
def gateway(light: ClusterStack, models: str, reach: Callable[[ClusterStack], str]) -> str:
    """The gateway of an endpoint with three replicas."""
    light.configure(**light_blocks(models, {"min": 3}))
    light.up()
    return reach(light)


def replicas(stack: ClusterStack) -> int:
    status = stack.kubectl("get", "deployment", NAME)["status"]
    return int(status.get("availableReplicas", 0))


def steady(stack: ClusterStack, number: int) -> bool:
    """Whether so many replicas are available, and no others are left."""
    return replicas(stack) == number == len(stack.pods(NAME))


def test_evictions_one_after_the_other_lose_nothing(light: ClusterStack, gateway: str) -> None:
    """What `kubectl drain` does to a node with all replicas on it, as far as their budget lets it."""

    def evicted(pod: str) -> bool:
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": light.namespace},
        }
        path = f"/api/v1/namespaces/{light.namespace}/pods/{pod}/eviction"
        try:
            light.run("create", f"--raw={path}", "--filename=-", stdin=json.dumps(eviction))
        except AssertionError as refused:
            if "disruption budget" not in str(refused):
                raise
            return False
        return True

    with load(gateway) as answers:
        for pod in light.pods(NAME):
            until(lambda name=pod["metadata"]["name"]: evicted(name))  # type: ignore[misc]
        until(lambda: steady(light, 3))
    assert faults(answers) == []
    assert set(answers) == {(2, "blue")}


def test_a_restart_and_a_killed_pod_lose_nothing(light: ClusterStack, gateway: str) -> None:
    with load(gateway) as answers:
        light.run("rollout", "restart", f"deployment/{NAME}")
        light.run("rollout", "status", f"deployment/{NAME}", "--timeout=120s")
        until(lambda: steady(light, 3))
        killed = light.pods(NAME)[0]["metadata"]["name"]
        light.run("delete", "pod", killed, "--grace-period=0", "--force")
        until(lambda: steady(light, 3))
    assert faults(answers) == []
    assert set(answers) == {(2, "blue")}


def test_fewer_replicas_lose_nothing(light: ClusterStack, gateway: str, models: str) -> None:
    light.configure(**light_blocks(models, {"min": 1}))
    with load(gateway) as answers:
        light.up()
        until(lambda: steady(light, 1))
    assert faults(answers) == []
    assert set(answers) == {(2, "blue")}


def test_replicas_follow_the_load_and_pulumi_leaves_them_alone(
    light: ClusterStack, gateway: str, models: str
) -> None:
    scaling = {"min": 1, "max": 2, "cpu_percent": 50, "scale_down_s": 0}
    light.configure(**light_blocks(models, scaling))
    light.up()
    with load(gateway, clients=4, pause=0.001) as answers:
        until(lambda: replicas(light) == 2, 120, lambda: light.run("describe", "hpa", NAME))
        light.up("--expect-no-changes")
    assert faults(answers) == []
    with load(gateway, clients=1, pause=0.2) as answers:
        until(lambda: steady(light, 1), 180, lambda: light.run("describe", "hpa", NAME))
    assert faults(answers) == []
