"""What can be said about an object before any cluster is asked, and the name it gets if it has none."""

from collections.abc import Mapping
from typing import Any

from .objects import (
    AUTONAMED,
    at,
    is_true,
    kind_of,
    name_of,
    random_name,
    set_annotation,
    type_of,
    with_default_kind,
)
from .values import UNKNOWN

Fault = tuple[str, str]
_MAPS = ("labels", "annotations")


def unsupported(urn: str) -> str | None:
    """Why resources of this type cannot be made here, if so."""
    token = type_of(urn)
    kind = token.split(":")[-1]
    if token.startswith("kubernetes:helm.sh/"):
        return "Helm releases and charts are not made here: only the official provider runs Helm"
    if token.startswith(("kubernetes:yaml/", "kubernetes:kustomize/")):
        return "components of the official provider are not made here: declare the objects themselves"
    if kind.endswith("Patch") and kind != "Patch":
        return "patch resources are not made here: declare the object itself, or import it"
    if kind.endswith("List") and len(kind) > 4:
        return "a list is no object of its own: declare the objects in it"
    return None


def faults(inputs: Mapping[str, Any], urn: str) -> list[Fault]:
    """What is wrong with the shape of an object, as pairs of property and reason."""
    found: list[Fault] = []
    api_version, kind = kind_of(urn)
    for field, wanted in (("apiVersion", api_version), ("kind", kind)):
        value = inputs.get(field, wanted)
        if value is not UNKNOWN and not (isinstance(value, str) and value):
            found.append((field, f"must be a text, such as `{wanted}`; it is {_shown(value)}"))
    metadata = inputs.get("metadata", {})
    if metadata is UNKNOWN:
        return found
    if not isinstance(metadata, Mapping):
        return [
            *found,
            ("metadata", f"must be an object with name, namespace, labels; it is {_shown(metadata)}"),
        ]
    for field in ("name", "namespace"):
        value = metadata.get(field)
        if value is not None and value is not UNKNOWN and not isinstance(value, str):
            found.append((f"metadata.{field}", f'must be a text: write "{value}"'))
    if metadata.get("generateName") and not metadata.get("name"):
        found.append(
            (
                "metadata.generateName",
                "cannot be used with server-side apply: leave it out, and the resource's own name and a "
                "random end are taken",
            )
        )
    for field in _MAPS:
        value = metadata.get(field)
        if value is None or value is UNKNOWN:
            continue
        if not isinstance(value, Mapping):
            found.append((f"metadata.{field}", f"must be an object of texts; it is {_shown(value)}"))
            continue
        found += [
            (f"metadata.{field}[{name}]", f'must be a text: write "{_written(text)}"')
            for name, text in value.items()
            if text is not UNKNOWN and not isinstance(text, str)
        ]
    spec = inputs.get("spec")
    if "spec" in inputs and spec is not UNKNOWN and not isinstance(spec, Mapping):
        found.append(("spec", f"must be an object; it is {_shown(spec)}"))
    return found


def _shown(value: Any) -> str:
    names = {
        "str": "a text",
        "list": "a list",
        "int": "a number",
        "float": "a number",
        "bool": "true or false",
    }
    return names.get(type(value).__name__, "nothing" if value is None else type(value).__name__)


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def named(
    inputs: Mapping[str, Any],
    old: Mapping[str, Any],
    urn: str,
    seed: bytes,
    proposed: str | None,
) -> dict[str, Any]:
    """The object with its kind, and with a name: its own, the one it was given before, or a new one.

    A name that was given, not chosen, is marked by an annotation: such an object can be replaced by another
    that is made first.
    """
    result = with_default_kind(inputs, urn)
    metadata = result.get("metadata", {})
    if metadata is UNKNOWN:
        return result
    result["metadata"] = dict(metadata)
    if at(result, "metadata", "name") in (None, ""):
        adopted = name_of(old) if is_true(old, AUTONAMED) else ""
        result["metadata"]["name"] = adopted or proposed or random_name(urn, seed)
        set_annotation(result, AUTONAMED, "true")
    return result
