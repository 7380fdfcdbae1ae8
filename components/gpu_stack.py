"""GpuStack: what makes GPUs of nodes usable."""

from typing import NotRequired, TypedDict

from pulumi import ComponentResource, Input, ResourceOptions

from .arguments import checked
from .platform import platform
from .spec import GpuSettings, PlatformName


class GpuStackArgs(TypedDict):
    """What a GPU stack is made from."""

    settings: NotRequired[GpuSettings]
    """How GPUs are offered; whole ones where it is left out."""

    platform: NotRequired[PlatformName]
    """Where it runs; `kubernetes` where it is left out, as `local` needs none."""

    host: NotRequired[Input[str]]
    """The `host` of another component; the parts live in a namespace of their own beside it."""


class GpuStack(ComponentResource):
    """NVIDIA's device plugin, feature discovery and DCGM exporter, for nodes that have a driver."""

    def __init__(self, name: str, args: GpuStackArgs, opts: ResourceOptions | None = None) -> None:
        """Make GPUs of nodes usable."""
        super().__init__("serving-estate:index:GpuStack", name, {}, opts)
        args = checked(GpuStackArgs, args, f"GpuStack {name}")
        where = platform(args.get("platform", PlatformName.KUBERNETES))
        where.gpu_stack(name, args.get("host", ""), args.get("settings") or GpuSettings(), self)
        self.register_outputs({})
