"""ModelEndpoint: one address behind which variants of a model answer."""

from typing import NotRequired, TypedDict, cast

from pulumi import ComponentResource, Input, Output, ResourceOptions

from .arguments import checked
from .gateway import Gateway
from .model_server import ModelServer, ModelServerArgs
from .spec import Endpoint, GatewaySettings, KubernetesSettings, PlatformName, Runtime
from .traffic_route import TrafficRoute


class ModelEndpointArgs(TypedDict):
    """What an endpoint is made from."""

    endpoint: Endpoint
    """The endpoint block, as in a stack file."""

    registry: NotRequired[Input[str]]
    """The MLflow tracking URI at which `models:/` and `runs:/` addresses are looked up."""

    gateway: NotRequired[Input[str]]
    """The `gateway` of a `Gateway`; one of its own where it is left out."""

    platform: NotRequired[PlatformName]
    """Where it runs; `local` where it is left out."""

    host: NotRequired[Input[str]]
    """The `host` of another component, to live beside it; one of its own where it is left out."""

    gateway_settings: NotRequired[GatewaySettings]
    """Which gateway, where the platform has a choice."""

    kubernetes: NotRequired[KubernetesSettings]
    """What is said of the whole cluster, where it runs in one."""

    registry_login: NotRequired[str]
    """Name of the Secret with the entries `username` and `password` for a registry that asks for them."""

    counts_predictions: NotRequired[bool]
    """Whether the servers' metrics tell what is predicted, see `ModelServer`."""

    prometheus: NotRequired[str]
    """Where KEDA asks for what is measured, for targets other than CPU."""


class VariantState(TypedDict):
    """A variant as it runs."""

    model: Output[str]
    """The model that it serves."""

    weight: Output[int]
    """Its share of the requests, in per cent."""

    addresses: Output[list[str]]
    """The base URL of each replica."""


class ModelEndpoint(ComponentResource):
    """One address behind which variants of a model answer, each with servers of its own."""

    url: Output[str]
    """The base URL for REST requests."""

    grpc: Output[str]
    """`host:port` for gRPC requests."""

    variants: Output[dict[str, VariantState]]
    """The variants by name."""

    def __init__(self, name: str, args: ModelEndpointArgs, opts: ResourceOptions | None = None) -> None:
        """Make the servers of every variant, then the route to them."""
        super().__init__("serving-estate:index:ModelEndpoint", name, {}, opts)
        child = ResourceOptions(parent=self)
        args = checked(ModelEndpointArgs, args, f"ModelEndpoint {name}")
        endpoint = args["endpoint"]
        where = args.get("platform", PlatformName.LOCAL)
        gateway, host = args.get("gateway"), args.get("host")
        settings = args.get("gateway_settings") or GatewaySettings()
        cluster = args.get("kubernetes") or KubernetesSettings()
        if gateway is None or host is None:
            own = Gateway(
                f"{name}-gateway",
                {
                    "platform": where,
                    "settings": settings,
                    "kubernetes": cluster,
                    **({"host": host} if host else {}),
                },
                child,
            )
            gateway, host = gateway or own.gateway, host or own.host
        servers = {}
        for key, variant in endpoint.variants.items():
            server = ModelServerArgs(
                model=variant.model,
                served_name=name,
                runtime=variant.runtime or Runtime.BUNDLED,
                registry=args.get("registry", ""),
                scaling=endpoint.scaling_of(key),
                resources=endpoint.resources_of(key),
                placement=endpoint.placement_of(key),
                fallback=endpoint.rungs_of(key),
                timeout_ms=endpoint.timeout_ms or 30_000,
                labels={
                    "serving-estate/endpoint": name,
                    "serving-estate/variant": key,
                    **({"serving-estate/stands-in": "yes"} if key == endpoint.stand_in else {}),
                },
                prometheus=args.get("prometheus", ""),
                counts_predictions=args.get("counts_predictions", False),
                tells_answers=bool(endpoint.rollout and endpoint.rollout.compares_answers),
                platform=where,
                host=host,
                kubernetes=cluster,
            )
            if endpoint.rollout and endpoint.rollout.flagger:
                server["replicas_are_owned"] = True
            login = args.get("registry_login")
            if login:
                server["registry_login"] = login
            servers[key] = ModelServer(f"{name}-{key}", server, child)
        services: dict[str, Input[str]] = {key: server.service for key, server in servers.items()}
        route = TrafficRoute(
            name,
            {
                "gateway": gateway,
                "services": services,
                "endpoint": endpoint,
                "settings": settings,
                "platform": where,
            },
            child,
        )
        self.url, self.grpc = route.url, route.grpc
        models = {key: variant.model for key, variant in endpoint.variants.items()}
        addresses = [server.addresses for server in servers.values()]
        self.variants = Output.all(route.weights, *addresses).apply(lambda known: _states(models, *known))
        self.register_outputs({"url": self.url, "grpc": self.grpc, "variants": self.variants})


def _states(
    models: dict[str, str], weights: dict[str, int], *addresses: list[str]
) -> dict[str, VariantState]:
    """The outputs of all variants at once: one for each of their fields would be many."""
    states = {
        key: {"model": model, "weight": int(weights.get(key, 0)), "addresses": listed}
        for (key, model), listed in zip(models.items(), addresses, strict=True)
    }
    return cast(dict[str, VariantState], states)
