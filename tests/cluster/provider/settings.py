"""The provider's configuration: inputs of `pulumi_kubernetes.Provider`, or a stack's `kubernetes:` keys."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# What the official provider can do and this one cannot: silence would make a test mean something else.
UNSUPPORTED = {
    "renderYamlToDirectory": "manifests are not rendered here: run this program with the official provider",
    "alwaysRender": "manifests are not rendered here: run this program with the official provider",
}


@dataclass(frozen=True)
class Settings:
    """What the program says about how to reach and treat its cluster."""

    kubeconfig: str | None = None
    context: str | None = None
    cluster: str | None = None
    namespace: str | None = None
    patch_force: bool = False
    upsert: bool = False
    delete_unreachable: bool = False
    skip_unreachable: bool = False
    mutable_config_maps: bool = False
    mutable_secrets: bool = False


def settings(inputs: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the provider's inputs; what they do not say, the official environment variables do."""

    def flag(name: str, variable: str) -> bool:
        said = inputs.get(name)
        return str(environ.get(variable, "") if said is None else said).lower() in ("true", "1")

    def text(name: str) -> str | None:
        return str(inputs[name]) if inputs.get(name) else None

    return Settings(
        kubeconfig=text("kubeconfig"),
        context=text("context"),
        cluster=text("cluster"),
        namespace=text("namespace"),
        patch_force=flag("enablePatchForce", "PULUMI_K8S_ENABLE_PATCH_FORCE"),
        upsert=flag("upsertExistingObjects", "PULUMI_K8S_UPSERT_EXISTING_OBJECTS"),
        delete_unreachable=flag("deleteUnreachable", "PULUMI_K8S_DELETE_UNREACHABLE"),
        skip_unreachable=flag("skipUpdateUnreachable", "PULUMI_K8S_SKIP_UPDATE_UNREACHABLE"),
        mutable_config_maps=flag("enableConfigMapMutable", "PULUMI_K8S_ENABLE_CONFIGMAP_MUTABLE"),
        mutable_secrets=flag("enableSecretMutable", "PULUMI_K8S_ENABLE_SECRET_MUTABLE"),
    )


def faults(inputs: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What in the provider's inputs cannot be done here, as pairs of property and reason."""
    found = [
        (name, reason) for name, reason in UNSUPPORTED.items() if inputs.get(name) not in (None, "", "false")
    ]
    if str(inputs.get("enableServerSideApply", "true")).lower() == "false":
        found.append(("enableServerSideApply", "objects are always applied by the server here: leave it out"))
    return found
