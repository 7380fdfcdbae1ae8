"""The servers of one model: what they are in Kubernetes' words.

What may cost requests is decided here:

- A change rolls: the new replica is ready before an old one is told to stop, and an old one goes on answering
  for `drain_s`, until gateways and kube-proxies have noticed.
- Liveness is whether the port takes connections. A check over HTTP waits behind the requests of a busy
  server, and restarting a server because it is busy makes the others busier; the server itself replaces
  workers that hang.
- Settings lie in a ConfigMap that never changes: other settings are another one, with a name that Pulumi
  makes up. So old replicas keep theirs while new ones start, and a rollout that fails leaves the old ones
  as they were. A name made from the content would be taken when a failed change is taken back.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pulumi import Input, Output, Resource

from ..arguments import ArgumentsError
from ..platform import ModelService, ServerParts
from ..runtimes import Fallback, Listen, Server, server
from ..spec import Placement, Resources
from .objects import (
    NOT_AWAITED,
    Manifest,
    checked_name,
    environment_from,
    labels_of,
    make,
    meta,
    safe_container,
    safe_pod,
    unnamed,
    whenever,
)
from .registry import login_environment

APP = "model-server"
PORTS = {"http": 8080, "grpc": 8081}
_PROTOCOLS = {"http": "http", "grpc": "kubernetes.io/h2c"}
_USER = 65532
_IN_IMAGE = "oci://"
_MODEL_PLACE = "/mnt/model"
_SHUTDOWN_S = 30  # how long requests under way may take after the drain: `Server.stop_seconds`


def model_server(name: str, host: Input[str], service: ModelService, parent: Resource) -> ServerParts:
    """A Deployment with all that belongs to it."""
    checked_name("ModelServer", name)
    cluster = service.kubernetes
    runs = whenever(
        (service.model, service.served_name, service.registry), lambda *told: run(service, *map(str, told))
    )
    settings = make(f"{name}-settings", settings_map(name, host, runs), parent)
    settings_name = settings.metadata.apply(lambda made: str(made["name"]))
    account = make(name, service_account(name, host, cluster.identity or {}), parent)
    front = make(name, service_object(name, host, service.labels), parent)
    make(name, network_policy(name, host, service.kubernetes.callers), parent)
    deployed = make(
        name,
        deployment(name, host, service, settings_name),
        parent,
        after=[account],
        ignore=["spec.replicas"] if service.scaling.autoscaled or service.replicas_are_owned else (),
        timeout_s=(cluster.startup_s or 300) + 60,
    )
    if service.replicas > 1 or service.scaling.autoscaled:
        make(name, disruption_budget(name, host), parent)
    found = Output.all(deployed.urn, front.urn, host).apply(lambda all_: f"{name}.{all_[2]}")
    return ServerParts(found, found.apply(lambda at: [f"http://{at}.svc:{PORTS['http']}"]))


def mounted_image(model: Input[str]) -> str | None:
    """The image that holds a model, where its address says so."""
    return model.removeprefix(_IN_IMAGE) if isinstance(model, str) and model.startswith(_IN_IMAGE) else None


def run(service: ModelService, model: str, served_name: str, registry: str) -> Server:
    """How the runtime's server is started in a container.

    Raises:
        ArgumentsError: the model is in an image, and that was not known when volumes were decided on.
    """
    if mounted_image(model):
        if isinstance(service.model, Output):
            raise ArgumentsError(
                f"ModelServer {served_name}",
                [(("model",), f"`{model}` is mounted, so it must be known before anything is made")],
            )
        model = _MODEL_PLACE
    drain_s = float(service.kubernetes.drain_s or 8)
    listen = Listen("0.0.0.0", drain_s, service.tells_answers)  # noqa: S104  the pod's own address
    fallback = Fallback(service.fallback_rungs, service.timeout_ms / 1000)
    return server(service.runtime, model, served_name, registry, listen, fallback, service.counts_predictions)


def settings_files(told: Server) -> dict[str, str]:
    """The settings files with the ports that every container listens on."""
    files = {}
    for file, text in told.files.items():
        for port, number in PORTS.items():
            text = text.replace(f"@{port}@", str(number))
        files[file] = text
    return files


def settings_map(name: str, namespace: Input[str], runs: Input[Server]) -> Manifest:
    """The settings files."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": unnamed(namespace, labels_of(APP, name)),
        "immutable": True,
        "data": whenever((runs,), settings_files),
    }


