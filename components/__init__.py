"""serving-estate: everything that serves machine-learning models, as Pulumi components."""

from .autoscaler import Autoscaler, AutoscalerArgs
from .estate import Estate, EstateArgs
from .gateway import Gateway, GatewayArgs
from .gpu_stack import GpuStack, GpuStackArgs
from .model_endpoint import ModelEndpoint, ModelEndpointArgs
from .model_registry import ModelRegistry, ModelRegistryArgs
from .model_server import ModelServer, ModelServerArgs
from .monitoring import Monitoring, MonitoringArgs
from .rollout_gate import RolloutGate, RolloutGateArgs
from .rollout_job import RolloutJob, RolloutJobArgs
from .traffic_route import TrafficRoute, TrafficRouteArgs

__all__ = [
    "Autoscaler",
    "AutoscalerArgs",
    "Estate",
    "EstateArgs",
    "Gateway",
    "GatewayArgs",
    "GpuStack",
    "GpuStackArgs",
    "ModelEndpoint",
    "ModelEndpointArgs",
    "ModelRegistry",
    "ModelRegistryArgs",
    "ModelServer",
    "ModelServerArgs",
    "Monitoring",
    "MonitoringArgs",
    "RolloutGate",
    "RolloutGateArgs",
    "RolloutJob",
    "RolloutJobArgs",
    "TrafficRoute",
    "TrafficRouteArgs",
]
