"""What differs between two objects, field by field, and what of it a running object cannot follow."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from .values import UNKNOWN

Path = tuple[str | int, ...]
Change = Literal["add", "delete", "update"]

_ABSENT = object()
_STEP = re.compile(r'\.?([^.\[\]"]+)|\["((?:[^"\\]|\\.)*)"\]|\[(\*|\d+)\]')


def differences(old: Any, new: Any, at: Path = ()) -> Iterator[tuple[Path, Change]]:
    """Every field that was added, deleted or changed, as deep as it can be told."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key, _ABSENT), new.get(key, _ABSENT), (*at, key))
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            one = old[index] if index < len(old) else _ABSENT
            other = new[index] if index < len(new) else _ABSENT
            yield from differences(one, other, (*at, index))
    elif old is _ABSENT:
        yield at, "add"
    elif new is _ABSENT:
        yield at, "delete"
    elif new is UNKNOWN or old != new or isinstance(old, bool) != isinstance(new, bool):
        yield at, "update"


def text(path: Path) -> str:
    """A path in Pulumi's notation: `spec.containers[0].image`, `metadata.labels["a.b"]`."""
    written = ""
    for step in path:
        if isinstance(step, int):
            written += f"[{step}]"
        elif any(mark in step for mark in '."[]'):
            written += '["' + step.replace('"', '\\"') + '"]'
        else:
            written += f".{step}" if written else step
    return written


def parsed(written: str) -> tuple[str | int, ...]:
    """The path that a text in Pulumi's notation means; `*` stands for every item."""
    steps: list[str | int] = []
    for name, quoted, index in _STEP.findall(written):
        if index:
            steps.append("*" if index == "*" else int(index))
        else:
            steps.append(name or quoted.replace('\\"', '"'))
    return tuple(steps)


def within(path: Path, pattern: tuple[str | int, ...]) -> bool:
    """Whether a path is what a pattern names, or below it."""
    return len(path) >= len(pattern) and all(
        want in ("*", step) for step, want in zip(path, pattern, strict=False)
    )


def without(changes: Iterable[tuple[Path, Change]], ignored: Iterable[str]) -> list[tuple[Path, Change]]:
    """The changes but for those that the program ignores."""
    patterns = [parsed(written) for written in ignored]
    return [
        (path, change) for path, change in changes if not any(within(path, pattern) for pattern in patterns)
    ]


# Where the API server refuses a change, only a new object will do. The list is that of the official provider,
# with its consequences: a field that it does not replace on fails here as it fails there.
_SELECTED = ("spec.selector",)
IMMUTABLE: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("apps", "DaemonSet"): _SELECTED,
    ("apps", "Deployment"): _SELECTED,
    ("apps", "StatefulSet"): (
        "spec.podManagementPolicy",
        "spec.revisionHistoryLimit",
        "spec.selector",
        "spec.serviceName",
        "spec.volumeClaimTemplates",
    ),
    ("batch", "Job"): ("spec.completions", "spec.parallelism", "spec.selector", "spec.template"),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): ("roleRef",),
    ("rbac.authorization.k8s.io", "RoleBinding"): ("roleRef",),
    ("storage.k8s.io", "StorageClass"): ("parameters", "provisioner"),
    ("", "PersistentVolumeClaim"): (
        "spec.accessModes",
        "spec.selector",
        "spec.storageClassName",
        "spec.volumeName",
    ),
    ("", "PersistentVolume"): (
        "spec.csi",
        "spec.hostPath",
        "spec.local",
        "spec.nfs",
        "spec.iscsi",
        "spec.fc",
    ),
    ("", "ResourceQuota"): ("spec.scopes",),
    ("", "Secret"): ("type",),
    ("", "Service"): ("spec.clusterIP",),
}
_POD_MAY_CHANGE = ("activeDeadlineSeconds", "tolerations")


def forces_replacement(
    path: Path, change: Change, new: Mapping[str, Any], *, mutable_config_maps: bool, mutable_secrets: bool
) -> bool:
    """Whether a change of this field needs a new object."""
    if path[:2] in (("metadata", "name"), ("metadata", "namespace")) or path == ("metadata",):
        return True
    group = str(new.get("apiVersion", "")).rpartition("/")[0]
    kind = str(new.get("kind", ""))
    fixed = IMMUTABLE.get((group, kind), ())
    if (group, kind) == ("", "Pod"):
        return path[:1] == ("spec",) and path[1:2] not in [(field,) for field in _POD_MAY_CHANGE]
    if (group, kind) == ("", "Secret") and (new.get("immutable") or not mutable_secrets):
        fixed += ("data", "stringData")
    if (group, kind) == ("", "ConfigMap") and (new.get("immutable") or not mutable_config_maps):
        fixed += ("data", "binaryData")
    return any(
        # An object that appears or vanishes takes its fixed fields along; one that is not known yet may not.
        within(path, parsed(field)) or (change != "update" and within(parsed(field), path))
        for field in fixed
    )
