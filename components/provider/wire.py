"""Properties as they travel between engine and provider, and as the provider's own values."""

from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf import json_format, struct_pb2
from pulumi.runtime import rpc

from .kind import UNKNOWN

_SIGNATURE, _SECRET = rpc._special_sig_key, rpc._special_secret_sig


def plain(struct: struct_pb2.Struct) -> dict[str, Any]:
    """The values in a message, secrets opened; what is not known yet is `UNKNOWN`."""
    return {key: _opened(value) for key, value in json_format.MessageToDict(struct).items()}


def secret_keys(*structs: struct_pb2.Struct) -> set[str]:
    """The names of the properties that are secret, or have a secret in them."""
    return {
        key
        for struct in structs
        for key, value in json_format.MessageToDict(struct).items()
        if _has_secret(value)
    }


def struct(values: Mapping[str, Any], secrets: Iterable[str] = ()) -> struct_pb2.Struct:
    """A message of values; those named in `secrets` are sealed, so that the state keeps them encrypted."""
    sealed = {
        key: {_SIGNATURE: _SECRET, "value": values[key]} if key in set(secrets) else values[key]
        for key in values
    }
    return json_format.ParseDict(_sent(sealed), struct_pb2.Struct())


def _has_secret(value: Any) -> bool:
    if isinstance(value, dict):
        return value.get(_SIGNATURE) == _SECRET or any(_has_secret(item) for item in value.values())
    return isinstance(value, list) and any(_has_secret(item) for item in value)


def _opened(value: Any) -> Any:
    if value == rpc.UNKNOWN:
        return UNKNOWN
    if isinstance(value, dict):
        if value.get(_SIGNATURE) == _SECRET:
            return _opened(value["value"])
        return {key: _opened(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_opened(item) for item in value]
    # All numbers travel as floating point.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _sent(value: Any) -> Any:
    if value is UNKNOWN:
        return rpc.UNKNOWN
    if isinstance(value, Mapping):
        return {key: _sent(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_sent(item) for item in value]
    return value
