"""The components for programs of other packages and languages."""

from typing import Any, get_args, get_origin

import pulumi
from pulumi.errors import InputPropertiesError
from pulumi.provider.experimental.analyzer import ComponentDefinition
from pulumi.provider.experimental.component import ComponentProvider
from pulumi.provider.provider import ConstructResult
from pulumi.provider.server import ComponentInitError
from pydantic import BaseModel

from .arguments import ArgumentsError
from .spec import EstateSpec, dotted
from .spec.facts import blocks, inner


class Constructor(ComponentProvider):
    """Makes components from the plain values that the engine brings.

    Only names are mapped here: what the SDK would do beside that (drop what it does not know, refuse an
    enumeration in words of its own) is left to the components, which check their arguments themselves.
    """

    def map_inputs(self, inputs: Any, component_def: ComponentDefinition) -> Any:
        """The inputs with the names that they have in Python."""
        specified = {block.__name__: block for block in blocks(EstateSpec)}
        mapped = {}
        for name, value in inputs.items():
            definition = component_def.inputs.get(name)
            token = (definition.ref or "").rsplit(":", 1)[-1] if definition else ""
            mapped[component_def.inputs_mapping.get(name, name)] = _renamed(specified.get(token), value)
        return mapped

    def construct(
        self,
        name: str,
        resource_type: str,
        inputs: Any,
        options: pulumi.ResourceOptions | None = None,
    ) -> ConstructResult:
        """Make a component.

        Raises:
            InputPropertiesError: its arguments are wrong; the engine shows that without a stack trace.
        """
        try:
            return super().construct(name, resource_type, inputs, options)
        except ComponentInitError as error:
            if not isinstance(error.inner, ArgumentsError):
                raise
            wrong = error.inner
            raise InputPropertiesError(
                f"{wrong.component} cannot be made",
                [{"property_path": dotted(path), "reason": reason} for path, reason in wrong.problems],
            ) from None


def _renamed(kind: Any, value: Any) -> Any:
    """A value whose fields have the names of the block `kind`: `timeoutMs` becomes `timeout_ms`."""
    if isinstance(value, float) and value.is_integer():
        return int(value)  # all numbers travel as floating point
    kind = inner(kind)
    if isinstance(value, list):
        return [_renamed(get_args(kind)[0] if get_args(kind) else None, item) for item in value]
    if not isinstance(value, dict):
        return value
    if get_origin(kind) is dict:
        return {name: _renamed(get_args(kind)[1], item) for name, item in value.items()}
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return value
    fields = {camel(name): name for name in kind.model_fields}
    renamed = {}
    for name, item in value.items():
        known = fields.get(name, name)
        below = kind.model_fields[known].annotation if known in kind.model_fields else None
        renamed[known] = _renamed(below, item)
    return renamed


def camel(name: str) -> str:
    """The name of a Python field in the package schema."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
