"""TrafficRoute: how the requests to an endpoint are divided."""

from typing import NotRequired, TypedDict

from pulumi import ComponentResource, Input, Output, ResourceOptions

from .arguments import checked
from .platform import platform
from .spec import Endpoint, GatewaySettings, PlatformName


class TrafficRouteArgs(TypedDict):
    """What a route is made from."""

    gateway: Input[str]
    """The `gateway` of a `Gateway`."""

    services: dict[str, Input[str]]
    """The `service` of each variant's `ModelServer`, by variant."""

    endpoint: Endpoint
    """The endpoint: of its fields, those that say how requests are divided are used here."""

    platform: NotRequired[PlatformName]
    """Where it runs; `local` where it is left out."""

    settings: NotRequired[GatewaySettings]
    """Which gateway it is, where the platform has a choice; as the `Gateway` has it."""


class TrafficRoute(ComponentResource):
    """Weights, pinning by header and mirroring for one endpoint. Moving weights changes nothing else."""

    url: Output[str]
    """The base URL for REST requests."""

    grpc: Output[str]
    """`host:port` for gRPC requests."""

    weights: Output[dict[str, int]]
    """The weights in use, in per cent by variant: a rollout may have moved them."""

    def __init__(self, name: str, args: TrafficRouteArgs, opts: ResourceOptions | None = None) -> None:
        """Lead requests from the gateway to the services."""
        super().__init__("serving-estate:index:TrafficRoute", name, {}, opts)
        args = checked(TrafficRouteArgs, args, f"TrafficRoute {name}")
        where = platform(args.get("platform", PlatformName.LOCAL))
        settings = args.get("settings") or GatewaySettings()
        parts = where.route(name, args["gateway"], args["services"], args["endpoint"], settings, self)
        self.url, self.grpc = parts.url, parts.grpc
        self.weights = parts.weights or Output.from_input(args["endpoint"].shares)
        self.register_outputs({"url": self.url, "grpc": self.grpc, "weights": self.weights})
