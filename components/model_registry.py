"""ModelRegistry: where model versions and their aliases are kept."""

from typing import NotRequired, TypedDict

from pulumi import ComponentResource, Input, Output, ResourceOptions

from .arguments import checked
from .platform import platform
from .spec import KubernetesSettings, PlatformName, Registry


class ModelRegistryArgs(TypedDict):
    """What a registry is made from."""

    spec: NotRequired[Registry]
    """Which registry, and what it is filled with; an empty one of its own where it is left out."""

    platform: NotRequired[PlatformName]
    """Where it runs; `local` where it is left out."""

    host: NotRequired[Input[str]]
    """The `host` of another component, to live beside it; one of its own where it is left out."""

    kubernetes: NotRequired[KubernetesSettings]
    """What is said of the whole cluster, where it runs in one."""


class ModelRegistry(ComponentResource):
    """An MLflow server with its database and artifact store, or one that exists already."""

    uri: Output[str]
    """The tracking URI, known once the registry answers and has been filled."""

    def __init__(self, name: str, args: ModelRegistryArgs, opts: ResourceOptions | None = None) -> None:
        """Make the registry, or take the existing one that `args["spec"]` names."""
        super().__init__("serving-estate:index:ModelRegistry", name, {}, opts)
        args = checked(ModelRegistryArgs, args, f"ModelRegistry {name}")
        where, spec = platform(args.get("platform", PlatformName.LOCAL)), args.get("spec") or Registry()
        if spec.uri:
            self.uri = Output.from_input(spec.uri)
        else:
            cluster = args.get("kubernetes") or KubernetesSettings()
            host = args.get("host") or where.host(name, cluster, self)
            self.uri = where.registry(name, host, spec, cluster, self)
        self.register_outputs({"uri": self.uri})
