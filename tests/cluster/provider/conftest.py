"""A cluster, and stacks on it: what KUBECONFIG names, else the one that this checkout has running."""

import os
import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.provider import kubeconfig as kubeconfigs
from tests.cluster.provider.api import Api
from tests.cluster.provider.errors import ApiError, Unreachable
from tests.cluster.provider.stack import Stack
from toolchain.lock import ROOT


@pytest.fixture(scope="session")
def kubeconfig() -> str:
    """The path of the kubeconfig of a cluster that answers."""
    path = os.environ.get("KUBECONFIG") or str(ROOT / ".cluster" / "kubeconfig")
    try:
        cluster = kubeconfigs.find(path)
        Api(cluster, threading.Event()).get("/version")
    except Unreachable as error:
        pytest.skip(f"needs a cluster: {error}")
    return path


@pytest.fixture(scope="session")
def api(kubeconfig: str) -> Api:
    """The cluster's API server, past Pulumi."""
    return Api(kubeconfigs.find(kubeconfig), threading.Event())


@pytest.fixture(scope="session")
def image() -> str:
    """An image that the cluster's nodes have, with a shell."""
    return os.environ.get("TEST_IMAGE", "docker.io/serving-estate/busybox:dev")


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    """A namespace of the test's own, removed with all that is in it."""
    name = f"provider-{secrets.token_hex(4)}"
    api.request("POST", "/api/v1/namespaces", None, {"metadata": {"name": name}})
    yield name
    api.request("DELETE", f"/api/v1/namespaces/{name}", None, {"propagationPolicy": "Background"})


@pytest.fixture
def new_stack(tmp_path: Path, kubeconfig: str, namespace: str, api: Api) -> Callable[[], Stack]:
    """Makes stacks that nobody else has."""

    def make() -> Stack:
        return Stack(tmp_path / secrets.token_hex(4), kubeconfig, namespace, api)

    return make


@pytest.fixture
def stack(new_stack: Callable[[], Stack]) -> Stack:
    """A stack that nobody else has."""
    return new_stack()


@pytest.fixture
def gone(api: Api) -> Callable[[str], bool]:
    """Says whether nothing is at a path of the API server."""

    def check(path: str) -> bool:
        try:
            api.get(path)
        except ApiError as error:
            return error.code == 404
        return False

    return check
