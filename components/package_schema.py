"""The schema of the package `serving-estate` for Pulumi's tools and other languages.

The SDK writes it from the components' types; what it cannot know is put in here.
"""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from .construct import camel
from .spec import EstateSpec
from .spec.facts import blocks, fields, one_line


def completed(schema: dict[str, Any]) -> dict[str, Any]:
    """The SDK's schema with readable descriptions, and with the unit, range and default of each field."""
    for node in _described(schema):
        node["description"] = one_line(node["description"])
    specified: dict[str, type[BaseModel]] = {block.__name__: block for block in blocks(EstateSpec)}
    for token, definition in schema.get("types", {}).items():
        block = specified.get(token.rsplit(":", 1)[-1])
        for facts in fields(block) if block else ():
            described = definition["properties"][camel(facts.name)]
            described["description"] = f"{facts.doc} {facts.sentence}".strip()
    return schema


def _described(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if isinstance(node.get("description"), str):
            yield node
        for below in node.values():
            yield from _described(below)
    elif isinstance(node, list):
        for below in node:
            yield from _described(below)
