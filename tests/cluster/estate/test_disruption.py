"""Replicas that come and go under load: no request may be lost, and every answer must be right.

The estate is first asked for on a cluster that lacks what it needs, and goes on from there.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cluster.estate.conftest import KUBERNETES, SOON_S, light_blocks
from tests.cluster.estate.stack import ClusterStack
from tests.cluster.estate.tiny import ENDPOINT
from tests.cluster.estate.traffic import faults, load, until
from tests.cluster.estate.without import without

NAME = f"{ENDPOINT}-blue"
IMPATIENT = {**KUBERNETES, "startup_s": 12}
"""Enough to find that an image is not there."""
# Both fail at once on every network; a name that a resolver or a proxy is asked for may take long to fail.
NO_IMAGE = "localhost:9/serving-estate/none:dev"
NO_REGISTRY = "registry.nowhere.svc.cluster.local.:5000"


class Failed(NamedTuple):
    """An update that could not be."""

    said: str
    seconds: float


def failed_up(stack: ClusterStack, wanted: dict[str, Any]) -> Failed:
    """An update that has to fail."""
    stack.configure(**wanted)
    began = time.monotonic()
    said = stack.up(check=False)
    return Failed(said, time.monotonic() - began)


@pytest.fixture(scope="module")
def lacking(
    light: ClusterStack, models: str, cluster: Path, tmp_path_factory: pytest.TempPathFactory
) -> Failed:
    """The first update: no Gateway API, and an image that is not there."""
    wanted = light_blocks(models, {"min": 1})
    wanted["kubernetes"] = {"images": {"model_server": NO_IMAGE}, **IMPATIENT}
    with without("gateway.networking.k8s.io", cluster, tmp_path_factory.mktemp("lacking")) as without_it:
        light.env["KUBECONFIG"] = str(without_it)
        failed = failed_up(light, wanted)
    light.env["KUBECONFIG"] = str(cluster)
    return failed


@pytest.fixture(scope="module")
def lost(light: ClusterStack, models: str, lacking: Failed) -> Failed:
    """The second one: a variant beside it whose registry cannot be reached."""
    wanted = light_blocks(models, {"min": 1})
    wanted["kubernetes"] = {**KUBERNETES, "startup_s": 45}  # it tries for 20 s, and a node may be busy
    wanted["registry"] = {"uri": f"http://{NO_REGISTRY}"}
    wanted["endpoints"][ENDPOINT]["variants"]["lost"] = {"model": "models:/tiny/1", "scaling": {"min": 1}}
    wanted["endpoints"][ENDPOINT]["traffic"] = {"blue": 100}
    return failed_up(light, wanted)


@pytest.fixture(scope="module")
def gateway(light: ClusterStack, models: str, reach: Callable[[ClusterStack], str], lost: Failed) -> str:
    """The gateway of an endpoint with three replicas: the third update, of which nothing is wrong."""
    light.configure(**light_blocks(models, {"min": 3}))
    light.up()
    return reach(light)


def test_what_a_cluster_lacks_is_said_soon_and_in_so_many_words(lacking: Failed, lost: Failed) -> None:
    assert "does not serve Gateway in gateway.networking.k8s.io/v1: install" in lacking.said
    assert NO_IMAGE in lacking.said
    assert NO_REGISTRY in lost.said
    assert "tiny-lost" in lost.said
    for failed in (lacking, lost):
        assert "Traceback" not in failed.said
        assert failed.seconds < SOON_S


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
