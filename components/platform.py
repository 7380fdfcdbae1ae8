"""What a platform has to provide; each one is a folder beside this file.

The components say what is made and how its parts are wired; a platform says out of what. The handles
that pass between its parts (`host`, `service`, `gateway`) are text that only the platform reads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol, cast

from pulumi import Input, Output, Resource

from .spec import (
    Endpoint,
    FallbackRung,
    GatewaySettings,
    GpuSettings,
    KubernetesSettings,
    MonitoringSettings,
    Placement,
    PlatformName,
    Registry,
    Resources,
    Scaling,
)


@dataclass(frozen=True)
class ModelService:
    """What a model server is to serve, and how."""

    model: Input[str]
    """The model's address."""
    served_name: Input[str]
    """The name under which clients ask for it."""
    runtime: str
    """The name of its runtime, see `components.runtimes`."""
    registry: Input[str]
    """The tracking URI that `models:/` addresses are looked up at, or empty."""
    scaling: Scaling = field(default_factory=Scaling)
    resources: Resources = field(default_factory=Resources)
    placement: Placement = field(default_factory=Placement)
    kubernetes: KubernetesSettings = field(default_factory=KubernetesSettings)
    labels: Mapping[str, str] = field(default_factory=dict)
    """What it belongs to, where a platform can write that down."""
    fallback: Sequence[FallbackRung] = ()
    """What answers when the model does not, from the first to the last."""
    timeout_ms: int = 30_000
    """When whoever asks has given up."""
    counts_predictions: bool = False
    """Whether its metrics tell what is predicted."""
    tells_answers: bool = False
    """Whether it tells its answers to a rollout that compares them; see `components.runtimes.Listen`."""
    image: Input[str] = ""
    """The container image, where there are containers."""
    replicas_are_owned: bool = False
    """Whether somebody else sets the number of replicas at run time."""
    registry_login: str | None = None
    """Where the login for the registry is kept, where it asks for one."""

    @property
    def fallback_rungs(self) -> list[dict[str, Any]]:
        """`fallback` as plain data."""
        return [rung.model_dump(exclude_none=True) for rung in self.fallback]

    @property
    def replicas(self) -> int:
        """Replicas that always run."""
        return self.scaling.min or 1


@dataclass(frozen=True)
class ServerParts:
    """A model server: `service` is what a route leads to, `addresses` are the URLs of its replicas."""

    service: Output[str]
    addresses: Output[list[str]]


@dataclass(frozen=True)
class GatewayParts:
    """A gateway: `gateway` is what routes attach to, `admin` where its operators look."""

    gateway: Output[str]
    admin: Output[str]


@dataclass(frozen=True)
class RouteParts:
    """The address of an endpoint: a base URL for REST and `host:port` for gRPC, and the weights in use."""

    url: Output[str]
    grpc: Output[str]
    weights: Output[dict[str, int]] | None = None
    """None where the platform does not tell."""


class Platform(Protocol):
    """Makes the parts of an estate; every part becomes a child of `parent`, named for `name`."""

    AUTOSCALES: bool
    """Whether anything there makes replicas more and fewer."""

    def host(self, name: str, settings: KubernetesSettings, parent: Resource) -> Input[str]:
        """Where the other parts live: made once for an estate, or for a component that stands alone."""
        ...

    def registry(
        self, name: str, host: Input[str], spec: Registry, settings: KubernetesSettings, parent: Resource
    ) -> Output[str]:
        """A registry of the estate's own, filled where `spec` says so; returns its tracking URI."""
        ...

    def model_server(
        self, name: str, host: Input[str], service: ModelService, parent: Resource
    ) -> ServerParts:
        """Servers for one model."""
        ...

    def autoscaler(
        self,
        name: str,
        service: Input[str],
        scaling: Scaling,
        settings: KubernetesSettings,
        prometheus: str | None,
        endpoint: str | None,
        parent: Resource,
    ) -> None:
        """What makes the replicas of a model server more and fewer; `endpoint`: whose it is, if anybody's."""
        ...

    def gateway(
        self, name: str, host: Input[str], settings: GatewaySettings, parent: Resource
    ) -> GatewayParts:
        """The one way in."""
        ...

    def route(
        self,
        name: str,
        gateway: Input[str],
        services: Mapping[str, Input[str]],
        endpoint: Endpoint,
        settings: GatewaySettings,
        parent: Resource,
    ) -> RouteParts:
        """The way from an address of the gateway to the services, by variant."""
        ...

    def monitoring(
        self,
        name: str,
        host: Input[str],
        endpoints: Mapping[str, Endpoint],
        settings: MonitoringSettings,
        parent: Resource,
    ) -> None:
        """What is measured of the endpoints, and who is told."""
        ...

    def gpu_stack(self, name: str, host: Input[str], settings: GpuSettings, parent: Resource) -> None:
        """What makes GPUs of nodes usable."""
        ...


def platform(name: PlatformName) -> Platform:
    """The platform called `name`; what it needs is imported only now."""
    return cast(Platform, import_module(f".{name.value}.platform", __package__))
