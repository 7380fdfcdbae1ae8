"""The cluster that `KUBECONFIG` names, else that of `make cluster`."""

import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.estate.stack import ClusterStack
from toolchain.lock import ROOT

Reach = Callable[[ClusterStack], str]


@pytest.fixture(scope="session")
def cluster() -> Path:
    """The kubeconfig of a cluster that answers and has the Gateway API."""
    path = Path(os.environ.get("KUBECONFIG") or ROOT / ".cluster" / "kubeconfig").resolve()
    why = f"there is no {path}"
    if shutil.which("kubectl") is None:
        why = "kubectl is not on PATH"
    elif path.exists():
        command = ["kubectl", "get", "gatewayclass", "envoy-gateway", "--request-timeout=10s"]
        environ = {**os.environ, "KUBECONFIG": str(path)}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return path
        why = done.stderr.strip()
    if os.environ.get("CI"):
        pytest.fail(f"no cluster to test on: {why}")
    pytest.skip(f"no cluster to test on: {why}; `make cluster` makes one, as root")


@pytest.fixture(scope="module")
def stack(cluster: Path) -> Iterator[ClusterStack]:
    """A stack of the test file's own."""
    made = ClusterStack(cluster, f"estate-{uuid.uuid4().hex[:6]}")
    yield made
    made.close()


def listens(port: int) -> bool:
    """Whether this machine takes connections on a port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def reach(cluster: Path) -> Iterator[Reach]:
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
        if "nodePort" in port and listens(port["nodePort"]):
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
