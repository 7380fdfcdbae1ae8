"""A driver of rollouts in the cluster: a Job for one rollout, or a CronJob that looks for what is new.

It does what `estate rollout run` does, so it may be killed and started again at any moment: lease and journal
are objects of the cluster. Its rights are those of that work, in the two namespaces that it is about:

- the routes of the namespace, which the engine writes, and what goes with them, which the engine reads;
- ConfigMaps, of which the journal is, and its Lease;
- pods, their ports through the API server for metrics, and port forwards for golden requests and answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pulumi import Input, Resource

from ..spec import GatewayClass, GatewaySettings, KubernetesSettings
from .objects import Manifest, checked_name, environment_from, labels_of, make, meta, safe_container, safe_pod

APP = "rollout"
PROXIES = "envoy-gateway-system"
"""Where Envoy Gateway runs the proxies of gateways."""
_USER = 65532
_ROLLED_BACK, _TAKEN_OVER = 3, 4
_TRIES = 10
_GATEWAY_API = "gateway.networking.k8s.io"


@dataclass(frozen=True)
class Drive:
    """What is driven, and from where."""

    endpoint: str
    stack: str
    image: Input[str]
    folder: str = "/estate"
    """Where the image has the project."""
    schedule: str | None = None
    """When to look for a version that is new, as cron writes it; one rollout where there is none."""
    candidate: str | None = None
    backend: Input[str] | None = None
    secret: str | None = None
    claim: str | None = None
    prometheus: str | None = None


def rollout_job(
    name: str,
    namespace: Input[str],
    drive: Drive,
    cluster: KubernetesSettings,
    gateway: GatewaySettings,
    parent: Resource,
) -> None:
    """The job, and who it is."""
    checked_name("RolloutJob", name, 52)
    account = make(name, _object("v1", "ServiceAccount", name, namespace), parent)
    rights = [*grant(name, namespace, namespace, rules(drive.endpoint))]
    if gateway.implementation is GatewayClass.ENVOY:
        rights += grant(f"{name}-proxies", PROXIES, namespace, looks(), account=name)
    granted = [make(f"{manifest['metadata']['name']}", manifest, parent) for manifest in rights]
    # Made, it is not waited for: a rollout takes hours, and the run that made this holds the stack's lock.
    make(name, job(name, namespace, drive, cluster), parent, after=[account, *granted])


def _object(version: str, kind: str, name: str, namespace: Input[str]) -> Manifest:
    return {"apiVersion": version, "kind": kind, "metadata": meta(name, namespace, labels_of(APP, name))}


def _rule(group: str, resources: Sequence[str], verbs: str, names: Sequence[str] = ()) -> Manifest:
    rule: Manifest = {"apiGroups": [group], "resources": [*resources], "verbs": verbs.split()}
    return {**rule, "resourceNames": [*names]} if names else rule


def looks() -> list[Manifest]:
    """The rights to read metrics of pods."""
    return [_rule("", ["pods"], "get list"), _rule("", ["pods/proxy"], "get")]


def rules(endpoint: str) -> list[Manifest]:
    """The rights in the estate's namespace."""
    routes = ["httproutes", "grpcroutes"]
    return [
        *looks(),
        _rule("", ["pods/portforward"], "get create"),  # golden requests, and answers that are compared
        # The next ConfigMap of the journal has a name that no list of names could have beforehand.
        _rule("", ["configmaps"], "get create patch"),
        _rule("coordination.k8s.io", ["leases"], "create"),
        _rule("coordination.k8s.io", ["leases"], "get update", [f"{endpoint}-rollout"]),
        _rule(_GATEWAY_API, routes, "get patch update", [endpoint]),
        _rule(_GATEWAY_API, routes, "list watch"),
        _rule(
            "gateway.envoyproxy.io",
            ["backendtrafficpolicies", "httproutefilters", "securitypolicies"],
            "get list watch",
        ),
    ]


def grant(
    name: str,
    namespace: Input[str],
    account_in: Input[str],
    rights: Sequence[Manifest],
    account: str | None = None,
) -> list[Manifest]:
    """A Role in a namespace, and that the account has it."""
    api = "rbac.authorization.k8s.io"
    role = _object(f"{api}/v1", "Role", name, namespace) | {"rules": [*rights]}
    subject = {"kind": "ServiceAccount", "name": account or name, "namespace": account_in}
    binding = _object(f"{api}/v1", "RoleBinding", name, namespace) | {
        "roleRef": {"apiGroup": api, "kind": "Role", "name": name},
        "subjects": [subject],
    }
    return [role, binding]


def job(name: str, namespace: Input[str], drive: Drive, cluster: KubernetesSettings) -> Manifest:
    """The Job, or the CronJob."""
    spec: Manifest = {
        "backoffLimit": _TRIES,
        "podFailurePolicy": {
            "rules": [
                # Rolled back is an end, and one that is to be seen as a failed Job.
                _on_exit("FailJob", _ROLLED_BACK),
                _on_exit("Ignore", _TAKEN_OVER),
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            ]
        },
        "template": {"metadata": {"labels": labels_of(APP, name)}, "spec": pod(name, drive, cluster)},
    }
    if drive.schedule is None:
        # The next version is another Job: the template of one that is there cannot be changed.
        manifest = _object("batch/v1", "Job", name, namespace) | {"spec": spec}
        manifest["metadata"]["annotations"] = {"pulumi.com/skipAwait": "true"}
        return manifest
    return _object("batch/v1", "CronJob", name, namespace) | {
        "spec": {
            "schedule": drive.schedule,
            "concurrencyPolicy": "Forbid",
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {"spec": spec},
        }
    }


def _on_exit(action: str, code: int) -> Manifest:
    return {"action": action, "onExitCodes": {"operator": "In", "values": [code]}}


def pod(name: str, drive: Drive, cluster: KubernetesSettings) -> Manifest:
    """The pod with the driver."""
    command = ["estate", "rollout", "run", drive.endpoint, "--stack", drive.stack, "--cwd", drive.folder]
    for option, value in (("--to", drive.candidate), ("--prometheus", drive.prometheus)):
        if value:
            command += [option, value]
    container: Manifest = {
        "name": APP,
        "image": drive.image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "workingDir": drive.folder,
        "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}},
        # The engine writes to its home: plugins, and what it works on.
        "securityContext": safe_container(writes=True),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "env": [{"name": key, "value": value} for key, value in _environment(drive).items()],
    }
    if drive.secret:
        container["envFrom"] = environment_from([drive.secret])
    spec: Manifest = {
        "serviceAccountName": name,
        "restartPolicy": "Never",
        "enableServiceLinks": False,
        "securityContext": safe_pod(_USER),
        "containers": [container],
    }
    if drive.claim:
        container["volumeMounts"] = [{"name": "backend", "mountPath": "/backend"}]
        spec["volumes"] = [{"name": "backend", "persistentVolumeClaim": {"claimName": drive.claim}}]
    if cluster.pull_secret:
        spec["imagePullSecrets"] = [{"name": cluster.pull_secret}]
    return spec


def _environment(drive: Drive) -> Mapping[str, Input[str]]:
    # The engine wants to know whose run it is, and the pod's user has no name in any image.
    found: dict[str, Input[str]] = {"PULUMI_SKIP_UPDATE_CHECK": "true", "USER": "estate-rollout"}
    if drive.backend or drive.claim:
        found["PULUMI_BACKEND_URL"] = drive.backend or "file:///backend"
    return found
