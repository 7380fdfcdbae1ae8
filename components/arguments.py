"""The arguments of components, checked before anything is made."""

from typing import Any, TypeVar

import pulumi
from pydantic import BaseModel

from .spec import SpecError, dotted, validate

Block = TypeVar("Block", bound=BaseModel)


def block(model: type[Block], value: Any, component: str, argument: str) -> Block:
    """`value` as a block of the specification: a consumer in another language sends plain maps.

    Raises:
        pulumi.RunError: what is wrong and where; shown without a stack trace.
    """
    try:
        return validate(model, value)
    except SpecError as error:
        lines = [f"  {dotted((argument, *path))}: {message}" for path, message in error.problems]
        raise pulumi.RunError("\n".join([f"{component} cannot be made:", *lines])) from None
