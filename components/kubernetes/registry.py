"""The model registry: an MLflow server, its database and what belongs to them."""

from pulumi import Input, Output, Resource

from ..spec import KubernetesSettings, Registry, Seed
from .objects import (
    NOT_AWAITED,
    Manifest,
    Object,
    checked_name,
    environment_from,
    labels_of,
    make,
    meta,
    safe_container,
    safe_pod,
    service,
    unnamed,
)
from .postgres import backups, database, secret_name

APP = "mlflow"
PORT = 5000
_USER = 65532
_ARTIFACTS = "/artifacts"
_LOGIN_FILE = "/tmp/login.ini"  # noqa: S108  a volume of the pod's own

# Where users are kept, for MLflow's own login. The password is read from the environment: it is on no command
# line.
_LOGIN = f"""\
import configparser, os
file = configparser.RawConfigParser()
file["mlflow"] = {{
    "default_permission": "READ",
    "database_uri": os.environ["DATABASE_URI"],
    "admin_username": os.environ["LOGIN_USERNAME"],
    "admin_password": os.environ["LOGIN_PASSWORD"],
    "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
}}
with open(os.open("{_LOGIN_FILE}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
    file.write(out)
"""


def registry(
    name: str, host: Input[str], spec: Registry, settings: KubernetesSettings, parent: Resource
) -> Output[str]:
    """An MLflow server; the seed is run before anything can see its address."""
    checked_name("ModelRegistry", name, 50)
    before: list[Object] = []
    if not spec.database_secret:
        before.append(database(name, host, spec, settings, parent))
        if spec.backup:
            backups(name, host, spec.backup, settings, parent, before[0])
    if not spec.artifacts:
        make(f"{name}-artifacts", volume_claim(f"{name}-artifacts", host, spec.storage_gib or 10), parent)
    before.append(make(name, service_account(name, host, spec), parent))
    make(name, service(APP, name, host, PORT, protocol="http"), parent)
    make(name, network_policy(name, host), parent)
    server = make(name, deployment(name, host, spec, settings), parent, after=before, timeout_s=600)
    uri = Output.concat(f"http://{name}.", host, f".svc:{PORT}")
    if spec.seed is None:
        return server.known(uri)
    seeded = make(
        f"{name}-seed",
        seed_job(name, host, spec, spec.seed, settings, uri),
        parent,
        after=[server],
        timeout_s=spec.seed.timeout_s or 900,
    )
    return seeded.known(uri)


def service_account(name: str, namespace: Input[str], spec: Registry) -> Manifest:
    """Who the registry is to the cloud; to the cluster it is nobody."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": meta(name, namespace, labels_of(APP, name), spec.identity),
        "automountServiceAccountToken": False,
    }


def network_policy(name: str, namespace: Input[str]) -> Manifest:
    """Only the estate's own pods ask the registry."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": meta(name, namespace, labels_of(APP, name)),
        "spec": {
            "podSelector": {"matchLabels": labels_of(APP, name)},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {}}], "ports": [{"protocol": "TCP", "port": "http"}]}],
        },
    }


