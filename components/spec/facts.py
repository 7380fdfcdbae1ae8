"""What is known of each field beside its name, for all that is made from the specification.

The stack files' JSON Schema, the package schema and the reference are written from here, so that they
cannot say different things.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from .base import in_yaml

_SIMPLE = {str: "text", int: "whole number", float: "number", bool: "true or false"}


@dataclass(frozen=True)
class Facts:
    """A field as its reader wants to know it."""

    name: str
    type: str
    doc: str
    required: bool
    default: str
    """As it would be written; empty where the field is required or nothing stands for it."""
    unit: str
    range: str
    """E.g. `1 to 64`; empty where anything goes."""
    example: str

    @property
    def sentence(self) -> str:
        """Unit, range and default in a few words, for where there is only a description."""
        said = {"Unit": self.unit, "Range": self.range, "Default": self.default}
        return " ".join(f"{what}: {value}." for what, value in said.items() if value)


def fields(block: type[BaseModel]) -> Iterator[Facts]:
    """The facts of each field of a block."""
    for name, field in block.model_fields.items():
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        yield Facts(
            name=name,
            type=_type(inner(field.annotation)),
            doc=one_line(field.description or ""),
            required=field.is_required(),
            default=_default(field),
            unit=str(extra.get("unit", "")),
            range=_range(field),
            example=in_yaml(field.examples[0]) if field.examples else "",
        )


def blocks(root: type[BaseModel]) -> list[type[BaseModel]]:
    """A block and all that lie below it, each once, outer ones first."""
    found = [root]
    for block in found:
        for field in block.model_fields.values():
            kind = inner(field.annotation)
            kind = get_args(kind)[-1] if get_args(kind) else kind
            if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in found:
                found.append(kind)
    return found


def choices(kind: type[Enum]) -> dict[str, str]:
    """The values of an enumeration and the docstrings below them."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    lines = body.body if isinstance(body, ast.ClassDef) else []
    docs = {}
    for line, below in pairwise(lines):
        if (
            isinstance(line, ast.Assign)
            and isinstance(line.targets[0], ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            docs[line.targets[0].id] = one_line(str(below.value.value))
    return {str(member.value): docs.get(member.name, "") for member in kind}


def inner(annotation: Any) -> Any:
    """`X` of `X | None`."""
    some = [part for part in get_args(annotation) if part is not type(None)]
    return some[0] if type(None) in get_args(annotation) else annotation


def one_line(text: str) -> str:
    """A docstring without the line breaks and indentation that it has in the code; paragraphs stay."""
    return "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", text.strip()))


def _type(kind: Any) -> str:
    if get_origin(kind) is dict:
        return f"map of names to {_type(get_args(kind)[1])}"
    if get_origin(kind) is list:
        return f"list of {_type(get_args(kind)[0])}"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "one of " + ", ".join(f"`{value}`" for value in choices(kind))
    if kind is Any:
        return "data"
    return _SIMPLE.get(kind) or str(kind.__name__)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else in_yaml(value)


def _range(field: FieldInfo) -> str:
    """Of the field, or of the values of a map, which its type cannot say."""
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    values = extra.get("additionalProperties")
    if isinstance(values, dict):
        return f"{values['minimum']} to {values['maximum']}"
    low = next((rule.ge for rule in field.metadata if hasattr(rule, "ge")), None)
    high = next((rule.le for rule in field.metadata if hasattr(rule, "le")), None)
    return f"{low} to {high}" if low is not None and high is not None else ""