def service_account(name: str, namespace: Input[str], identity: Mapping[str, str]) -> Manifest:
    """Who the servers are to the cloud; to the cluster they are nobody."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": meta(name, namespace, labels_of(APP, name), identity),
        "automountServiceAccountToken": False,
    }


def service_object(name: str, namespace: Input[str], labels: Mapping[str, str]) -> Manifest:
    """The address of the servers inside the cluster."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta(name, namespace, {**labels_of(APP, name), **labels}, NOT_AWAITED),
        "spec": {
            "type": "ClusterIP",
            "selector": labels_of(APP, name),
            "ports": [
                {
                    "name": port,
                    "port": number,
                    "targetPort": port,
                    "protocol": "TCP",
                    "appProtocol": _PROTOCOLS[port],
                }
                for port, number in PORTS.items()
            ],
        },
    }


def network_policy(name: str, namespace: Input[str], callers: Sequence[str] | None) -> Manifest:
    """Nothing but the two ports is reached, by the pods of its own namespace and of `callers`; by all where
    none are named."""
    rule: Manifest = {"ports": [{"protocol": "TCP", "port": port} for port in PORTS]}
    if callers:
        named = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": sorted(callers)}
        rule["from"] = [{"podSelector": {}}, {"namespaceSelector": {"matchExpressions": [named]}}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": meta(name, namespace, labels_of(APP, name)),
        "spec": {
            "podSelector": {"matchLabels": labels_of(APP, name)},
            "policyTypes": ["Ingress"],
            "ingress": [rule],
        },
    }


