"""Gateway: the one way in."""

from typing import NotRequired, TypedDict

from pulumi import ComponentResource, Input, Output, ResourceOptions

from .arguments import checked
from .platform import platform
from .spec import GatewaySettings, KubernetesSettings, PlatformName


class GatewayArgs(TypedDict):
    """What a gateway is made from."""

    platform: NotRequired[PlatformName]
    """Where it runs; `local` where it is left out."""

    host: NotRequired[Input[str]]
    """The `host` of another component, to live beside it; one of its own where it is left out."""

    settings: NotRequired[GatewaySettings]
    """Which gateway, where the platform has a choice."""

    kubernetes: NotRequired[KubernetesSettings]
    """What is said of the whole cluster, where it runs in one."""


class Gateway(ComponentResource):
    """The one way in, to which `TrafficRoute`s attach; one serves all endpoints of an estate."""

    gateway: Output[str]
    """What routes attach to."""

    admin: Output[str]
    """Where its operators look: locally the address of Envoy's admin page with statistics and the
    configuration in use, on Kubernetes the address at which its controller says that it is reached."""

    host: Output[str]
    """Where it lives."""

    def __init__(self, name: str, args: GatewayArgs, opts: ResourceOptions | None = None) -> None:
        """Make the gateway."""
        super().__init__("serving-estate:index:Gateway", name, {}, opts)
        args = checked(GatewayArgs, args, f"Gateway {name}")
        where = platform(args.get("platform", PlatformName.LOCAL))
        cluster = args.get("kubernetes") or KubernetesSettings()
        host = args.get("host") or where.host(name, cluster, self)
        self.host = Output.from_input(host)
        parts = where.gateway(name, host, args.get("settings") or GatewaySettings(), self)
        self.gateway, self.admin = parts.gateway, parts.admin
        self.register_outputs({"gateway": self.gateway, "admin": self.admin, "host": self.host})
