"""The JSON Schema of stack files, for editors: `python -m components.spec.stack_schema [--check]`.

It is draft 7 and without references, which is what editors show best. It tells what can be told of a file
field by field; rules that look at several fields are checked by the program.
"""

import sys
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from .estate import EstateSpec
from .facts import choices, fields, inner, one_line
from .generated import main

FILE = Path(__file__).with_name("stack.schema.json")
PROJECT = "serving-estate"

_SIMPLE = {str: "string", int: "integer", float: "number", bool: "boolean"}


def stack_schema() -> dict[str, Any]:
    """The schema of a whole `Pulumi.<stack>.yaml`."""
    config = _block(EstateSpec)
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": f"Stack file of {PROJECT}",
        "description": "One environment: what runs, where, and who gets which answer.",
        "type": "object",
        "properties": {
            "config": {
                "description": config["description"],
                "type": "object",
                "properties": {f"{PROJECT}:{name}": field for name, field in config["properties"].items()},
                "patternProperties": {
                    f"^(?!{PROJECT}:)[^:]+:[^:]+$": {"description": "Configuration of another package."}
                },
                "required": [f"{PROJECT}:{name}" for name in config["required"]],
                "additionalProperties": False,
            },
            "environment": {"description": "Environments of Pulumi ESC to take configuration from."},
            "secretsprovider": {"type": "string", "description": "What encrypts secrets; kept by Pulumi."},
            "encryptedkey": {"type": "string", "description": "The key for secrets; kept by Pulumi."},
            "encryptionsalt": {"type": "string", "description": "The salt for secrets; kept by Pulumi."},
        },
        "required": ["config"],
        "additionalProperties": False,
    }


def _block(block: type[BaseModel]) -> dict[str, Any]:
    required = [name for name, field in block.model_fields.items() if field.is_required()]
    facts = {fact.name: f"{fact.doc} {fact.sentence}".strip() for fact in fields(block)}
    return {
        "description": one_line(block.__doc__ or ""),
        "type": "object",
        "properties": {
            name: {"description": facts[name], **_field(field)} for name, field in block.model_fields.items()
        },
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def _field(field: FieldInfo) -> dict[str, Any]:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    keywords: dict[str, Any] = {key: value for key, value in extra.items() if key not in ("unit", "kind")}
    schema = _kind(inner(field.annotation))
    for rule in field.metadata:
        _bound(schema, rule)
    for keyword, value in keywords.items():
        both = isinstance(value, dict) and isinstance(schema.get(keyword), dict)
        schema[keyword] = {**schema[keyword], **value} if both else value
    if field.examples:
        schema["examples"] = field.examples
    if not field.is_required():
        # Nothing behind the colon is as good as leaving the field out.
        schema["type"] = [schema["type"], "null"]
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
        default = field.get_default(call_default_factory=True, validated_data={})
        if isinstance(default, BaseModel):
            default = default.model_dump(mode="json", exclude_none=True)
        if default is not None:
            schema["default"] = default.value if isinstance(default, Enum) else default
    schema.pop("description", None)
    return schema


def _bound(schema: dict[str, Any], rule: Any) -> None:
    lengths = ("minItems", "maxItems") if schema["type"] == "array" else ("minProperties", "maxProperties")
    names = {
        "ge": "minimum",
        "le": "maximum",
        "min_length": lengths[0],
        "max_length": lengths[1],
        "pattern": "pattern",
    }
    for attribute, keyword in names.items():
        value = getattr(rule, attribute, None)
        if value is not None:
            schema[keyword] = value


def _kind(kind: Any) -> dict[str, Any]:
    if get_origin(kind) is dict:
        return {"type": "object", "additionalProperties": _kind(get_args(kind)[1])}
    if get_origin(kind) is list:
        return {"type": "array", "items": _kind(get_args(kind)[0])}
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _block(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        docs = choices(kind)
        return {"type": "string", "enum": [*docs], "enumDescriptions": [*docs.values()]}
    return {} if kind is Any else {"type": _SIMPLE[kind]}


if __name__ == "__main__":
    sys.exit(main({FILE: stack_schema}))