def disruption_budget(name: str, namespace: Input[str]) -> Manifest:
    """One replica at a time may be taken away; those that are not ready hold no drain of a node up."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": meta(name, namespace, labels_of(APP, name)),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": labels_of(APP, name)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def deployment(name: str, namespace: Input[str], service: ModelService, settings: Input[str]) -> Manifest:
    """The servers.

    Args:
        name: of the Deployment.
        namespace: where it is.
        service: what it serves, and how.
        settings: the name of the ConfigMap with the settings files.
    """
    startup_s = service.kubernetes.startup_s or 300
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta(name, namespace, {**labels_of(APP, name), **service.labels}),
        "spec": {
            "replicas": service.replicas,
            "revisionHistoryLimit": 3,
            "progressDeadlineSeconds": startup_s,
            "selector": {"matchLabels": labels_of(APP, name)},
            "strategy": {
                "type": "RollingUpdate",
                # GPUs are rarely to spare: one new replica at a time is asked for.
                "rollingUpdate": {
                    "maxUnavailable": 0,
                    "maxSurge": 1 if _has_gpu(service.resources) else "25%",
                },
            },
            "template": {
                "metadata": {
                    "labels": {**labels_of(APP, name), **service.labels},
                    "annotations": {
                        "prometheus.io/scrape": "true",
                        "prometheus.io/port": str(PORTS["http"]),
                        "prometheus.io/path": "/metrics",
                    },
                },
                "spec": pod(name, service, settings),
            },
        },
    }


def pod(name: str, service: ModelService, settings: Input[str]) -> Manifest:
    """One replica."""
    cluster, resources = service.kubernetes, service.resources
    spec: Manifest = {
        "serviceAccountName": name,
        "automountServiceAccountToken": False,
        # Else every Service of the namespace becomes seven environment variables of each container.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": (cluster.drain_s or 8) + _SHUTDOWN_S + 5,
        "securityContext": safe_pod(_USER),
        "containers": [container(service)],
        "volumes": [
            {"name": "settings", "configMap": {"name": settings}},
            {"name": "cache", "emptyDir": {"sizeLimit": f"{resources.cache_gib or 10}Gi"}},
        ],
        **placed(name, service.placement, gpu=_has_gpu(resources)),
    }
    image = mounted_image(service.model)
    if image:
        volume = {"name": "model", "image": {"reference": image, "pullPolicy": "IfNotPresent"}}
        spec["volumes"].append(volume)
    if resources.gpu_claim:
        spec["resourceClaims"] = [{"name": "gpu", "resourceClaimTemplateName": resources.gpu_claim}]
    if cluster.pull_secret:
        spec["imagePullSecrets"] = [{"name": cluster.pull_secret}]
    return spec


def container(service: ModelService) -> Manifest:
    """The server itself."""
    cluster, resources = service.kubernetes, service.resources
    ready = {"httpGet": {"path": "/v2/health/ready", "port": "http"}, "timeoutSeconds": 5}
    found: Manifest = {
        "name": APP,
        "image": service.image,
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"name": port, "containerPort": number} for port, number in PORTS.items()],
        "resources": limits(resources),
        "securityContext": safe_container(),
        # What the server says when it cannot load its model is then part of the pod's state.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "startupProbe": {
            **ready,
            "periodSeconds": 2,
            "failureThreshold": max(1, (cluster.startup_s or 300) // 2),
        },
        "readinessProbe": {**ready, "periodSeconds": 2, "failureThreshold": 3},
        "livenessProbe": {
            "tcpSocket": {"port": "http"},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        "volumeMounts": [
            {"name": "settings", "mountPath": "/etc/model-server", "readOnly": True},
            {"name": "cache", "mountPath": "/tmp"},  # noqa: S108  the image's place for everything that it writes
        ],
    }
    if mounted_image(service.model):
        found["volumeMounts"].append({"name": "model", "mountPath": _MODEL_PLACE, "readOnly": True})
    secrets, login = environment_from([cluster.secret]), login_environment(service.registry_login)
    if secrets:
        found["envFrom"] = secrets
    if login:
        found["env"] = login
    return found


def limits(resources: Resources) -> Manifest:
    """What a container is given. The server sizes its threads to the CPU limit."""
    memory = f"{resources.memory_mib or 512}Mi"
    found: Manifest = {
        "requests": {"cpu": _cores(resources.cpu or 0.25), "memory": memory},
        "limits": {"cpu": _cores(resources.cpu_most), "memory": memory},
    }
    if resources.gpus or resources.mig:
        device = f"nvidia.com/mig-{resources.mig}" if resources.mig else "nvidia.com/gpu"
        for part in ("requests", "limits"):
            found[part][device] = str(resources.gpus or 1)
    if resources.gpu_claim:
        found["claims"] = [{"name": "gpu"}]
    return found


def placed(name: str, placement: Placement, *, gpu: bool) -> Manifest:
    """Where a pod may run, as fields of its spec."""
    found: Manifest = {}
    tolerations: list[dict[str, Any]] = []
    for taint in placement.tolerations or []:
        toleration = {"key": taint.key, "operator": "Exists" if taint.value is None else "Equal"}
        if taint.value is not None:
            toleration["value"] = taint.value
        if taint.effect is not None:
            toleration["effect"] = taint.effect.value
        tolerations.append(toleration)
    if gpu and not any(one["key"] == "nvidia.com/gpu" for one in tolerations):
        tolerations.append({"key": "nvidia.com/gpu", "operator": "Exists"})
    if tolerations:
        found["tolerations"] = tolerations
    if placement.node_labels:
        wanted = [
            {"key": key, "operator": "In", "values": [value]}
            for key, value in sorted(placement.node_labels.items())
        ]
        required = {"nodeSelectorTerms": [{"matchExpressions": wanted}]}
        found["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    if placement.runtime_class:
        found["runtimeClassName"] = placement.runtime_class
    if placement.priority_class:
        found["priorityClassName"] = placement.priority_class
    if placement.spread is not False:
        found["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": labels_of(APP, name)},
                # Of the old and the new generation each is spread for itself.
                "matchLabelKeys": ["pod-template-hash"],
            }
            for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        ]
    return found


def _has_gpu(resources: Resources) -> bool:
    return bool(resources.gpus or resources.mig or resources.gpu_claim)


def _cores(number: float) -> str:
    return f"{round(number * 1000)}m"
