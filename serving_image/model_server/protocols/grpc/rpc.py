"""One call: messages in, an answer out. What the handlers of methods get."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from model_server.errors import DeadlineExceeded, InvalidRequest, PayloadTooLarge, ServerError
from model_server.http2.hpack import Head, Headers, encode
from model_server.http2.stream import Stream
from model_server.protocols.grpc.messages import parse
from model_server.protocols.grpc.status import OK_HEAD, OK_HEADERS, OK_TRAILERS, Unimplemented, error_headers

if TYPE_CHECKING:
    from model_server.protocols.grpc.server import GrpcServer

PREFIX_BYTES = 5
"""Before each message: a flag (1: packed) and four bytes of length."""

_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_MAX_TIMEOUT_DIGITS = 8
_WINDOW_BITS = {b"gzip": zlib.MAX_WBITS | 16, b"deflate": zlib.MAX_WBITS}
_ACCEPT_ENCODING = (b"grpc-accept-encoding", b"identity,deflate,gzip")


@dataclass(frozen=True, slots=True)
class Method:
    """One method of a service."""

    path: str
    """As on the wire: `/package.Service/Method`."""
    request: Any
    """Class of its request messages."""
    handler: Callable[["Rpc", Any], Any]
    """Called with the call and each message. Of a unary method: answers now, or from a callback, or returns a
    coroutine that does. Of a streaming method: called with each message as it arrives."""
    streaming: bool = False
    """Messages come as a stream; else there is exactly one."""
    on_end: Callable[["Rpc"], None] | None = None
    """Called when the client of a streaming method has sent its last message."""


class Rpc:
    """A call under way; also the receiver of its HTTP/2 stream."""

    __slots__ = (
        "_added",
        "_buffer",
        "_limit",
        "_on_gone",
        "_parts",
        "_server",
        "_size",
        "_started",
        "_stream",
        "answered",
        "deadline",
        "gone",
        "headers",
        "method",
        "received",
        "state",
        "trace_id",
    )

    def __init__(self, server: "GrpcServer", method: Method, stream: Stream, head: Head) -> None:
        self._server = server
        self._stream = stream
        self._limit = server.max_message_bytes
        self._parts: list[bytes] = []
        self._buffer = b""
        self._size = 0
        self._on_gone: Callable[[], object] | None = None
        self._started = False
        self._added: list[tuple[bytes, bytes | Callable[[], bytes]]] | None = None
        self.method = method
        self.headers = head.fields
        """Names in lower case; values of a repeated header are joined with ","."""
        self.received = monotonic()
        self.answered = False
        self.gone = False
        """The client left or cancelled: an answer goes nowhere."""
        self.state: Any = None
        """What the handler of a streaming method keeps between messages."""
        self.trace_id = ""
        """For logs; set where the server traces."""
        timeout = self.headers.get(b"grpc-timeout")
        self.deadline: float | None = None
        """Seconds of the monotonic clock."""
        if timeout is not None:
            seconds = _seconds(timeout)
            if seconds is None:
                self.fail(InvalidRequest(f"grpc-timeout: got {timeout.decode('latin-1')!r:.50}"))
            else:
                self.deadline = self.received + seconds

    # handlers

    @property
    def request_id(self) -> str:
        """The caller's x-request-id, for logs; empty if there is none."""
        return self.headers.get(b"x-request-id", b"").decode("latin-1")[:128]

    def on_gone(self, callback: Callable[[], object]) -> None:
        """Have callback called if the client leaves or cancels before the answer."""
        if self.gone:
            callback()
        elif not self.answered:
            self._on_gone = callback

    def add_header(self, name: bytes, value: bytes | Callable[[], bytes]) -> None:
        """Have metadata sent with the answer, whatever it is; a function is called when it is sent.

        Once an answer has begun, nothing can be added.
        """
        if not self.answered and not self._started:
            self._added = self._added or []
            self._added.append((name, value))

    def respond(self, message: bytes, headers: Headers = ()) -> None:
        """Send the one answer of a unary method, a serialized message; after that calls are ignored."""
        if not self._finish("OK"):
            return
        size = len(message)
        self._stream.respond(self._head(headers), b"\x00" + size.to_bytes(4, "big") + message, OK_TRAILERS)

    def send(self, message: bytes) -> None:
        """Send one message of a streaming answer."""
        if self.answered or self.gone:
            return
        self._start()
        self._stream.send(b"\x00" + len(message).to_bytes(4, "big") + message)

    def finish(self) -> None:
        """End a streaming answer."""
        if self._finish("OK"):
            self._start()
            self._stream.finish(OK_TRAILERS)

    def fail(self, error: ServerError) -> None:
        """End the call with an error."""
        if not self._finish(error.grpc_code):
            return
        trailers = error_headers(error)
        if isinstance(error, Unimplemented):
            trailers += (_ACCEPT_ENCODING,)
        if self._started:
            self._stream.finish(encode(trailers))
        else:
            self._stream.refuse(self._head(trailers))

    def give_credit(self, size: int) -> None:
        """A streamed message of this size is dealt with: the client may send more."""
        self._stream.more(size + PREFIX_BYTES)

    def _head(self, more: Headers) -> bytes:
        request_id = self.headers.get(b"x-request-id")
        if request_id is not None:
            more = ((b"x-request-id", request_id), *more)
        if self._added is not None:
            added, self._added = self._added, None
            more = (*more, *((name, value if isinstance(value, bytes) else value()) for name, value in added))
        return encode(OK_HEADERS + more) if more else OK_HEAD

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._stream.start(self._head(()))

    def _finish(self, code: str) -> bool:
        """Note the end; False if there was one before."""
        if self.answered or self.gone:
            return False
        self.answered = True
        # The callback holds what holds this call: let go, or only the garbage collector frees them.
        self._on_gone = None
        self.state = None
        self._parts.clear()
        self._server.count(self.method, code)
        return True

    # Receiver

    def data(self, chunk: bytes) -> None:
        """See Receiver."""
        if self.answered:
            return
        if self.method.streaming:
            self._server.guard(self, self._read_messages, chunk)
            return
        self._parts.append(chunk)
        self._size += len(chunk)
        if self._size > self._limit + PREFIX_BYTES:
            self.fail(_too_large(self._size - PREFIX_BYTES, self._limit))

    def end(self) -> None:
        """See Receiver."""
        if not self.answered:
            self._server.guard(self, self._end_of_stream if self.method.streaming else self._handle_one)

    def late(self) -> None:
        """See Receiver."""
        self.fail(DeadlineExceeded("the request took too long to arrive"))

    def lost(self) -> None:
        """See Receiver."""
        if self.answered or self.gone:
            return
        self.gone = True
        # Headers to add may hold the call, which holds this: see _finish.
        self._added = None
        self._parts.clear()
        self._server.count(self.method, "CANCELLED")
        callback, self._on_gone = self._on_gone, None
        if callback is not None:
            callback()

    def _handle_one(self) -> Any:
        parts = self._parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self.received = monotonic()
        size = int.from_bytes(body[1:PREFIX_BYTES], "big")
        if len(body) != size + PREFIX_BYTES:
            raise InvalidRequest(
                f"expected one message of {size} bytes, as its prefix says; got {len(body) - PREFIX_BYTES}"
                if len(body) >= PREFIX_BYTES
                else "expected one message, got none"
            )
        message = self._unpack(body[0], body[PREFIX_BYTES:])
        return self.method.handler(self, parse(self.method.request, message))

    def _read_messages(self, chunk: bytes) -> None:
        buffer = self._buffer + chunk
        at = 0
        while len(buffer) - at >= PREFIX_BYTES and not self.answered:
            begin = at + PREFIX_BYTES
            size = int.from_bytes(buffer[at + 1 : begin], "big")
            if size > self._limit:
                raise _too_large(size, self._limit)
            if len(buffer) - begin < size:
                break
            message = self._unpack(buffer[at], buffer[begin : begin + size])
            at = begin + size
            self.method.handler(self, parse(self.method.request, message))
        self._buffer = buffer[at:]

    def _end_of_stream(self) -> None:
        if self._buffer:
            raise InvalidRequest("the last message is cut short")
        if self.method.on_end is not None:
            self.method.on_end(self)
        else:
            self.finish()

    def _unpack(self, flag: int, message: bytes) -> bytes:
        if flag == 0:
            return message
        coding = self.headers.get(b"grpc-encoding", b"identity")
        bits = _WINDOW_BITS.get(coding)
        if bits is None or flag != 1:
            raise Unimplemented(f"a message packed with {coding.decode('latin-1')!r:.50} cannot be read here")
        unpacker = zlib.decompressobj(bits)
        try:
            unpacked = unpacker.decompress(message, self._limit + 1)
        except zlib.error as error:
            raise InvalidRequest(f"the message cannot be unpacked: {error}") from None
        if len(unpacked) > self._limit:
            raise _too_large(len(unpacked), self._limit)
        if not unpacker.eof:
            raise InvalidRequest("the packed message is cut short")
        return unpacked


def _too_large(size: int, limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the message has {size} bytes or more; the limit is {limit}")


def _seconds(timeout: bytes) -> float | None:
    digits, unit = timeout[:-1], _UNITS.get(timeout[-1:])
    if unit is None or not digits.isdigit() or len(digits) > _MAX_TIMEOUT_DIGITS:
        return None
    return int(digits) * unit
