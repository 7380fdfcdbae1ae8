"""What a user may say: the one definition of every field, without Pulumi."""

from .endpoint import Endpoint, Runtime, Scaling, Shadow, Variant
from .errors import SpecError, validate
from .estate import EstateSpec, PlatformName, Registry, Seed

__all__ = [
    "Endpoint",
    "EstateSpec",
    "PlatformName",
    "Registry",
    "Runtime",
    "Scaling",
    "Seed",
    "Shadow",
    "SpecError",
    "Variant",
    "validate",
]
