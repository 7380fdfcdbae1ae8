"""Kubernetes objects as Pulumi keeps them: names, annotations that steer the provider, the state."""

import base64
import binascii
import hashlib
import secrets
from collections.abc import Mapping
from typing import Any

from .errors import ProviderError
from .values import Mask, joined

AUTONAMED = "pulumi.com/autonamed"
SKIP_AWAIT = "pulumi.com/skipAwait"
TIMEOUT = "pulumi.com/timeoutSeconds"
WAIT_FOR = "pulumi.com/waitFor"
PATCH_FORCE = "pulumi.com/patchForce"
FIELD_MANAGER = "pulumi.com/patchFieldManager"
PROPAGATION = "pulumi.com/deletionPropagationPolicy"
REPLACE_UNREADY = "pulumi.com/replaceUnready"

INPUTS, INITIAL_VERSION, MANAGER = "__inputs", "__initialApiVersion", "__fieldManager"
# What the API server writes into metadata: never an input.
SERVERS_OWN = (
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
)


def at(value: Any, *path: str, default: Any = None) -> Any:
    """What is at a path of names; the default where there is nothing."""
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return default
        value = value[key]
    return default if value is None else value


def annotation(value: Mapping[str, Any], name: str) -> str:
    """One of an object's annotations; empty where it has none."""
    found = at(value, "metadata", "annotations", name, default="")
    return found if isinstance(found, str) else ""


def is_true(value: Mapping[str, Any], name: str) -> bool:
    """Whether an annotation says `"true"`."""
    return annotation(value, name).lower() == "true"


def name_of(value: Mapping[str, Any]) -> str:
    """An object's name."""
    return str(at(value, "metadata", "name", default=""))


def namespace_of(value: Mapping[str, Any]) -> str:
    """An object's namespace, empty where it is in none."""
    return str(at(value, "metadata", "namespace", default=""))


def identity(value: Mapping[str, Any]) -> str:
    """What Pulumi calls the object: `namespace/name`, or `name` where kinds have no namespace."""
    namespace = namespace_of(value)
    return f"{namespace}/{name_of(value)}" if namespace else name_of(value)


def split_identity(text: str) -> tuple[str, str]:
    """The namespace (or nothing) and the name. Raises `ProviderError` for what cannot be one."""
    parts = text.split("/")
    if len(parts) > 2 or not parts[-1]:
        raise ProviderError(f"`{text}` is no id of a Kubernetes object: write `namespace/name`, or `name`")
    return ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])


def type_of(urn: str) -> str:
    """The type token of a resource: `kubernetes:apps/v1:Deployment`."""
    return urn.split("::")[2].rpartition("$")[2]


def kind_of(urn: str) -> tuple[str, str]:
    """The API version and kind that a resource's type names."""
    _, module, kind = type_of(urn).split(":")
    return module.removeprefix("core/"), kind


def with_default_kind(value: Mapping[str, Any], urn: str) -> dict[str, Any]:
    """An object that says what it is, if only its type did so far."""
    api_version, kind = kind_of(urn)
    version = value.get("apiVersion") or api_version
    version = version.removeprefix("core/") if isinstance(version, str) else version
    return {**value, "apiVersion": version, "kind": value.get("kind") or kind}


def random_name(urn: str, seed: bytes) -> str:
    """The resource's name and eight hexadecimal digits: the same ones for the same seed."""
    digits = hashlib.sha256(seed + urn.encode()).hexdigest()[:8] if seed else secrets.token_hex(4)
    return f"{urn.rpartition('::')[2]}-{digits}"


def field_manager(urn: str, inputs: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    """Who owns the fields that we set: of its own for each resource, so that two may share an object."""
    given = annotation(inputs, FIELD_MANAGER) or state.get(MANAGER)
    return str(given or f"pulumi-kubernetes-{hashlib.sha256(urn.encode()).hexdigest()[:8]}")


def set_annotation(value: dict[str, Any], name: str, text: str) -> None:
    """Set one of an object's annotations."""
    metadata = value.setdefault("metadata", {})
    metadata["annotations"] = {**(metadata.get("annotations") or {}), name: text}


def without_servers_own(value: Mapping[str, Any]) -> dict[str, Any]:
    """An object as somebody may have written it: without status and what the API server adds to metadata."""
    metadata = {
        key: part for key, part in at(value, "metadata", default={}).items() if key not in SERVERS_OWN
    }
    annotations = {
        key: text
        for key, text in (metadata.get("annotations") or {}).items()
        if key
        not in ("kubectl.kubernetes.io/last-applied-configuration", "deployment.kubernetes.io/revision")
    }
    if annotations:
        metadata["annotations"] = annotations
    else:
        metadata.pop("annotations", None)
    return {**{key: part for key, part in value.items() if key != "status"}, "metadata": metadata}


def checkpoint(
    inputs: Mapping[str, Any], live: Mapping[str, Any], manager: str, state: Mapping[str, Any]
) -> dict[str, Any]:
    """What the state keeps of an object: the live one, and beside it what was asked for."""
    metadata = {
        key: value for key, value in at(live, "metadata", default={}).items() if key != "managedFields"
    }
    return {
        **live,
        "metadata": metadata,
        INPUTS: dict(inputs),
        INITIAL_VERSION: state.get(INITIAL_VERSION) or live.get("apiVersion") or inputs.get("apiVersion"),
        MANAGER: manager,
    }


def live_part(state: Mapping[str, Any]) -> dict[str, Any]:
    """The live object in a state."""
    return {key: value for key, value in state.items() if not key.startswith("__")}


def previewed(dry: Mapping[str, Any]) -> dict[str, Any]:
    """A dry run's object as outputs of a preview: without a status, which only a real object gets."""
    metadata = {key: value for key, value in dry["metadata"].items() if key != "managedFields"}
    return {**{key: value for key, value in dry.items() if key != "status"}, "metadata": metadata}


def masked(kind: str, inputs: Mapping[str, Mask]) -> dict[str, Mask]:
    """What to seal in an object and its checkpoint: what was secret in the inputs, and a Secret's content."""
    whole = joined(inputs, {"data": True, "stringData": True} if kind == "Secret" else {})
    return {**whole, INPUTS: whole} if whole else {}


def readable_secret(live: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A live Secret with `stringData` as the inputs have it: the API server keeps it in `data` only."""
    wanted = inputs.get("stringData")
    if live.get("kind") != "Secret" or not isinstance(wanted, Mapping):
        return dict(live)
    data = live.get("data") or {}
    return {**live, "stringData": {key: _decoded(data[key]) for key in wanted if key in data}}


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text).decode()
    except (binascii.Error, UnicodeDecodeError):
        return text
