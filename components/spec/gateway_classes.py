"""What each class of gateway can do, as data: one entry a class.

Sources are the implementations' own lists of supported Gateway API features. What a class cannot do is
refused before anything is made; what merely answers a little differently (`variant_header`, `unknown_pin`) is
left out, and `docs/kubernetes.md` says so.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from .base import Problem
from .endpoint import Endpoint


class GatewayClass(Enum):
    """An implementation of the Gateway API."""

    ENVOY = "envoy"
    """Envoy Gateway."""
    GKE = "gke"
    """Google's global external Application Load Balancer, by the GKE Gateway controller."""
    GKE_INTERNAL = "gke-internal"
    """Google's internal Application Load Balancer, by the GKE Gateway controller."""
    AWS_ALB = "aws-alb"
    """An AWS Application Load Balancer, by the AWS Load Balancer Controller."""
    AWS_LATTICE = "aws-lattice"
    """Amazon VPC Lattice, by the AWS Gateway API Controller."""
    ISTIO = "istio"
    """Istio's gateway."""


class Certificate(Enum):
    """Where a gateway can have its certificate from."""

    SECRET = "secret"  # noqa: S105  a place, not a password
    CLOUD = "cloud"
    FOUND = "found"


class Feature(Enum):
    """What an endpoint may ask of its gateway."""

    PLAIN_GRPC = "plain grpc"
    MIRROR = "mirror"
    MIRROR_SHARE = "mirror share"
    TIMEOUT = "timeout"
    TIMEOUT_IN_SECONDS = "timeout in seconds"
    RETRIES = "retries"
    RATE_LIMIT = "rate limit"
    ACCESS = "access"
    BREAKER = "breaker"
    OUTLIERS = "outliers"
    AFFINITY = "affinity"
    WAKE = "wake"
    VARIANT_HEADER = "variant header"
    UNKNOWN_PIN = "unknown pin"
    STAND_IN = "stand in"


@dataclass(frozen=True)
class Class:
    """One implementation."""

    title: str
    """As its authors call it."""
    gateway_class: str
    """The GatewayClass that its installation makes."""
    features: frozenset[Feature]
    ports: frozenset[int] = field(default_factory=frozenset)
    """The ports that it can listen on; all where there are none."""
    certificates: frozenset[Certificate] = frozenset({Certificate.SECRET})
    """Where it can have its certificate from."""
    parameters: tuple[str, str] | None = None
    """Group and kind of the objects that say how a gateway of it is run."""
    in_cluster: bool = False
    """Whether its proxies are pods of the cluster."""
    most_variants: int = 15
    """Routes have sixteen rules at most: one for each variant's pin, and the weights."""


_F = Feature

_C = Certificate
_AWS_CERTIFICATES = frozenset({_C.CLOUD, _C.FOUND})

CLASSES: Mapping[GatewayClass, Class] = {
    GatewayClass.ENVOY: Class(
        "Envoy Gateway",
        "envoy-gateway",
        frozenset(Feature) - {Feature.STAND_IN},
        parameters=("gateway.envoyproxy.io", "EnvoyProxy"),
        in_cluster=True,
        most_variants=14,  # a rule more, for a pin that names nobody
    ),
    GatewayClass.ISTIO: Class(
        "Istio",
        "istio",
        frozenset({_F.PLAIN_GRPC, _F.MIRROR, _F.MIRROR_SHARE, _F.TIMEOUT, _F.VARIANT_HEADER}),
        in_cluster=True,
    ),
    GatewayClass.GKE: Class(
        "the GKE Gateway controller",
        "gke-l7-global-external-managed",
        frozenset({_F.PLAIN_GRPC, _F.MIRROR, _F.TIMEOUT_IN_SECONDS}),
        frozenset({80, 443}),
        frozenset({_C.SECRET, _C.CLOUD}),
    ),
    GatewayClass.GKE_INTERNAL: Class(
        "the GKE Gateway controller",
        "gke-l7-rilb",
        frozenset({_F.PLAIN_GRPC, _F.MIRROR, _F.TIMEOUT_IN_SECONDS}),
        frozenset({80, 443}),
    ),
    GatewayClass.AWS_ALB: Class(
        "the AWS Load Balancer Controller",
        "aws-alb",
        frozenset(),
        certificates=_AWS_CERTIFICATES,
        parameters=("gateway.k8s.aws", "LoadBalancerConfiguration"),
        most_variants=5,  # target groups that a rule can forward to
    ),
    GatewayClass.AWS_LATTICE: Class(
        "the AWS Gateway API Controller",
        "amazon-vpc-lattice",
        frozenset(),
        frozenset({80, 443}),
        _AWS_CERTIFICATES,
        most_variants=10,  # target groups that a rule can forward to
    ),
}


