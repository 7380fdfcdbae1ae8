"""The gate for Flagger in the cluster: `estate rollout gate`, its address, and the rights to read metrics."""

from pulumi import Input, Output, Resource

from ..spec import KubernetesSettings
from .objects import Manifest, checked_name, labels_of, make, meta, safe_container, safe_pod, service
from .rollout_job import grant, looks

APP = "rollout-gate"
PORT = 8080
_USER = 65532


def rollout_gate(
    name: str, namespace: Input[str], image: Input[str], cluster: KubernetesSettings, parent: Resource
) -> Output[str]:
    """A Deployment with a Service; the URL of the gate."""
    checked_name("RolloutGate", name)
    metadata = meta(name, namespace, labels_of(APP, name))
    account = make(name, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}, parent)
    rights = [
        *looks(),
        {"apiGroups": ["gateway.networking.k8s.io"], "resources": ["httproutes"], "verbs": ["get"]},
    ]
    granted = [make(name, manifest, parent) for manifest in grant(name, namespace, namespace, rights)]
    front = make(name, service(APP, name, namespace, PORT), parent)
    made = make(name, deployment(name, namespace, image, cluster), parent, after=[account, *granted])
    return Output.all(made.urn, front.urn, namespace).apply(lambda all_: f"http://{name}.{all_[2]}:{PORT}")


def deployment(name: str, namespace: Input[str], image: Input[str], cluster: KubernetesSettings) -> Manifest:
    """One replica: what it has counted is in its memory, and Flagger waits while there is none."""
    container = {
        "name": APP,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["estate", "rollout", "gate", "--host", "0.0.0.0", "--port", str(PORT)],  # noqa: S104
        "ports": [{"name": "http", "containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 5},
        "resources": {
            "requests": {"cpu": "50m", "memory": "192Mi"},
            "limits": {"memory": "384Mi"},
        },
        "securityContext": safe_container(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        # What it is made of looks for such a folder when it is imported.
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }
    pod: Manifest = {
        "serviceAccountName": name,
        "enableServiceLinks": False,
        "securityContext": safe_pod(_USER),
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    if cluster.pull_secret:
        pod["imagePullSecrets"] = [{"name": cluster.pull_secret}]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta(name, namespace, labels_of(APP, name)),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels_of(APP, name)},
            "strategy": {"type": "Recreate"},
            "template": {"metadata": {"labels": labels_of(APP, name)}, "spec": pod},
        },
    }
