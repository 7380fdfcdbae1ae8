"""A PostgreSQL for a registry that has no database of its own: for development, one replica."""

import secrets

from pulumi import Input, Output, Resource

from ..spec import Backup, KubernetesSettings, Registry
from .objects import NOT_AWAITED, Manifest, Object, labels_of, make, meta, safe_container, safe_pod, service

APP = "postgres"
PORT = 5432
DATABASE_USER = "mlflow"
_USER = 999
_DATA = "/var/lib/postgresql/data"


def secret_name(registry: str) -> str:
    """The name of the Secret with the entries `password` and `uri`."""
    return f"{registry}-database"


def database(
    registry: str, host: Input[str], spec: Registry, settings: KubernetesSettings, parent: Resource
) -> Object:
    """The database with its password, which is made once and then kept."""
    name = f"{registry}-database"
    password = secrets.token_urlsafe(24)
    make(name, secret(registry, host, password), parent, ignore=["stringData"])
    make(name, service(APP, name, host, PORT, "postgres"), parent)
    make(name, network_policy(name, host), parent)
    return make(name, stateful_set(registry, host, spec, settings), parent, timeout_s=300)


def secret(registry: str, namespace: Input[str], password: str) -> Manifest:
    """The password, and the address with it."""
    name = f"{registry}-database"
    # The driver is named: which one is meant without that depends on the version of SQLAlchemy.
    uri = f"postgresql+psycopg2://{DATABASE_USER}:{password}@{name}:{PORT}/{DATABASE_USER}"
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": meta(secret_name(registry), namespace, labels_of(APP, name)),
        "type": "Opaque",
        "stringData": {"password": Output.secret(password), "uri": Output.secret(uri)},
    }


def network_policy(name: str, namespace: Input[str]) -> Manifest:
    """Only the registry and its backups ask the database."""
    who = {"key": "app.kubernetes.io/name", "operator": "In", "values": ["mlflow", "backup"]}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": meta(name, namespace, labels_of(APP, name)),
        "spec": {
            "podSelector": {"matchLabels": labels_of(APP, name)},
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [{"podSelector": {"matchExpressions": [who]}}],
                    "ports": [{"protocol": "TCP", "port": "postgres"}],
                }
            ],
        },
    }


def stateful_set(
    registry: str, namespace: Input[str], spec: Registry, settings: KubernetesSettings
) -> Manifest:
    """The server and its volume. The volume outlives the set, but not the estate's namespace."""
    name = f"{registry}-database"
    alive = {"exec": {"command": ["pg_isready", "-h", "127.0.0.1", "-U", DATABASE_USER]}, "timeoutSeconds": 5}
    container = {
        "name": APP,
        "image": settings.images.postgres if settings.images else None,
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"name": "postgres", "containerPort": PORT}],
        "env": [
            {"name": "POSTGRES_USER", "value": DATABASE_USER},
            {"name": "POSTGRES_DB", "value": DATABASE_USER},
            {"name": "PGDATA", "value": f"{_DATA}/pgdata"},
            {
                "name": "POSTGRES_PASSWORD",
                "valueFrom": {"secretKeyRef": {"name": secret_name(registry), "key": "password"}},
            },
        ],
        "securityContext": safe_container(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "startupProbe": {**alive, "periodSeconds": 2, "failureThreshold": 60},
        "readinessProbe": {**alive, "periodSeconds": 5},
        "volumeMounts": [
            {"name": "data", "mountPath": _DATA},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
            {"name": "run", "mountPath": "/var/run/postgresql"},
        ],
        "resources": {
            "requests": {"cpu": "50m", "memory": "128Mi"},
            "limits": {"cpu": "2000m", "memory": "512Mi"},
        },
    }
    claim = {
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": f"{spec.storage_gib or 10}Gi"}},
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": meta(name, namespace, labels_of(APP, name)),
        "spec": {
            "replicas": 1,
            "serviceName": name,
            "selector": {"matchLabels": labels_of(APP, name)},
            "template": {
                "metadata": {"labels": labels_of(APP, name)},
                "spec": {
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "securityContext": safe_pod(_USER),
                    "containers": [container],
                    "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "run", "emptyDir": {}}],
                    **_pull_secrets(settings),
                },
            },
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Retain"},
            "volumeClaimTemplates": [claim],
        },
    }


def backups(
    registry: str,
    host: Input[str],
    spec: Backup,
    settings: KubernetesSettings,
    parent: Resource,
    database: Object,
) -> None:
    """Dumps at regular times, on a volume of their own."""
    name = f"{registry}-backup"
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        # Its first pod comes with the first backup, and a class may wait for that.
        "metadata": meta(name, host, labels_of("backup", name), NOT_AWAITED),
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": f"{spec.storage_gib or 5}Gi"}},
        },
    }
    make(name, claim, parent)
    make(name, backup_job(registry, host, spec, settings), parent, after=[database])


def backup_job(registry: str, namespace: Input[str], spec: Backup, settings: KubernetesSettings) -> Manifest:
    """One dump, written under another name until it is whole; then older ones are removed."""
    name = f"{registry}-backup"
    script = (
        "set -eu\n"
        "file=/backups/$(date -u +%Y%m%dT%H%M%SZ).dump\n"
        'pg_dump --format=custom --file="$file.part"\n'
        'mv "$file.part" "$file"\n'
        f'ls -1 /backups/*.dump | head -n -{spec.keep or 7} | while read -r old; do rm -- "$old"; done\n'
    )
    container = {
        "name": "backup",
        "image": settings.images.postgres if settings.images else None,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
        "env": [
            {"name": "PGHOST", "value": f"{registry}-database"},
            {"name": "PGUSER", "value": DATABASE_USER},
            {"name": "PGDATABASE", "value": DATABASE_USER},
            {
                "name": "PGPASSWORD",
                "valueFrom": {"secretKeyRef": {"name": secret_name(registry), "key": "password"}},
            },
        ],
        "securityContext": safe_container(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "backups", "mountPath": "/backups"}],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
    }
    template = {
        "metadata": {"labels": labels_of("backup", name)},
        "spec": {
            "restartPolicy": "OnFailure",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": safe_pod(_USER),
            "containers": [container],
            "volumes": [{"name": "backups", "persistentVolumeClaim": {"claimName": name}}],
            **_pull_secrets(settings),
        },
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": meta(name, namespace, labels_of("backup", name)),
        "spec": {
            "schedule": spec.schedule or "17 3 * * *",
            "timeZone": "Etc/UTC",
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 3600,
            "successfulJobsHistoryLimit": 2,
            "failedJobsHistoryLimit": 2,
            "jobTemplate": {"spec": {"backoffLimit": 2, "activeDeadlineSeconds": 3600, "template": template}},
        },
    }


def _pull_secrets(settings: KubernetesSettings) -> Manifest:
    return {"imagePullSecrets": [{"name": settings.pull_secret}]} if settings.pull_secret else {}
