"""ModelServer: the servers of one model."""

import re
from collections.abc import Iterator, Mapping
from typing import NotRequired, TypedDict

import pulumi
from pulumi import ComponentResource, Input, Output, ResourceOptions

from .arguments import Rule, checked
from .autoscaler import Autoscaler
from .platform import ModelService, platform
from .spec import FallbackRung, KubernetesSettings, Placement, PlatformName, Resources, Runtime, Scaling
from .spec.fallback import wrong_order
from .spec.sources import wrong_model


class ModelServerArgs(TypedDict):
    """What a model server is made from."""

    model: Input[str]
    """The model to serve: `models:/name/version`, `models:/name@alias`, a folder or file, or a `runs:/`,
    `s3://`, `gs://` or `http(s)://` address."""

    served_name: NotRequired[Input[str]]
    """The name under which clients ask for the model; the component's own name where it is left out."""

    runtime: NotRequired[Runtime]
    """The model server that runs it; `bundled` where it is left out."""

    registry: NotRequired[Input[str]]
    """The MLflow tracking URI at which `models:/` and `runs:/` addresses are looked up."""

    replicas: NotRequired[int]
    """How many of them, from 1 to 64; 1 where it is left out. Short for `scaling: {min: …}`."""

    scaling: NotRequired[Scaling]
    """How many of them, where that changes with their load."""

    replicas_are_owned: NotRequired[bool]
    """Whether somebody else, Flagger for one, sets the number of replicas at run time: it is then left as it
    is. An autoscaler by `scaling` need not be told of here."""

    resources: NotRequired[Resources]
    """What each of them is given."""

    placement: NotRequired[Placement]
    """Where they may run."""

    fallback: NotRequired[list[FallbackRung]]
    """What answers when the model fails, is too slow, or has too much to do: the first of these that can."""

    timeout_ms: NotRequired[int]
    """When whoever asks has given up, in milliseconds from 1 to 3,600,000: what `fallback` has to keep to;
    30,000 where it is left out."""

    counts_predictions: NotRequired[bool]
    """Whether its metrics tell what is predicted, of one request in ten: for dashboards that show drift.
    Nothing collects metrics on `platform: local`."""

    tells_answers: NotRequired[bool]
    """Whether it tells those who ask from its own pod what it answered to others, for a rollout that compares
    answers. On `platform: local` it does in any case."""

    image: NotRequired[Input[str]]
    """The container image, where there are containers; `kubernetes.images.model_server` where it is left
    out."""

    labels: NotRequired[dict[str, str]]
    """Labels of its objects, where a platform has such."""

    registry_login: NotRequired[str]
    """Name of the Secret with the entries `username` and `password` for a registry that asks for them."""

    prometheus: NotRequired[str]
    """Where KEDA asks for what is measured, for targets other than CPU."""

    platform: NotRequired[PlatformName]
    """Where it runs; `local` where it is left out."""

    host: NotRequired[Input[str]]
    """The `host` of another component, to live beside it; one of its own where it is left out."""

    kubernetes: NotRequired[KubernetesSettings]
    """What is said of the whole cluster, where it runs in one."""


def _wrong_replicas(replicas: int) -> Iterator[str]:
    if not 1 <= replicas <= 64:
        yield f"must be between 1 and 64, got {replicas}"


def _wrong_served_name(name: str) -> Iterator[str]:
    """It stands in the paths of requests."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", name):
        yield (
            f"`{name}` cannot be asked for; use up to 128 letters, digits, `.`, `_` and `-`, a letter or "
            "digit first, e.g. digits"
        )


def _wrong_timeout(timeout_ms: int) -> Iterator[str]:
    if not 1 <= timeout_ms <= 3_600_000:
        yield f"must be between 1 and 3,600,000 milliseconds, got {timeout_ms}"


def _wrong_fallback(rungs: list[FallbackRung]) -> Iterator[str]:
    for index, rung in enumerate(rungs):
        if rung.variant is not None:
            yield f"rung {index}: only an endpoint has variants; leave it out"
    for path, message in wrong_order(rungs):
        yield f"rung {path[0]} {message}"


_RULES: Mapping[str, Rule] = {
    "model": wrong_model,
    "served_name": _wrong_served_name,
    "replicas": _wrong_replicas,
    "timeout_ms": _wrong_timeout,
    "fallback": _wrong_fallback,
}


class ModelServer(ComponentResource):
    """The servers of one model: ready when the model answers, changed without losing a request."""

    service: Output[str]
    """What a `TrafficRoute` leads to."""

    addresses: Output[list[str]]
    """The base URL of each replica."""

    host: Output[str]
    """Where it lives."""

    def __init__(self, name: str, args: ModelServerArgs, opts: ResourceOptions | None = None) -> None:
        """Make the servers of `args["model"]`."""
        super().__init__("serving-estate:index:ModelServer", name, {}, opts)
        given: ModelServerArgs = {"served_name": name, **args}
        args = checked(ModelServerArgs, given, f"ModelServer {name}", _RULES)
        where = platform(args.get("platform", PlatformName.LOCAL))
        cluster = args.get("kubernetes") or KubernetesSettings()
        host = args.get("host") or where.host(name, cluster, self)
        self.host = pulumi.Output.from_input(host)
        scaling = args.get("scaling") or Scaling(min=args.get("replicas", 1))
        service = ModelService(
            model=args["model"],
            served_name=args.get("served_name", name),
            runtime=args.get("runtime", Runtime.BUNDLED).value,
            registry=args.get("registry", ""),
            scaling=scaling,
            resources=args.get("resources") or Resources(),
            placement=args.get("placement") or Placement(),
            kubernetes=cluster,
            labels=args.get("labels", {}),
            fallback=args.get("fallback", []),
            timeout_ms=args.get("timeout_ms", 30_000),
            counts_predictions=args.get("counts_predictions", False),
            tells_answers=args.get("tells_answers", False),
            image=args.get("image") or (cluster.images.model_server if cluster.images else None) or "",
            replicas_are_owned=args.get("replicas_are_owned", False),
            registry_login=args.get("registry_login"),
        )
        parts = where.model_server(name, host, service, self)
        self.service, self.addresses = parts.service, parts.addresses
        if scaling.autoscaled and where.AUTOSCALES:
            Autoscaler(
                name,
                {
                    "service": self.service,
                    "scaling": scaling,
                    "platform": args.get("platform", PlatformName.LOCAL),
                    "kubernetes": cluster,
                    "prometheus": args.get("prometheus", ""),
                    "endpoint": args.get("labels", {}).get("serving-estate/endpoint", ""),
                },
                ResourceOptions(parent=self),
            )
        self.register_outputs({"service": self.service, "addresses": self.addresses, "host": self.host})
