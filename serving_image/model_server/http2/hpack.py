"""Header compression (RFC 7541). Decoding keeps the connection's table; encoding is stateless literals."""

from collections import deque

from model_server.http2 import huffman

Headers = tuple[tuple[bytes, bytes], ...]


class Head:
    """A header block that was read, and what follows from it."""

    __slots__ = ("fields", "headers", "length", "well_formed")

    def __init__(self, headers: Headers) -> None:
        self.headers = headers
        self.fields: dict[bytes, bytes] = {}
        """By name; values of a repeated header are joined with ",", as gRPC joins metadata."""
        for name, value in headers:
            before = self.fields.get(name)
            self.fields[name] = value if before is None else before + b"," + value
        self.well_formed = _well_formed(headers)
        """It is a request as RFC 9113, section 8 wants it."""
        length = self.fields.get(b"content-length")
        self.length = None if length is None else int(length) if length.isdigit() and len(length) < 20 else -1
        """Bytes that the body must have, if the client says so; -1 where it says nonsense."""


_STATIC = tuple(
    (name, value)
    for name, values in (
        (b":authority", (b"",)),
        (b":method", (b"GET", b"POST")),
        (b":path", (b"/", b"/index.html")),
        (b":scheme", (b"http", b"https")),
        (b":status", (b"200", b"204", b"206", b"304", b"400", b"404", b"500")),
        (b"accept-charset", (b"",)),
        (b"accept-encoding", (b"gzip, deflate",)),
        *((name, (b"",)) for name in (b"accept-language", b"accept-ranges", b"accept")),
        *((name, (b"",)) for name in (b"access-control-allow-origin", b"age", b"allow", b"authorization")),
        *((name, (b"",)) for name in (b"cache-control", b"content-disposition", b"content-encoding")),
        *((name, (b"",)) for name in (b"content-language", b"content-length", b"content-location")),
        *((name, (b"",)) for name in (b"content-range", b"content-type", b"cookie", b"date", b"etag")),
        *((name, (b"",)) for name in (b"expect", b"expires", b"from", b"host", b"if-match")),
        *((name, (b"",)) for name in (b"if-modified-since", b"if-none-match", b"if-range")),
        *((name, (b"",)) for name in (b"if-unmodified-since", b"last-modified", b"link", b"location")),
        *((name, (b"",)) for name in (b"max-forwards", b"proxy-authenticate", b"proxy-authorization")),
        *((name, (b"",)) for name in (b"range", b"referer", b"refresh", b"retry-after", b"server")),
        *((name, (b"",)) for name in (b"set-cookie", b"strict-transport-security", b"transfer-encoding")),
        *((name, (b"",)) for name in (b"user-agent", b"vary", b"via", b"www-authenticate")),
    )
    for value in values
)
"""The 61 entries of RFC 7541, appendix A, in their order."""

_PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority"})
_CONNECTION_HEADERS = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
_TABLE_BYTES = 4096
_ENTRY_BYTES = 32
_MAX_SHIFT = 28
_CACHE_SIZE = 64


class HpackError(Exception):
    """The block cannot be read; nothing after it on this connection can."""


class HeadersTooLarge(Exception):
    """The headers were read, to keep the table right, and are over the limit."""


