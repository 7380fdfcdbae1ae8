"""serving-estate: everything that serves machine-learning models, as Pulumi components.

A component is loaded when it is asked for: `components.spec` alone, which commands and editors' schemas need,
loads neither the others nor the Pulumi SDK.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f".{_module(name)}", __name__), name)
    globals()[name] = found
    return found


def _module(name: str) -> str:
    """`ModelServerArgs` is in `model_server`."""
    words = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    return words.removesuffix("_args").removeprefix("_")


def __dir__() -> list[str]:
    return sorted(__all__)
