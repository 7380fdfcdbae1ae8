"""Monitoring: what is measured of endpoints, and who is told."""

from typing import NotRequired, TypedDict

from pulumi import ComponentResource, Input, ResourceOptions

from .arguments import checked
from .platform import platform
from .spec import Endpoint, KubernetesSettings, MonitoringSettings, PlatformName


class MonitoringArgs(TypedDict):
    """What monitoring is made from."""

    endpoints: dict[str, Endpoint]
    """The endpoints by name, as in a stack file."""

    settings: NotRequired[MonitoringSettings]
    """How metrics are collected."""

    platform: NotRequired[PlatformName]
    """Where it runs; `kubernetes` where it is left out, as `local` collects nothing."""

    host: NotRequired[Input[str]]
    """The `host` of the endpoints."""

    kubernetes: NotRequired[KubernetesSettings]
    """Where it lives, where there is no `host`: its field `namespace`."""


class Monitoring(ComponentResource):
    """Scraping, recording rules, burn-rate alerts of what endpoints promise, and a dashboard for each."""

    def __init__(self, name: str, args: MonitoringArgs, opts: ResourceOptions | None = None) -> None:
        """Watch `args["endpoints"]`."""
        super().__init__("serving-estate:index:Monitoring", name, {}, opts)
        args = checked(MonitoringArgs, args, f"Monitoring {name}")
        where = platform(args.get("platform", PlatformName.KUBERNETES))
        host = args.get("host") or where.host(name, args.get("kubernetes") or KubernetesSettings(), self)
        settings = args.get("settings") or MonitoringSettings()
        where.monitoring(name, host, args["endpoints"], settings, self)
        self.register_outputs({})