class Decoder:
    """The reading end of one connection."""

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes` limits a block's headers, as RFC 9113 counts them: texts plus 32 for each."""
        self._max_bytes = max_bytes
        self._dynamic: deque[tuple[bytes, bytes]] = deque()
        self._size = 0
        self._limit = _TABLE_BYTES
        self._cache: dict[bytes, Head] = {}

    def decode(self, block: bytes) -> Head:
        """Read a whole block. Raises HpackError, HeadersTooLarge.

        A client sends nearly the same headers with each call: a block that neither reads a changed table nor
        changes it is read once.
        """
        known = self._cache.get(block)
        if known is not None:
            return known
        try:
            headers, changed = self._decode(block)
        except (IndexError, ValueError) as error:
            raise HpackError(str(error)) from error
        head = Head(headers)
        if changed:
            self._cache.clear()
        elif len(self._cache) < _CACHE_SIZE:
            self._cache[block] = head
        return head

    def _decode(self, block: bytes) -> tuple[Headers, bool]:
        headers: list[tuple[bytes, bytes]] = []
        changed = False
        at = total = 0
        while at < len(block):
            first = block[at]
            if first & 0x80:
                index, at = _integer(block, at, 7)
                header = self._entry(index)
            elif first & 0xE0 == 0x20:
                if total:
                    raise ValueError("a table size update after headers")
                size, at = _integer(block, at, 5)
                if size > _TABLE_BYTES:
                    raise ValueError("a table larger than allowed")
                self._limit = size
                self._evict()
                changed = True
                continue
            else:
                keep = first & 0xC0 == 0x40
                index, at = _integer(block, at, 6 if keep else 4)
                if index:
                    name = self._entry(index)[0]
                else:
                    name, at = _text(block, at)
                value, at = _text(block, at)
                header = (name, value)
                if keep:
                    self._dynamic.appendleft(header)
                    self._size += len(name) + len(value) + _ENTRY_BYTES
                    self._evict()
                    changed = True
            total += len(header[0]) + len(header[1]) + _ENTRY_BYTES
            # References are cheap to send: what is over the limit is not even listed.
            if total <= self._max_bytes:
                headers.append(header)
        if total > self._max_bytes:
            self._cache.clear()
            raise HeadersTooLarge(f"the headers have {total} bytes; the limit is {self._max_bytes}")
        return tuple(headers), changed

    def _entry(self, index: int) -> tuple[bytes, bytes]:
        if index == 0:
            raise ValueError("header index 0")
        if index <= len(_STATIC):
            return _STATIC[index - 1]
        return self._dynamic[index - 1 - len(_STATIC)]

    def _evict(self) -> None:
        while self._size > self._limit:
            name, value = self._dynamic.pop()
            self._size -= len(name) + len(value) + _ENTRY_BYTES


def encode(headers: Headers) -> bytes:
    """A block that any decoder reads in any state: static entries and literals."""
    parts: list[bytes] = []
    for name, value in headers:
        if (name, value) in _STATIC:
            parts.append(bytes((0x80 | _STATIC.index((name, value)) + 1,)))
            continue
        parts += [b"\x00", _length(len(name)), name, _length(len(value)), value]
    return b"".join(parts)


def _well_formed(headers: Headers) -> bool:
    """Pseudo-headers first and once each, nothing that belongs to HTTP/1.1, lower case."""
    seen: set[bytes] = set()
    regular = False
    for name, value in headers:
        if name.startswith(b":"):
            if regular or name in seen or name not in _PSEUDO:
                return False
            seen.add(name)
        else:
            regular = True
            if not name or name in _CONNECTION_HEADERS or name != name.lower():
                return False
            if name == b"te" and value != b"trailers":
                return False
    return {b":method", b":scheme", b":path"} <= seen and (b":path", b"") not in headers


def _length(size: int) -> bytes:
    if size < 127:
        return bytes((size,))
    size -= 127
    out = bytearray((127,))
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    out.append(size)
    return bytes(out)


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    mask = (1 << bits) - 1
    value = block[at] & mask
    at += 1
    if value < mask:
        return value, at
    shift = 0
    while True:
        octet = block[at]
        at += 1
        value += (octet & 127) << shift
        if octet < 128:
            return value, at
        shift += 7
        if shift > _MAX_SHIFT:
            raise ValueError("an integer that is too large")


def _text(block: bytes, at: int) -> tuple[bytes, int]:
    coded = block[at] & 0x80
    size, at = _integer(block, at, 7)
    end = at + size
    if end > len(block):
        raise ValueError("a text runs past the block")
    raw = block[at:end]
    return (huffman.decode(raw) if coded else raw), end
