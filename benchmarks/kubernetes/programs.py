"""The two programs: an estate, and the same objects declared one by one with `pulumi_kubernetes`."""

import json
from pathlib import Path
from typing import Any


def stack(endpoints: int) -> dict[str, Any]:
    """An estate of so many endpoints with two variants each."""
    block = {
        "variants": {"blue": {"model": "s3://models/1"}, "green": {"model": "s3://models/2"}},
        "traffic": {"blue": 90, "green": 10},
        "scaling": {"min": 2},
    }
    return {
        "platform": "kubernetes",
        "kubernetes": {"namespace": "serving"},
        "endpoints": {f"endpoint-{number}": block for number in range(endpoints)},
    }


def components(endpoints: int) -> None:
    """The estate."""
    from components import Estate
    from components.spec import EstateSpec, validate

    Estate("estate", {"spec": validate(EstateSpec, stack(endpoints))})


def hand_written(manifests: Path) -> None:
    """The same objects, each by its class; those without one by `CustomResource`.

    Args:
        manifests: a file of pairs, a name and a manifest.
    """
    import pulumi_kubernetes as k8s
    from pulumi_kubernetes.apiextensions import CustomResource

    classes = {
        ("apps/v1", "Deployment"): k8s.apps.v1.Deployment,
        ("v1", "Service"): k8s.core.v1.Service,
        ("v1", "ServiceAccount"): k8s.core.v1.ServiceAccount,
        ("v1", "ConfigMap"): k8s.core.v1.ConfigMap,
        ("networking.k8s.io/v1", "NetworkPolicy"): k8s.networking.v1.NetworkPolicy,
        ("policy/v1", "PodDisruptionBudget"): k8s.policy.v1.PodDisruptionBudget,
    }
    snake = {"automountServiceAccountToken": "automount_service_account_token"}
    for name, manifest in json.loads(manifests.read_text()):
        kind = manifest.pop("apiVersion"), manifest.pop("kind")
        if kind in classes:
            classes[kind](name, **{snake.get(key, key): value for key, value in manifest.items()})
        else:
            CustomResource(name, *kind, **manifest)
