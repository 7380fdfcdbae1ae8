"""What a platform has to provide; each one is a folder beside this file.

The components say what is made and how its parts are wired; a platform says out of what. The handles
that pass between its parts (`host`, `service`, `gateway`) are text that only the platform reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from pulumi import Input, Output, Resource

from .spec import Endpoint, PlatformName, Registry


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
    replicas: int


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

    def host(self, name: str, parent: Resource) -> Output[str]:
        """Where the other parts live: made once for an estate, or for a component that stands alone."""
        ...

    def registry(self, name: str, host: Input[str], spec: Registry, parent: Resource) -> Output[str]:
        """A registry of the estate's own, filled where `spec` says so; returns its tracking URI."""
        ...

    def model_server(
        self, name: str, host: Input[str], service: ModelService, parent: Resource
    ) -> ServerParts:
        """Servers for one model."""
        ...

    def gateway(self, name: str, host: Input[str], parent: Resource) -> GatewayParts:
        """The one way in."""
        ...

    def route(
        self,
        name: str,
        gateway: Input[str],
        services: Mapping[str, Input[str]],
        endpoint: Endpoint,
        parent: Resource,
    ) -> RouteParts:
        """The way from an address of the gateway to the services, by variant."""
        ...


def platform(name: PlatformName) -> Platform:
    """The platform called `name`; what it needs is imported only now."""
    return cast(Platform, import_module(f".{name.value}.platform", __package__))
