"""serving-estate: everything that serves machine-learning models, as Pulumi components."""

from .estate import Estate, EstateArgs
from .gateway import Gateway, GatewayArgs
from .model_endpoint import ModelEndpoint, ModelEndpointArgs
from .model_registry import ModelRegistry, ModelRegistryArgs
from .model_server import ModelServer, ModelServerArgs
from .traffic_route import TrafficRoute, TrafficRouteArgs

__all__ = [
    "Estate",
    "EstateArgs",
    "Gateway",
    "GatewayArgs",
    "ModelEndpoint",
    "ModelEndpointArgs",
    "ModelRegistry",
    "ModelRegistryArgs",
    "ModelServer",
    "ModelServerArgs",
    "TrafficRoute",
    "TrafficRouteArgs",
]
