"""A real cluster: the one that `KUBECONFIG` names, else that of `make cluster`."""

import json
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from toolchain.cache import ToolError
from toolchain.cluster import binaries, layout
from toolchain.cluster.api import Kubectl

Wait = Callable[..., None]


def _kubectl_program() -> str | None:
    built = binaries.program("kubectl")
    return str(built) if built.exists() else shutil.which("kubectl")


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    """The kubeconfig of a cluster that answers."""
    path = Path(os.environ.get("KUBECONFIG") or layout.KUBECONFIG).resolve()
    program = _kubectl_program()
    if program:
        os.environ["PATH"] = os.pathsep.join([str(Path(program).parent), os.environ["PATH"]])
    why = "there is no kubectl" if program is None else f"there is no {path}"
    if program and path.exists():
        try:
            Kubectl(Path(program), path)("get", "--raw=/version", "--request-timeout=10s")
        except ToolError as error:
            why = str(error)
        else:
            return path
    message = f"no cluster to test on: {why}; `make cluster` makes one, as root"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def kubectl(kubeconfig: Path) -> Kubectl:
    """kubectl on the cluster."""
    return Kubectl(Path(str(_kubectl_program())), kubeconfig)


@pytest.fixture(scope="session")
def own_cluster(kubeconfig: Path) -> bool:
    """Whether the cluster is that of `make cluster`, whose names and images are known."""
    return kubeconfig == layout.KUBECONFIG


@pytest.fixture(scope="module")
def namespace(kubectl: Kubectl) -> Iterator[str]:
    """A namespace of the test file's own."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=true", "--timeout=120s", seconds=130)


@pytest.fixture(scope="session")
def get(kubectl: Kubectl) -> Callable[..., Any]:
    """Read objects: what `kubectl get … --output=json` tells."""
    return lambda *words: json.loads(kubectl("get", *words, "--output=json"))


@pytest.fixture(scope="session")
def until() -> Wait:
    """Wait for a condition, and say at the end what was seen instead."""

    def wait(holds: Callable[[], bool], seconds: float = 120, seen: Callable[[], object] = str) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                pytest.fail(f"not within {seconds:g} s; seen last: {seen()}")
            time.sleep(0.2)

    return wait


@pytest.fixture
def reach(
    kubectl: Kubectl, own_cluster: bool, get: Callable[..., Any]
) -> Iterator[Callable[[str, str], str]]:
    """The loopback address of a Service: its NodePort, or a tunnel where the nodes are elsewhere."""
    tunnels: list[subprocess.Popen[bytes]] = []

    def address(namespace: str, service: str) -> str:
        port = get("service", service, "--namespace", namespace)["spec"]["ports"][0]
        if own_cluster and "nodePort" in port:
            return f"127.0.0.1:{port['nodePort']}"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            local = int(probe.getsockname()[1])
        command = [*kubectl.command, "port-forward", "--namespace", namespace, f"service/{service}"]
        tunnels.append(subprocess.Popen([*command, f"{local}:{port['port']}"], stdout=subprocess.DEVNULL))
        return f"127.0.0.1:{local}"

    yield address
    for tunnel in tunnels:
        tunnel.terminate()
        tunnel.wait(10)
