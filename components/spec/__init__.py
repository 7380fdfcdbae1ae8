"""What a user may say: the one definition of every field, without Pulumi."""

from .base import Problem, Spec, dotted, near_miss
from .endpoint import Endpoint, Runtime, Scaling, Shadow, Variant
from .errors import SpecError, validate
from .estate import EstateSpec, PlatformName, Registry, Seed

__all__ = [
    "Endpoint",
    "EstateSpec",
    "PlatformName",
    "Problem",
    "Registry",
    "Runtime",
    "Scaling",
    "Seed",
    "Shadow",
    "Spec",
    "SpecError",
    "Variant",
    "dotted",
    "near_miss",
    "validate",
]
