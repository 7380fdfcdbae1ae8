"""Autoscaler: what makes replicas more and fewer."""

from typing import NotRequired, TypedDict

from pulumi import ComponentResource, Input, ResourceOptions

from .arguments import checked
from .platform import platform
from .spec import KubernetesSettings, PlatformName, Scaling


class AutoscalerArgs(TypedDict):
    """What an autoscaler is made from."""

    service: Input[str]
    """The `service` of a `ModelServer`. A `ModelServer` whose `scaling` asks for it has one already."""

    scaling: Scaling
    """How many replicas there may be, and the targets to keep to."""

    platform: NotRequired[PlatformName]
    """Where it runs; `kubernetes` where it is left out, as `local` has none."""

    kubernetes: NotRequired[KubernetesSettings]
    """Which autoscaler: its field `autoscaler`."""

    prometheus: NotRequired[str]
    """Where KEDA asks for what is measured, for targets other than CPU."""

    endpoint: NotRequired[str]
    """The endpoint whose requests bring the first replica back, where `zero_after_s` takes the last away."""


class Autoscaler(ComponentResource):
    """A HorizontalPodAutoscaler or a KEDA ScaledObject, never both; from now on it owns the number of
    replicas."""

    def __init__(self, name: str, args: AutoscalerArgs, opts: ResourceOptions | None = None) -> None:
        """Scale what is behind `args["service"]`."""
        super().__init__("serving-estate:index:Autoscaler", name, {}, opts)
        args = checked(AutoscalerArgs, args, f"Autoscaler {name}")
        where = platform(args.get("platform", PlatformName.KUBERNETES))
        cluster = args.get("kubernetes") or KubernetesSettings()
        prometheus, endpoint = args.get("prometheus"), args.get("endpoint")
        where.autoscaler(name, args["service"], args["scaling"], cluster, prometheus, endpoint, self)
        self.register_outputs({})