def unsupported(endpoint: Endpoint, name: GatewayClass) -> Iterator[Problem]:
    """What an endpoint asks for that gateways of this class cannot do, and what to do about it."""
    has, most = CLASSES[name].features, CLASSES[name].most_variants
    who = f"gateways of class `{name.value}` ({CLASSES[name].title})"
    if len(endpoint.variants) > most:
        yield (
            ("variants",),
            f"{who} divide requests among {most} variants at most; there are {len(endpoint.variants)}",
        )
    if endpoint.users and Feature.AFFINITY not in has:
        yield (
            ("affinity",) if endpoint.affinity else ("rollout", "users"),
            f"{who} do not keep users with their variant by the Gateway API; leave it out, or use class "
            "envoy",
        )
    for path, scaling in endpoint.scalings:
        if scaling.zero_after_s is not None and Feature.WAKE not in has:
            yield (
                (*path, "zero_after_s"),
                f"requests that find no replica are not counted by {who}, so nothing would bring one "
                "back; leave "
                "it out, or use class envoy",
            )
    if endpoint.shadow and Feature.MIRROR not in has:
        yield ("shadow",), f"{who} cannot copy requests; leave `shadow` out, or use class envoy or istio"
    elif endpoint.shadow and endpoint.shadow.percent != 100 and Feature.MIRROR_SHARE not in has:
        yield (
            ("shadow", "percent"),
            f"{who} copy all requests or none; set it to 100, or use class envoy or istio",
        )
    given_ms = endpoint.timeout_ms if "timeout_ms" in endpoint.model_fields_set else None
    if given_ms and Feature.TIMEOUT_IN_SECONDS in has and given_ms % 1000 and Feature.TIMEOUT not in has:
        yield ("timeout_ms",), f"{who} count whole seconds; write {-(-given_ms // 1000) * 1000}"
    elif given_ms and not has & {Feature.TIMEOUT, Feature.TIMEOUT_IN_SECONDS}:
        yield ("timeout_ms",), f"{who} have no time limit a route; leave it out, or use class envoy or istio"
    if "retries" in endpoint.model_fields_set and endpoint.retries and Feature.RETRIES not in has:
        yield ("retries",), f"{who} decide about retries themselves; leave it out, or use class envoy"
    for field_name, feature in (("access", Feature.ACCESS), ("rate_limit", Feature.RATE_LIMIT)):
        if getattr(endpoint, field_name) and feature not in has:
            yield (
                (field_name,),
                f"{who} do not do this by the Gateway API; leave it out and use their own policies, or use "
                "class envoy",
            )
    if endpoint.stand_in and Feature.STAND_IN not in has:
        yield (
            ("fallback",),
            f"{who} cannot ask another variant when one fails and say who answered; leave `variant` out: the "
            "other rungs are the servers' own",
        )
    protection = endpoint.protection
    for field_name, feature in (("max_requests", Feature.BREAKER), ("eject_after_errors", Feature.OUTLIERS)):
        if protection and getattr(protection, field_name) and feature not in has:
            yield (
                ("protection", field_name),
                f"{who} do not do this by the Gateway API; leave it out and use their own policies, or use "
                "class envoy",
            )
