"""Kubernetes objects as Pulumi resources, from manifests as everybody knows them.

The resources are those of Pulumi's Kubernetes provider, with its types and tokens; only its SDK's classes are
not used: importing those for the kinds that an estate has takes seconds at each preview, and a manifest needs
no translation into Python's names and back.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

import pulumi
from pulumi import CustomTimeouts, Input, Output, Resource, ResourceOptions

from ..arguments import ArgumentsError
from ..spec import Problem

T = TypeVar("T")

Manifest = dict[str, Any]

LABEL = "serving-estate"
"""Prefix of the labels that are our own."""


class Object(pulumi.CustomResource):
    """One object of the cluster."""

    metadata: Output[Any]
    status: Output[Any]

    def __init__(self, name: str, manifest: Mapping[str, Any], opts: ResourceOptions) -> None:
        """`manifest`: the object as `kubectl apply` takes it; values may be outputs."""
        group = manifest["apiVersion"]
        kind = f"kubernetes:{group if '/' in group else f'core/{group}'}:{manifest['kind']}"
        super().__init__(kind, name, {**manifest, "status": None}, opts)

    def known(self, text: Input[str]) -> Output[str]:
        """`text`, which is known at once; whatever is made from it waits until this object is there."""
        return Output.all(self.urn, text).apply(lambda both: str(both[1]))


def whenever(inputs: Sequence[Input[Any]], function: Callable[..., T]) -> Input[T]:
    """What a function makes of values: at once where all of them are there, else when they are.

    An output costs a handful of the event loop's tasks, and an estate would have thousands for nothing.
    """
    if any(isinstance(value, Output) for value in inputs):
        return Output.all(*inputs).apply(lambda known: function(*known))
    return function(*inputs)


def make(
    name: str,
    manifest: Mapping[str, Any],
    parent: Resource,
    *,
    after: Sequence[Resource] = (),
    ignore: Sequence[str] = (),
    timeout_s: int | None = None,
) -> Object:
    """Make an object.

    Args:
        name: the name of the Pulumi resource.
        manifest: the object.
        parent: the component that it belongs to.
        after: what has to be there first.
        ignore: paths that somebody else owns at run time.
        timeout_s: seconds that it may take to be ready, where it is not the provider's ten minutes.
    """
    limit = f"{timeout_s}s"
    opts = ResourceOptions(
        parent=parent,
        version=plugin_version(),
        depends_on=[*after] or None,
        ignore_changes=[*ignore] or None,
        custom_timeouts=CustomTimeouts(create=limit, update=limit) if timeout_s else None,
    )
    return Object(name, manifest, opts)


@cache
def plugin_version() -> str:
    """The version of the provider's plugin: that of its package.

    Raises:
        pulumi.RunError: the package is not installed.
    """
    try:
        return version("pulumi-kubernetes")
    except PackageNotFoundError:
        raise pulumi.RunError(
            "`platform: kubernetes` needs the package pulumi-kubernetes in the program's environment; "
            "install it "
            "with `pip install 'serving-estate[kubernetes]'`"
        ) from None


def checked_name(component: str, name: str, longest: int = 63) -> str:
    """A component's name, which is also its objects'.

    Raises:
        ArgumentsError: Kubernetes has no such names.
    """
    problems: list[Problem] = [((), message) for message in _wrong_name(name, longest)]
    if problems:
        raise ArgumentsError(f"{component} {name}", problems)
    return name


def _wrong_name(name: str, longest: int) -> Iterator[str]:
    letters = name.replace("-", "")
    right = letters.isascii() and letters.isalnum() and letters == letters.lower()
    if not (right and name[0].isalpha() and name[-1] != "-" and len(name) <= longest):
        yield (
            f"objects of a cluster cannot be called `{name}`; use up to {longest} lower-case letters, "
            f"digits and "
            "`-`, a letter first"
        )


def meta(
    name: Input[str],
    namespace: Input[str],
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Manifest:
    """The metadata of an object."""
    found: Manifest = {"name": name, "namespace": namespace}
    if labels:
        found["labels"] = dict(labels)
    if annotations:
        found["annotations"] = dict(annotations)
    return found


def unnamed(
    namespace: Input[str], labels: Mapping[str, str], annotations: Mapping[str, str] | None = None
) -> Manifest:
    """The metadata of an object that never changes, only is replaced: Pulumi gives each a name of its own."""
    found = meta("", namespace, labels, annotations)
    del found["name"]
    return found


# Of what is ready when others are: a Service is made before its pods, and whoever needs them waits for those.
NOT_AWAITED = {"pulumi.com/skipAwait": "true"}


def labels_of(app: str, name: str) -> dict[str, str]:
    """The labels by which the pods of one thing are found; they never change, as a selector cannot."""
    return {"app.kubernetes.io/name": app, "app.kubernetes.io/instance": name}


def service(
    app: str, name: str, namespace: Input[str], port: int, called: str = "http", protocol: str | None = None
) -> Manifest:
    """The address inside the cluster of something that listens on one port.

    Args:
        app: what it is.
        name: which one of these; also the name of the Service.
        namespace: where.
        port: of the Service.
        called: the port's name, of the Service and of the container.
        protocol: what is spoken there, where a gateway has to know.
    """
    exposed: Manifest = {"name": called, "port": port, "targetPort": called, "protocol": "TCP"}
    if protocol:
        exposed["appProtocol"] = protocol
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta(name, namespace, labels_of(app, name), NOT_AWAITED),
        "spec": {"type": "ClusterIP", "selector": labels_of(app, name), "ports": [exposed]},
    }


def reference(kind: str, name: Input[str], group: str = "") -> Manifest:
    """A reference with everything in it that the API server would else fill in."""
    return {"group": group, "kind": kind, "name": name}


def safe_container(*, writes: bool = False) -> Manifest:
    """The security context of a container that asks for nothing.

    Args:
        writes: whether it has to write to its own file system.
    """
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": not writes,
        "capabilities": {"drop": ["ALL"]},
    }


def safe_pod(user: int) -> Manifest:
    """The security context of a pod that runs as an unprivileged user, who owns its volumes."""
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def environment_from(secrets: Sequence[str | None]) -> list[Manifest]:
    """Every entry of these secrets as an environment variable."""
    return [{"secretRef": {"name": secret}} for secret in secrets if secret]


def seconds(milliseconds: int) -> str:
    """A time as the Gateway API writes it."""
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"
