"""Estate: everything that one stack file describes."""

from itertools import chain
from typing import Any, TypedDict, cast

import pulumi
from pulumi import ComponentResource, Output, ResourceOptions

from .arguments import checked
from .gateway import Gateway
from .gpu_stack import GpuStack
from .model_endpoint import ModelEndpoint, ModelEndpointArgs, VariantState
from .model_registry import ModelRegistry
from .monitoring import Monitoring, MonitoringArgs
from .platform import platform
from .spec import EstateSpec, GatewaySettings, KubernetesSettings, PlatformName


class EstateArgs(TypedDict):
    """What an estate is made from."""

    spec: EstateSpec
    """The whole of a stack file."""


class EndpointState(TypedDict):
    """An endpoint as it runs."""

    url: Output[str]
    """The base URL for REST requests."""

    grpc: Output[str]
    """`host:port` for gRPC requests."""

    variants: Output[dict[str, VariantState]]
    """The variants by name."""


class Estate(ComponentResource):
    """A registry, a gateway and endpoints. It only wires: each of them works without it."""

    endpoints: Output[dict[str, EndpointState]]
    """The endpoints by name."""

    registry: Output[str | None]
    """The tracking URI of the model registry, where there is one."""

    gateway: Output[str]
    """Where the gateway's operators look, see `Gateway.admin`."""

    def __init__(self, name: str, args: EstateArgs, opts: ResourceOptions | None = None) -> None:
        """Make everything that `args["spec"]` describes."""
        super().__init__("serving-estate:index:Estate", name, {}, opts)
        child = ResourceOptions(parent=self)
        spec = checked(EstateArgs, args, f"Estate {name}")["spec"]
        where: PlatformName = spec.platform
        cluster, way_in = spec.kubernetes or KubernetesSettings(), spec.gateway or GatewaySettings()
        host = platform(where).host(name, cluster, self)
        gateway = Gateway("gateway", {"platform": where, "host": host, "settings": way_in}, child)
        uri: Output[str] | None = None
        if spec.registry:
            registry = ModelRegistry(
                "registry",
                {"spec": spec.registry, "platform": where, "host": host, "kubernetes": cluster},
                child,
            )
            uri = registry.uri
        login = spec.registry.login_secret if spec.registry else None
        prometheus = spec.monitoring.prometheus if spec.monitoring else None
        endpoints = {
            key: ModelEndpoint(
                key,
                ModelEndpointArgs(
                    endpoint=endpoint,
                    registry=uri or "",
                    gateway=gateway.gateway,
                    platform=where,
                    host=host,
                    gateway_settings=way_in,
                    kubernetes=cluster,
                    registry_login=login or "",
                    prometheus=prometheus or "",
                    counts_predictions=spec.monitoring is not None,
                ),
                child,
            )
            for key, endpoint in spec.endpoints.items()
        }
        if spec.monitoring:
            watched = MonitoringArgs(
                endpoints=spec.endpoints, settings=spec.monitoring, platform=where, host=host
            )
            Monitoring("monitoring", watched, child)
        if spec.gpu:
            GpuStack("gpu", {"settings": spec.gpu, "platform": where, "host": host}, child)
        told = [(endpoint.url, endpoint.grpc, endpoint.variants) for endpoint in endpoints.values()]
        names = [*endpoints]
        self.endpoints = Output.all(*chain(*told)).apply(lambda known: _states(names, known))
        self.registry = Output.from_input(uri) if uri else pulumi.Output.from_input(None)
        self.gateway = gateway.admin
        self.register_outputs(
            {"endpoints": self.endpoints, "registry": self.registry, "gateway": self.gateway}
        )


def _states(names: list[str], known: list[Any]) -> dict[str, EndpointState]:
    """The outputs of all endpoints at once: those of one after those of the other."""
    states = {
        name: {"url": known[at], "grpc": known[at + 1], "variants": known[at + 2]}
        for name, at in zip(names, range(0, len(known), 3), strict=True)
    }
    return cast(dict[str, EndpointState], states)
