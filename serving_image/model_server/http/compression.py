"""Compressed request bodies, unpacked no further than the limit of a body."""

import zlib

from model_server.errors import InvalidRequest, PayloadTooLarge, UnsupportedMediaType

_ANY_HEADER = 32 + zlib.MAX_WBITS
"""zlib finds out by itself whether it is gzip or zlib."""


def decompress(body: bytes, coding: bytes, limit: int) -> bytes:
    """Unpack a body of this Content-Encoding to at most `limit` bytes.

    Raises UnsupportedMediaType, PayloadTooLarge, InvalidRequest. Safe in any thread.
    """
    name = coding.decode("latin-1").strip().lower()
    if name == "identity":
        return body
    if name not in ("gzip", "x-gzip", "deflate"):
        raise UnsupportedMediaType(f"Content-Encoding {name!r:.50}: expected gzip, deflate or identity")
    unpacker = zlib.decompressobj(_ANY_HEADER)
    try:
        unpacked = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise InvalidRequest(f"the body is not {name}: {error}") from None
    if len(unpacked) > limit:
        raise PayloadTooLarge(f"the body is over the limit of {limit} bytes when it is unpacked")
    if not unpacker.eof:
        raise InvalidRequest(f"the {name} body breaks off")
    if unpacker.unused_data:
        raise InvalidRequest(f"{len(unpacker.unused_data)} bytes follow the end of the {name} body")
    return unpacked
