"""What the cluster runs of its own: DNS, metrics, storage, gateways, fake nodes."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Template
from typing import Any

from components.local.machine.supervisor import Supervisor
from toolchain.cache import Progress, ToolError

from . import layout
from .api import Kubectl, wait
from .commands import run
from .control_plane import program

MANIFESTS = layout.HERE / "manifests"
GATEWAYS = "envoy-gateway-system"
DEPLOYMENTS = (
    ("kube-system", "coredns"),
    ("kube-system", "metrics-server"),
    ("local-path-storage", "local-path-provisioner"),
    (GATEWAYS, "envoy-gateway"),
)
READY_SECONDS = 300


def types(kubectl: Kubectl, built: Mapping[str, Path], progress: Progress) -> None:
    """Make the types of gateways, or mend them: that needs nothing but an API server."""
    progress.phase = "the Gateway API's types"
    version = built["envoy-gateway"].parent.name
    if not _has_types(kubectl, version):
        for definitions in _types(built):
            kubectl.apply(definitions)
        kubectl.apply(_mark(version))  # last, so that a run that was killed applies them again


def install(supervisor: Supervisor, kubectl: Kubectl, built: Mapping[str, Path], progress: Progress) -> None:
    """Make all the rest, or mend it; do not wait until it is ready."""
    for name in ("coredns", "metrics-server", "storage"):
        progress.phase = name
        kubectl.apply(manifest(name))
    progress.phase = "envoy-gateway"
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": GATEWAYS}})
    _certificates(kubectl, built)
    _wait_for_types(kubectl)
    kubectl.apply(manifest("envoy-gateway"))
    progress.phase = "kwok"
    stages = sorted(built["kwok"].parent.glob("files/*.yaml"))  # how it plays a node's and a pod's life
    words = [f"--config={file}" for file in stages]
    supervisor.run(program("kwok", built["kwok"], _kwok(), *words))


def manifest(name: str) -> str:
    """Return a manifest with the cluster's addresses and names filled in."""
    return Template((MANIFESTS / f"{name}.yaml").read_text()).substitute(
        node=layout.NODE,
        domain=layout.DOMAIN,
        dns_ip=layout.DNS_IP,
        volumes=layout.VOLUMES,
        registry="docker.io/serving-estate",
    )


def wait_until_ready(kubectl: Kubectl) -> None:
    """Wait until all of it does its work.

    Raises:
        ToolError: a part does not become ready; the message names it and says what the cluster says of it.
    """
    for namespace, name in DEPLOYMENTS:
        wait(
            f"{name} is not ready",
            lambda namespace=namespace, name=name: _available(kubectl, namespace, name),  # type: ignore[misc]
            READY_SECONDS,
            lambda namespace=namespace: _events(kubectl, namespace),  # type: ignore[misc]
        )
    wait(
        "the metrics API does not answer",
        lambda: _succeeds(kubectl, "get", "--raw=/apis/metrics.k8s.io/v1beta1/nodes"),
        READY_SECONDS,
        lambda: _events(kubectl, "kube-system"),
    )
    accepted = '--output=jsonpath={.status.conditions[?(@.type=="Accepted")].status}'
    wait(
        "the GatewayClass envoy-gateway is not accepted",
        lambda: kubectl("get", "gatewayclass", "envoy-gateway", accepted) == "True",
        READY_SECONDS,
        lambda: _events(kubectl, GATEWAYS),
    )


def _types(built: Mapping[str, Path]) -> Iterator[str]:
    """The Gateway API's types and Envoy Gateway's, of the chart in its module; lines of the template go."""
    for file in sorted(built["envoy-gateway"].parent.glob("files/*.yaml")):
        yield "\n".join(line for line in file.read_text().splitlines() if not line.startswith("{{"))


def _mark(version: str) -> dict[str, Any]:
    name = {"name": "gateway-types", "namespace": "kube-system"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": name, "data": {"from": version}}


def _has_types(kubectl: Kubectl, version: str) -> bool:
    """Say whether this very version's types are there: to apply them takes seconds."""
    path = "--output=jsonpath={.data.from}"
    told = kubectl("get", "configmap", "gateway-types", "--namespace=kube-system", "--ignore-not-found", path)
    return told == version


def _wait_for_types(kubectl: Kubectl) -> None:
    kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s", seconds=70)


def _certificates(kubectl: Kubectl, built: Mapping[str, Path]) -> None:
    """Make the certificates under which the controller and its proxies talk, unless they are there."""
    if _succeeds(kubectl, "get", "secret", "envoy-gateway", f"--namespace={GATEWAYS}"):
        return
    run(
        "env",
        f"KUBECONFIG={layout.KUBECONFIG}",
        f"ENVOY_GATEWAY_NAMESPACE={GATEWAYS}",
        f"KUBERNETES_CLUSTER_DOMAIN={layout.DOMAIN}",
        built["envoy-gateway"],
        "certgen",
        "--disable-topology-injector",
    )


def _kwok() -> dict[str, object]:
    """Nodes with the annotation are faked; others are left alone."""
    return {
        "kubeconfig": layout.KUBECONFIG,
        "manage-all-nodes": False,
        "manage-nodes-with-annotation-selector": "kwok.x-k8s.io/node=fake",
        "node-ip": layout.NODE_IP,
        "node-port": layout.KWOK_PORT,
        "server-address": f"{layout.NODE_IP}:{layout.KWOK_PORT}",
        "node-lease-duration-seconds": 40,
    }


def _available(kubectl: Kubectl, namespace: str, name: str) -> bool:
    found = json.loads(kubectl("get", "deployment", name, f"--namespace={namespace}", "--output=json"))
    status = found.get("status", {})
    return bool(
        status.get("observedGeneration") == found["metadata"]["generation"]
        and status.get("updatedReplicas", 0) >= 1
        and status.get("availableReplicas", 0) >= 1
    )


def _succeeds(kubectl: Kubectl, *arguments: str) -> bool:
    try:
        kubectl(*arguments)
    except ToolError:
        return False
    return True


def _events(kubectl: Kubectl, namespace: str) -> str:
    """Return the pods of a namespace and its last warnings."""
    pods = kubectl("get", "pods", f"--namespace={namespace}")
    warnings = kubectl("get", "events", f"--namespace={namespace}", "--field-selector=type=Warning")
    return f"\n{pods}{chr(10).join(warnings.splitlines()[-6:])}"
