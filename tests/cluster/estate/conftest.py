"""Estates on the cluster that the tests use."""

import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.estate import files
from tests.cluster.estate.stack import ClusterStack
from tests.cluster.estate.tiny import ENDPOINT, model, seed
from tests.cluster.estate.traffic import until
from toolchain.cluster.api import Kubectl

Reach = Callable[[ClusterStack], str]
FACTORS = (2, 3, 5)
RESOURCES = {"cpu": 0.05, "memory_mib": 384, "cache_gib": 1}
KUBERNETES = {"startup_s": 30, "drain_s": 5}
SOON_S = 120
"""A minute on a machine that does nothing else, where `startup_s` is most of it."""


@pytest.fixture(scope="session")
def cluster(kubeconfig: Path, kubectl: Kubectl) -> Path:
    """The kubeconfig of a cluster that answers and has the Gateway API."""
    kubectl("get", "gatewayclass", "envoy-gateway", "--request-timeout=10s")
    return kubeconfig


@pytest.fixture(scope="session")
def stack(cluster: Path) -> Iterator[ClusterStack]:
    """The estate with a registry of its own."""
    made = ClusterStack(cluster, f"estate-{uuid.uuid4().hex[:6]}")
    yield made
    made.close()


@pytest.fixture(scope="module")
def light(cluster: Path) -> Iterator[ClusterStack]:
    """An estate without a registry."""
    made = ClusterStack(cluster, f"light-{uuid.uuid4().hex[:6]}")
    yield made
    made.close()


def blocks(models: dict[str, int], traffic: dict[str, int], replicas: int = 1, **more: Any) -> dict[str, Any]:
    """The stack file of the estate with a registry.

    Args:
        models: the version of the model that each variant serves.
        traffic: the variants' shares.
        replicas: of each variant.
        more: further fields of the endpoint.
    """
    variants = {name: {"model": f"models:/{ENDPOINT}/{version}"} for name, version in models.items()}
    endpoint = {
        "variants": variants,
        "traffic": traffic,
        "scaling": {"min": replicas},
        "resources": RESOURCES,
        **more,
    }
    return {
        "registry": {"seed": seed(FACTORS), "storage_gib": 1},
        "endpoints": {ENDPOINT: endpoint},
        "kubernetes": KUBERNETES,
    }


@pytest.fixture(scope="module")
def models(cluster: Path, light: ClusterStack) -> Iterator[str]:
    """The address of a folder of models in the cluster."""
    namespace = f"files-{uuid.uuid4().hex[:6]}"
    light.run("create", "namespace", namespace)
    yield files.serve(cluster, namespace, {"2.onnx": model(2)})
    light.run("delete", "namespace", namespace, "--wait=false")


def light_blocks(models: str, scaling: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The stack file of an estate without a registry: one variant of the model in that folder."""
    endpoint = {
        "variants": {"blue": {"model": f"{models}/2.onnx"}},
        "scaling": scaling,
        "resources": {**RESOURCES, "cpu_limit": 1.0},
        **more,
    }
    return {"endpoints": {ENDPOINT: endpoint}, "kubernetes": KUBERNETES}


@pytest.fixture(scope="session")
def gateway(stack: ClusterStack, reach: Callable[[ClusterStack], str]) -> str:
    """The gateway of the estate, which has two variants at first."""
    stack.configure(**blocks({"blue": 1, "green": 2}, {"blue": 90, "green": 10}))
    stack.up()
    return reach(stack)


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a machine takes connections on a port."""
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def reach(cluster: Path, own_cluster: bool) -> Iterator[Reach]:
    """`host:port` of a stack's gateway: its NodePort where this machine is the node, else a tunnel.

    A tunnel ends with any connection that breaks, so it is no way to count lost requests.
    """
    tunnels: list[subprocess.Popen[str]] = []

    def address(stack: ClusterStack) -> str:
        labels = (
            "gateway.envoyproxy.io/owning-gateway-name=gateway,"
            f"gateway.envoyproxy.io/owning-gateway-namespace={stack.namespace}"
        )
        service = stack.kubectl("get", "service", "--all-namespaces", "--selector", labels)["items"][0]
        (port,) = service["spec"]["ports"]
        if "nodePort" in port:
            if own_cluster:  # a proxy that has just started may not be known to the node yet
                until(lambda: listens(port["nodePort"]), 60, lambda: f"nobody at {port['nodePort']}")
            if listens(port["nodePort"]):
                return f"127.0.0.1:{port['nodePort']}"
        place, name = service["metadata"]["namespace"], service["metadata"]["name"]
        command = ["kubectl", "port-forward", "--namespace", place, f"service/{name}", f":{port['port']}"]
        tunnel = subprocess.Popen(command, env=stack.env, stdout=subprocess.PIPE, text=True)
        tunnels.append(tunnel)
        assert tunnel.stdout is not None
        told = tunnel.stdout.readline()  # Forwarding from 127.0.0.1:40001 -> 10080
        return told.split(" -> ")[0].split()[-1]

    yield address
    for tunnel in tunnels:
        tunnel.terminate()
        tunnel.wait(10)
