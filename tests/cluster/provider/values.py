"""Properties as they travel between engine and provider, and as the provider's own values.

Unlike the local platform's provider, secrets are followed into the depth of an object: a secret environment
variable must not make a whole Deployment unreadable.
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf import struct_pb2

SIGNATURE, SECRET = "4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270"
_UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
# The engine has one mark for what is not known yet for each type of value.
_UNKNOWNS = {
    _UNKNOWN,
    "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",
    "3eeb2bf0-c639-47a8-9e75-3b44932eb421",
    "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
    "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
}
# Property names have no dashes in Pulumi's SDKs; Kubernetes' extensions of JSON Schema do.
_DASHED = {
    f"x_kubernetes_{name}": f"x-kubernetes-{name.replace('_', '-')}"
    for name in (
        "embedded_resource",
        "int_or_string",
        "list_map_keys",
        "list_type",
        "map_type",
        "preserve_unknown_fields",
        "validations",
    )
}
_UNDERSCORED = {dashed: name for name, dashed in _DASHED.items()}

Mask = bool | dict[str, "Mask"]
"""Where a value is secret: `True` for all of it, or the names below it where something is."""


class Unknown:
    """The one value `UNKNOWN`: what the engine will know only once other resources are made."""

    def __repr__(self) -> str:
        return "UNKNOWN"

    def __deepcopy__(self, _memo: object) -> "Unknown":
        return self


UNKNOWN = Unknown()


def plain(struct: struct_pb2.Struct) -> dict[str, Any]:
    """The values in a message, secrets opened; what is not known yet is `UNKNOWN`. Nulls are left out."""
    opened = _opened_map(struct.fields)
    return opened if isinstance(opened, dict) else {}


def mask(struct: struct_pb2.Struct) -> dict[str, Mask]:
    """Where a message's values are secret."""
    found = _mask_map(struct.fields)
    return found if isinstance(found, dict) else {}


def struct(values: Mapping[str, Any], secret: Mapping[str, Mask] | None = None) -> struct_pb2.Struct:
    """A message of values, those that the mask names sealed, so that the state keeps them encrypted."""
    message = struct_pb2.Struct()
    _fill_map(message, values, dict(secret or {}))
    return message


def joined(one: Mapping[str, Mask], other: Mapping[str, Mask]) -> dict[str, Mask]:
    """A mask that seals what either of the two seals."""
    result = dict(one)
    for key, more in other.items():
        have = result.get(key, False)
        if have is True or more is True:
            result[key] = True
        else:
            result[key] = joined(have or {}, more or {})
    return result


def has_unknown(value: Any) -> bool:
    """Whether anything in a value is not known yet."""
    if isinstance(value, dict):
        return any(has_unknown(item) for item in value.values())
    if isinstance(value, list):
        return any(has_unknown(item) for item in value)
    return value is UNKNOWN


def _opened(value: struct_pb2.Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        text = value.string_value
        return UNKNOWN if len(text) == 36 and text in _UNKNOWNS else text
    if kind == "number_value":
        number = value.number_value  # all numbers travel as floating point
        return int(number) if number.is_integer() else number
    if kind == "bool_value":
        return value.bool_value
    if kind == "struct_value":
        return _opened_map(value.struct_value.fields)
    if kind == "list_value":
        return [_opened(item) for item in value.list_value.values]
    return None


def _opened_map(fields: Mapping[str, struct_pb2.Value]) -> Any:
    if SIGNATURE in fields and fields[SIGNATURE].string_value == SECRET:
        return _opened(fields["value"])
    opened = {}
    for key, value in fields.items():
        inner = _opened(value)
        if inner is not None:
            opened[_DASHED.get(key, key)] = inner
    return opened


def _mask(value: struct_pb2.Value) -> Mask:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return _mask_map(value.struct_value.fields)
    if kind == "list_value":  # servers sort and merge lists: what is secret in one may move in it
        return any(_mask(item) for item in value.list_value.values)
    return False


def _mask_map(fields: Mapping[str, struct_pb2.Value]) -> Mask:
    if SIGNATURE in fields and fields[SIGNATURE].string_value == SECRET:
        return True
    found: dict[str, Mask] = {}
    for key, value in fields.items():
        inner = _mask(value)
        if inner:
            found[_DASHED.get(key, key)] = inner
    return found


def _fill_map(message: struct_pb2.Struct, values: Mapping[str, Any], secret: dict[str, Mask]) -> None:
    for key, value in values.items():
        _fill(message.fields[_UNDERSCORED.get(key, key)], value, secret.get(key, False))


def _fill(message: struct_pb2.Value, value: Any, secret: Mask) -> None:
    if secret is True:
        sealed = message.struct_value
        sealed.fields[SIGNATURE].string_value = SECRET
        _fill(sealed.fields["value"], value, False)
    elif value is UNKNOWN:
        message.string_value = _UNKNOWN
    elif value is None:
        message.null_value = struct_pb2.NULL_VALUE
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, (int, float)):
        message.number_value = value
    elif isinstance(value, str):
        message.string_value = value
    elif isinstance(value, Mapping):
        message.struct_value.SetInParent()
        _fill_map(message.struct_value, value, secret or {})
    else:
        message.list_value.SetInParent()
        for item in value:
            _fill(message.list_value.values.add(), item, False)
