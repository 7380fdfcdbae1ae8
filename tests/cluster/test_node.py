"""The cluster itself: what everything else on it counts on."""

import base64
import json
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from toolchain.cluster.api import Kubectl

REGISTRY = "docker.io/serving-estate"
SQUARE = {"blue": 1, "green": 2}
"""Variants by the number that they multiply squares with, so that an answer tells who gave it."""


def model(factor: int, folder: Path) -> bytes:
    """The model y = factor * x * x."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 3]) for name in "xy")
    nodes = [helper.make_node("Mul", ["x", "x"], ["s"]), helper.make_node("Mul", ["s", "factor"], ["y"])]
    weights = [helper.make_tensor("factor", TensorProto.FLOAT, [], [factor])]
    graph = helper.make_graph(nodes, "square", [x], [y], weights)
    file = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), file)
    return file.read_bytes()


def server(variant: str, content: bytes) -> list[dict[str, Any]]:
    """A model server of the real image, as locked down as a cluster allows."""
    labels = {"app": variant}
    settings = {
        "server": {"drain_seconds": 2},
        "models": [{"name": "square", "source": "/models/square.onnx"}],
    }
    container = {
        "name": "server",
        "image": f"{REGISTRY}/model-server:dev",
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {
            "httpGet": {"path": "/v2/health/ready", "port": 8080},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
        },
        "resources": {"requests": {"cpu": "20m", "memory": "100Mi"}},
        "securityContext": {
            "runAsNonRoot": True,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "files", "mountPath": "/etc/model-server/settings.yaml", "subPath": "settings.yaml"},
            {"name": "files", "mountPath": "/models/square.onnx", "subPath": "square.onnx"},
        ],
    }
    volumes = [{"name": "tmp", "emptyDir": {}}, {"name": "files", "configMap": {"name": variant}}]
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [container], "volumes": volumes, "automountServiceAccountToken": False},
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": variant},
            "data": {"settings.yaml": json.dumps(settings)},
            "binaryData": {"square.onnx": base64.b64encode(content).decode()},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": variant},
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": variant},
            "spec": {"type": "NodePort", "selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
        },
    ]


def ask(address: str) -> float:
    """The first number of the answer to [3, 1, 2], which is the variant's factor times 9."""
    body = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [3, 1, 2]}]}
    url = f"http://{address}/v2/models/square/infer"
    with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=30) as response:
        return float(json.load(response)["outputs"][0]["data"][0])


def answers(address: str) -> bool:
    try:
        ask(address)
    except (OSError, urllib.error.URLError):
        return False
    return True


def rolled_out(kubectl: Kubectl, namespace: str, name: str) -> None:
    kubectl(
        "rollout", "status", f"deployment/{name}", "--namespace", namespace, "--timeout=240s", seconds=250
    )


def applied(kubectl: Kubectl, namespace: str, *objects: dict[str, Any]) -> None:
    for each in objects:
        each["metadata"]["namespace"] = namespace
    kubectl.apply(*objects)