def volume_claim(name: str, namespace: Input[str], gib: int) -> Manifest:
    """A volume of the cluster's default class."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        # A class that waits for the first pod never binds before one comes: nothing is waited for here.
        "metadata": meta(name, namespace, annotations=NOT_AWAITED),
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": f"{gib}Gi"}}},
    }


def deployment(name: str, namespace: Input[str], spec: Registry, settings: KubernetesSettings) -> Manifest:
    """The server."""
    # A volume that one node holds cannot be held by the old and the new pod at once.
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta(name, namespace, labels_of(APP, name)),
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 3,
            "progressDeadlineSeconds": 540,
            "selector": {"matchLabels": labels_of(APP, name)},
            "strategy": rolling if spec.artifacts else {"type": "Recreate"},
            "template": {
                "metadata": {"labels": labels_of(APP, name)},
                "spec": pod(name, namespace, spec, settings),
            },
        },
    }


def pod(name: str, namespace: Input[str], spec: Registry, settings: KubernetesSettings) -> Manifest:
    """The server's pod: the database is brought up to date first."""
    image = settings.images.mlflow if settings.images else None
    volumes: list[Manifest] = [{"name": "tmp", "emptyDir": {}}]
    mounts: list[Manifest] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108
    if not spec.artifacts:
        volumes.append({"name": "artifacts", "persistentVolumeClaim": {"claimName": f"{name}-artifacts"}})
        mounts.append({"name": "artifacts", "mountPath": _ARTIFACTS})
    common: Manifest = {
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": environment(name, namespace, spec),
        "envFrom": environment_from([spec.secret]),
        "securityContext": safe_container(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
        "resources": {
            "requests": {"cpu": "100m", "memory": "768Mi"},
            "limits": {"cpu": "2000m", "memory": "2048Mi"},
        },
    }
    # A new database is made, an old one brought up to date: by one process, before any server looks at it.
    prepare = [common | {"name": "migrate", "command": ["mlflow", "db", "upgrade", "$(DATABASE_URI)"]}]
    if spec.login_secret:
        prepare.append(common | {"name": "login", "command": ["python3", "-c", _LOGIN]})
    server = common | {
        "name": APP,
        "command": command(spec),
        "ports": [{"name": "http", "containerPort": PORT}],
        "startupProbe": {
            "httpGet": {"path": "/health", "port": "http"},
            "periodSeconds": 3,
            "failureThreshold": 100,
            "timeoutSeconds": 5,
        },
        "readinessProbe": {
            "httpGet": {"path": "/health", "port": "http"},
            "periodSeconds": 5,
            "timeoutSeconds": 5,
        },
        "livenessProbe": {
            "tcpSocket": {"port": "http"},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
    }
    return {
        "serviceAccountName": name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": safe_pod(_USER),
        "initContainers": prepare,
        "containers": [server],
        "volumes": volumes,
        **pull_secrets(settings),
    }


def pull_secrets(settings: KubernetesSettings) -> Manifest:
    """With what images are pulled, as fields of a pod's spec."""
    return {"imagePullSecrets": [{"name": settings.pull_secret}]} if settings.pull_secret else {}


def command(spec: Registry) -> list[str]:
    """The server's command line; the database's address comes from the environment."""
    found = [
        *("mlflow", "server", "--host", "0.0.0.0", "--port", str(PORT), "--workers", "2"),  # noqa: S104
        *("--backend-store-uri", "$(DATABASE_URI)"),
        *("--artifacts-destination", spec.artifacts or _ARTIFACTS),
    ]
    return [*found, "--app-name", "basic-auth"] if spec.login_secret else found


def environment(name: str, namespace: Input[str], spec: Registry) -> list[Manifest]:
    """The environment of the server, and of what prepares its database."""
    short = f"{name}:{PORT}"
    hosts = Output.concat(
        f"{short},{name}.", namespace, f":{PORT},{name}.", namespace, f".svc:{PORT},{name}.",
        namespace, f".svc.cluster.local:{PORT},localhost:*,127.0.0.1:*,10.*,192.168.*",
    )  # fmt: skip
    found: list[Manifest] = [
        _from_secret("DATABASE_URI", spec.database_secret or secret_name(name), "uri"),
        # Names of the registry by which it may be asked: others are those of a web page that tricks a
        # browser.
        {"name": "MLFLOW_SERVER_ALLOWED_HOSTS", "value": hosts},
        # Only the evaluation of language models needs these processes.
        {"name": "MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "value": "false"},
        {"name": "HOME", "value": "/tmp"},  # noqa: S108
    ]
    if spec.login_secret:
        found += [
            _from_secret("LOGIN_USERNAME", spec.login_secret, "username"),
            _from_secret("LOGIN_PASSWORD", spec.login_secret, "password"),
            _from_secret("MLFLOW_FLASK_SERVER_SECRET_KEY", spec.login_secret, "flask-secret"),
            {"name": "MLFLOW_AUTH_CONFIG_PATH", "value": _LOGIN_FILE},
        ]
    return found


def login_environment(login_secret: str | None) -> list[Manifest]:
    """The environment of those who ask a registry that wants a login."""
    if not login_secret:
        return []
    return [
        _from_secret("MLFLOW_TRACKING_USERNAME", login_secret, "username"),
        _from_secret("MLFLOW_TRACKING_PASSWORD", login_secret, "password"),
    ]


def _from_secret(variable: str, secret: str, entry: str) -> Manifest:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": entry}}}


def seed_job(
    name: str,
    namespace: Input[str],
    spec: Registry,
    seed: Seed,
    settings: KubernetesSettings,
    uri: Input[str],
) -> Manifest:
    """The program that fills the registry. One that failed is run again by the next `pulumi up`."""
    image = seed.image or (settings.images.mlflow if settings.images else None)
    container = {
        "name": "seed",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(seed.command),
        "env": [
            {"name": "MLFLOW_TRACKING_URI", "value": uri},
            {"name": "HOME", "value": "/tmp"},  # noqa: S108
            *login_environment(spec.login_secret),
        ],
        "workingDir": "/tmp",  # noqa: S108
        "securityContext": safe_container(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
        "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "2048Mi"}},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": unnamed(namespace, labels_of("seed", name), {"pulumi.com/replaceUnready": "true"}),
        "spec": {
            "backoffLimit": 2,
            "activeDeadlineSeconds": seed.timeout_s or 900,
            "template": {
                "metadata": {"labels": labels_of("seed", name)},
                "spec": {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "securityContext": safe_pod(_USER),
                    "containers": [container],
                    "volumes": [{"name": "tmp", "emptyDir": {}}],
                    **pull_secrets(settings),
                },
            },
        },
    }
