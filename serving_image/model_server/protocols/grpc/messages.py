"""The messages of the gRPC services, from their compiled descriptions (`generate.py` writes them).

They live in a descriptor pool of their own: in the customary global one, a model or a test that imports
another package with the same messages (tritonclient, kserve, grpc_health) would fail, or make us fail.
"""

from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError, Message

from model_server.errors import InvalidRequest

try:
    # The public way to the same classes imports protobuf's Python implementation too: 60 ms of the start.
    from google._upb._message import DescriptorPool, MessageMeta

    def _make(descriptor: Any) -> Any:
        return MessageMeta(descriptor.name, (Message,), {"DESCRIPTOR": descriptor, "__module__": None})

except ImportError:
    from google.protobuf.descriptor_pool import DescriptorPool  # type: ignore[assignment]
    from google.protobuf.message_factory import GetMessageClass as _make  # noqa: N813

FILES = {
    path.with_suffix(".proto").name: path.read_bytes() for path in Path(__file__).parent.glob("proto/*.binpb")
}
"""Serialized FileDescriptorProtos by name."""

POOL: Any = DescriptorPool()
for _file in FILES.values():
    POOL.AddSerializedFile(_file)


def message(name: str) -> Any:
    """The class of a message by its full name."""
    descriptor = POOL.FindMessageTypeByName(name)
    return getattr(descriptor, "_concrete_class", None) or _make(descriptor)


def services() -> list[str]:
    """Full names of the services that are described."""
    files = [POOL.FindFileByName(name) for name in FILES]
    return sorted(service.full_name for file in files for service in file.services_by_name.values())


def parse(kind: Any, raw: bytes) -> Any:
    """Read a message of a class. Raises InvalidRequest."""
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise InvalidRequest(f"the message is not a {kind.DESCRIPTOR.full_name}: {error}") from None
