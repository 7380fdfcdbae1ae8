"""Status codes of gRPC, and the header blocks that say how a call ended."""

from enum import IntEnum
from urllib.parse import quote_from_bytes

from model_server.errors import ServerError
from model_server.http2.hpack import Headers, encode

_MESSAGE_BYTES = 2048
_UNRESERVED = " !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"


class Status(IntEnum):
    """https://grpc.github.io/grpc/core/md_doc_statuscodes.html"""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


OK_HEADERS: Headers = ((b":status", b"200"), (b"content-type", b"application/grpc"))
OK_HEAD = encode(OK_HEADERS)
OK_TRAILERS = encode(((b"grpc-status", b"0"),))


class Unimplemented(ServerError):
    """The method, or a way of packing messages, is not one of this server's."""

    status, grpc_code, kind = 501, "UNIMPLEMENTED", "unimplemented"


def error_headers(error: ServerError) -> Headers:
    """The trailers of a call that failed."""
    text = error.message.encode("utf-8", "replace")[:_MESSAGE_BYTES]
    headers: Headers = (
        (b"grpc-status", b"%d" % Status[error.grpc_code]),
        (b"grpc-message", quote_from_bytes(text, _UNRESERVED).encode()),
    )
    if error.retry_after_seconds is not None:
        headers += ((b"grpc-retry-pushback-ms", b"%d" % round(error.retry_after_seconds * 1000)),)
    return headers
