"""The estate on the cluster that the kubeconfig names: see `components.platform` for what each function is
for."""

import re

import pulumi
from pulumi import Input, Resource

from ..spec import KubernetesSettings
from .autoscaler import autoscaler
from .gateway import gateway
from .gpu import gpu_stack
from .model_server import model_server
from .monitoring import monitoring
from .objects import make
from .registry import registry
from .route import route

__all__ = [
    "AUTOSCALES",
    "autoscaler",
    "gateway",
    "gpu_stack",
    "host",
    "model_server",
    "monitoring",
    "registry",
    "route",
]


AUTOSCALES = True


def host(name: str, settings: KubernetesSettings, parent: Resource) -> Input[str]:
    """A namespace of its own for each stack, or the one that the settings name."""
    if settings.namespace:
        return settings.namespace
    called = namespace_name(pulumi.get_project(), pulumi.get_stack(), name)
    manifest = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": called,
            "labels": {
                "app.kubernetes.io/managed-by": "pulumi",
                # Nothing that an estate runs needs more than this standard allows.
                "pod-security.kubernetes.io/enforce": "restricted",
                "pod-security.kubernetes.io/enforce-version": "latest",
            },
        },
    }
    return make(f"{name}-host", manifest, parent).known(called)


def namespace_name(project: str, stack: str, name: str) -> str:
    """The name of a stack's namespace; that of an estate leaves its own name out, as there is one a stack."""
    parts = [project, stack.split("/")[-1], *([] if name == "estate" else [name])]
    cleaned = re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")
    return cleaned[:63].strip("-")
