"""Compressed request bodies (Content-Encoding)."""

import zlib

from model_server.errors import InvalidRequest, PayloadTooLarge, UnsupportedMediaType

_WINDOW_BITS = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}


def decompress(body: bytes, coding: bytes, limit: int) -> bytes:
    """Undo one coding; never makes more than `limit` bytes.

    Raises InvalidRequest, PayloadTooLarge, UnsupportedMediaType.
    """
    name = coding.strip().lower()
    if name in (b"", b"identity"):
        return body
    bits = _WINDOW_BITS.get(name)
    if bits is None:
        raise UnsupportedMediaType(
            f"Content-Encoding {coding.decode('latin-1')!r:.50} is not supported; use gzip, deflate or none"
        )
    stream = zlib.decompressobj(bits)
    try:
        plain = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise InvalidRequest(f"the body is not {name.decode()}: {error}") from None
    if len(plain) > limit:
        raise PayloadTooLarge(f"the decompressed body is over the limit of {limit} bytes")
    if not stream.eof:
        raise InvalidRequest(f"the {name.decode()} body is cut short")
    if stream.unused_data:
        raise InvalidRequest(f"{len(stream.unused_data)} bytes follow the end of the {name.decode()} body")
    return plain
