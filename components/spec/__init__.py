"""What a user may say: the one definition of every field, without Pulumi."""

from .access import Access, ApiKeys, Jwt, Per, Protection, RateLimit
from .base import Problem, Spec, dotted, near_miss
from .endpoint import Endpoint, Runtime, Shadow, Variant
from .errors import SpecError, validate
from .estate import EstateSpec, PlatformName
from .fallback import FallbackRung
from .gateway import GatewaySettings, Tls
from .gateway_classes import GatewayClass
from .gpu import GpuSettings, MigStrategy
from .kubernetes import AutoscalerName, Images, KubernetesSettings
from .observability import MonitoringSettings, Scrape
from .registry import Backup, Registry, Seed
from .resources import Effect, Placement, Resources, Toleration
from .scaling import Scaling
from .slo import Slo

__all__ = [
    "Access",
    "ApiKeys",
    "AutoscalerName",
    "Backup",
    "Effect",
    "Endpoint",
    "EstateSpec",
    "FallbackRung",
    "GatewayClass",
    "GatewaySettings",
    "GpuSettings",
    "Images",
    "Jwt",
    "KubernetesSettings",
    "MigStrategy",
    "MonitoringSettings",
    "Per",
    "Placement",
    "PlatformName",
    "Problem",
    "Protection",
    "RateLimit",
    "Registry",
    "Resources",
    "Runtime",
    "Scaling",
    "Scrape",
    "Seed",
    "Shadow",
    "Slo",
    "Spec",
    "SpecError",
    "Tls",
    "Toleration",
    "Variant",
    "dotted",
    "near_miss",
    "validate",
]
