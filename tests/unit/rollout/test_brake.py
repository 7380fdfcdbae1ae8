"""The brake of a cluster: requests are taken from a variant before the stack says so."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from components.kubernetes.route import grpc_rules, http_rules
from components.kubernetes.weights import divided
from components.spec import Endpoint, GatewaySettings, validate
from stacks.rollout.cluster import brake as brakes
from stacks.rollout.cluster.brake import ClusterBrake, weighted
from tests.unit.rollout.fake_cluster import FakeApi

ROUTES = "/apis/gateway.networking.k8s.io/v1/namespaces/shop"
ENDPOINT = validate(
    Endpoint,
    {
        "variants": {"blue": {"model": "s3://m/1"}, "green": {"model": "s3://m/2"}},
        "traffic": {"blue": 100},
        "rollout": {},
    },
)
SERVICES = {"blue": "tiny-blue", "green": "tiny-green"}


class Cluster:
    def __init__(self) -> None:
        self.api = FakeApi()
        self.ran(blue=75, green=25)

    def ran(self, **weights: int) -> None:
        """As a run of the engine does."""
        now = divided(ENDPOINT, weights)
        rules = {
            "httproutes": [*http_rules("tiny", SERVICES, now, GatewaySettings())],
            "grpcroutes": [*grpc_rules(SERVICES, now, GatewaySettings())],
        }
        for kind, made in rules.items():
            fields = {"operation": "Apply", "manager": "pulumi-1", "fieldsV1": {"f:spec": {"f:rules": {}}}}
            meta = {"name": "tiny", "namespace": "shop", "managedFields": [fields], "resourceVersion": "1"}
            route = {"apiVersion": "v1", "kind": kind, "metadata": meta, "spec": {"rules": made}}
            self.api.objects[f"{ROUTES}/{kind}/tiny"] = route

    def pins(self) -> list[Any]:
        rules = self.api.objects[f"{ROUTES}/httproutes/tiny"]["spec"]["rules"]
        return [rule for rule in rules if any(match.get("headers") for match in rule.get("matches", []))]

    def green(self) -> set[int]:
        """The share of green, of each route."""
        found = set()
        for kind in ("httproutes", "grpcroutes"):
            rule = weighted(self.api.objects[f"{ROUTES}/{kind}/tiny"])
            assert rule is not None
            total = sum(one["weight"] for one in rule["backendRefs"])
            green = sum(one["weight"] for one in rule["backendRefs"] if one["name"] == "tiny-green")
            found.add(round(100 * green / total))
        return found


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr(brakes, "_LOOK_S", 0.01)
    return Cluster()


@pytest.fixture
def brake(cluster: Cluster) -> Iterator[ClusterBrake]:
    made = ClusterBrake(cluster.api, "shop", "tiny", lambda: (ENDPOINT, GatewaySettings()))
    yield made
    made.release()


def until(true: Any) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_both_routes_are_written_as_their_owner_writes_them(cluster: Cluster, brake: ClusterBrake) -> None:
    pins = cluster.pins()
    brake.pull({"blue": 100, "green": 0}, [])
    assert cluster.green() == {0}
    assert cluster.api.applied == [("httproutes", "pulumi-1"), ("grpcroutes", "pulumi-1")]
    assert cluster.pins() == pins


def test_a_run_that_was_under_way_does_not_undo_it(cluster: Cluster, brake: ClusterBrake) -> None:
    brake.pull({"blue": 100, "green": 0}, [{"blue": 50, "green": 50}])
    cluster.ran(blue=50, green=50)
    until(lambda: cluster.green() == {0})
    brake.release()
    cluster.ran(blue=50, green=50)
    time.sleep(0.05)  # longer than it takes to look twice
    assert cluster.green() == {50}, "from now on it is meant"


def test_weights_that_somebody_sets_by_hand_are_theirs(cluster: Cluster, brake: ClusterBrake) -> None:
    brake.pull({"blue": 100, "green": 0}, [{"blue": 50, "green": 50}])
    cluster.ran(blue=90, green=10)
    time.sleep(0.05)
    assert cluster.green() == {10}