@pytest.fixture(scope="module")
def servers(kubectl: Kubectl, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Both variants, ready; the namespace that they are in."""
    for variant, factor in SQUARE.items():
        applied(kubectl, namespace, *server(variant, model(factor, tmp_path_factory.mktemp(variant))))
    for variant in SQUARE:
        rolled_out(kubectl, namespace, variant)
    return namespace


def busybox(name: str, *command: str) -> dict[str, Any]:
    container = {"name": name, "image": f"{REGISTRY}/busybox:dev", "command": list(command)}
    spec = {"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def test_a_service_answers_with_a_prediction(
    servers: str, reach: Callable[[str, str], str], until: Callable[..., None]
) -> None:
    for variant, factor in SQUARE.items():
        address = reach(servers, variant)
        until(lambda address=address: answers(address), 30)
        assert ask(address) == 9 * factor


def test_a_pod_finds_a_service_by_name_and_logs_and_exec_work(
    kubectl: Kubectl, servers: str, get: Callable[..., Any], until: Callable[..., None]
) -> None:
    url = f"http://blue.{servers}.svc.cluster.local/v2/health/ready"
    applied(kubectl, servers, busybox("asks", "sh", "-c", f"wget -q -O - {url} && echo found && sleep 600"))

    def log() -> str:
        phase = get("pod", "asks", "--namespace", servers)["status"]["phase"]
        return kubectl("logs", "asks", "--namespace", servers) if phase in ("Running", "Failed") else phase

    until(lambda: "found" in log(), 60, log)
    inside = kubectl("exec", "asks", "--namespace", servers, "--", "cat", "/etc/resolv.conf")
    assert f"search {servers}.svc.cluster.local" in inside


def test_a_route_gives_each_variant_its_share_on_loopback(
    kubectl: Kubectl,
    servers: str,
    get: Callable[..., Any],
    reach: Callable[[str, str], str],
    until: Callable[..., None],
) -> None:
    listener = {"name": "http", "port": 8080, "protocol": "HTTP"}
    backends = [
        {"group": "", "kind": "Service", "name": variant, "port": 80, "weight": weight}
        for variant, weight in {"blue": 90, "green": 10}.items()
    ]
    api = {"apiVersion": "gateway.networking.k8s.io/v1"}
    gateway = {"gatewayClassName": "envoy-gateway", "listeners": [listener]}
    route = {"parentRefs": [{"name": "square"}], "rules": [{"backendRefs": backends}]}
    applied(
        kubectl,
        servers,
        {**api, "kind": "Gateway", "metadata": {"name": "square"}, "spec": gateway},
        {**api, "kind": "HTTPRoute", "metadata": {"name": "square"}, "spec": route},
    )

    def proxies() -> list[dict[str, Any]]:
        owner = "gateway.envoyproxy.io/owning-gateway-namespace"
        return list(get("service", "--all-namespaces", "--selector", f"{owner}={servers}")["items"])

    until(lambda: bool(proxies()), 60, lambda: kubectl("describe", "gateway", "--namespace", servers))
    proxy = proxies()[0]["metadata"]
    address = reach(proxy["namespace"], proxy["name"])
    until(lambda: answers(address), 120, lambda: kubectl("describe", "gateway,httproute", "-n", servers))
    asked = 1000
    counts = Counter(ask(address) for _ in range(asked))
    assert set(counts) == {9.0, 18.0}
    three_sigma = 3 * (asked * 0.9 * 0.1) ** 0.5
    assert abs(counts[18.0] - 0.1 * asked) <= three_sigma


def test_a_database_keeps_its_rows_when_its_pod_is_replaced(
    kubectl: Kubectl, namespace: str, get: Callable[..., Any]
) -> None:
    container = {
        "name": "postgres",
        "image": f"{REGISTRY}/postgres:dev",
        "imagePullPolicy": "IfNotPresent",
        "env": [
            {"name": "POSTGRES_PASSWORD", "value": "for a test"},
            {"name": "POSTGRES_DB", "value": "rows"},
            {"name": "PGDATA", "value": "/data/pgdata"},
        ],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "readinessProbe": {"exec": {"command": ["pg_isready", "-h", "127.0.0.1"]}, "timeoutSeconds": 10},
    }
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "100Mi"}}}
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    labels = {"app": "postgres"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container], "volumes": [volume]}}
    spec = {"selector": {"matchLabels": labels}, "strategy": {"type": "Recreate"}, "template": template}
    applied(
        kubectl,
        namespace,
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": claim},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "postgres"}, "spec": spec},
    )
    rolled_out(kubectl, namespace, "postgres")

    def sql(text: str) -> str:
        psql = ["psql", "-h", "/tmp", "-U", "postgres", "-d", "rows", "-tAc", text]
        return kubectl("exec", "deployment/postgres", "--namespace", namespace, "--", *psql).strip()

    sql("create table kept as select 42 as number")
    before = get("pods", "--namespace", namespace, "--selector=app=postgres")["items"][0]["metadata"]["name"]
    kubectl("delete", "pod", before, "--namespace", namespace)
    rolled_out(kubectl, namespace, "postgres")
    assert sql("select number from kept") == "42"


def test_what_a_pod_uses_is_measured(
    kubectl: Kubectl, servers: str, get: Callable[..., Any], until: Callable[..., None]
) -> None:
    def used() -> list[str]:
        told = json.loads(kubectl("get", "--raw", f"/apis/metrics.k8s.io/v1beta1/namespaces/{servers}/pods"))
        return [
            container["usage"]["memory"]
            for pod in told["items"]
            if pod["metadata"].get("labels", {}).get("app") in SQUARE
            for container in pod["containers"]
        ]

    until(lambda: len(used()) == len(SQUARE), 60, used)
    assert all(not memory.startswith("0") for memory in used())


def test_fake_nodes_take_gpu_pods_that_the_real_node_cannot(
    kubectl: Kubectl, own_cluster: bool, namespace: str, get: Callable[..., Any], until: Callable[..., None]
) -> None:
    if not own_cluster:
        pytest.skip("the fake nodes are those of `make cluster`")
    names = [f"{namespace}-{number}" for number in range(20)]
    resources = {"cpu": "32", "memory": "256Gi", "pods": "110", "nvidia.com/gpu": "8"}
    nodes = [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "annotations": {"kwok.x-k8s.io/node": "fake"},
                "labels": {"test": namespace},
            },
            "spec": {"taints": [{"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}]},
            "status": {"capacity": resources, "allocatable": resources},
        }
        for name in names
    ]
    pod = busybox("wants-a-gpu", "sleep", "600")
    pod["spec"]["tolerations"] = [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}]
    pod["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "1"}}
    try:
        kubectl("create", "--filename=-", given="\n---\n".join(json.dumps(node) for node in nodes))
        applied(kubectl, namespace, pod)

        def placed() -> tuple[str, str]:
            found = get("pod", "wants-a-gpu", "--namespace", namespace)
            return found["spec"].get("nodeName", ""), found["status"]["phase"]

        until(lambda: placed()[1] == "Running", 60, placed)
        assert placed()[0] in names
    finally:
        kubectl(
            "delete", "pod", "wants-a-gpu", "--namespace", namespace, "--ignore-not-found", "--wait=false"
        )
        kubectl("delete", "nodes", "--selector", f"test={namespace}")
