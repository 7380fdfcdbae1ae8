"""One HTTP request and the way to answer it: what handlers get."""

from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import orjson

from model_server.engine.call import log_fields
from model_server.http.stream import ResponseStream
from model_server.telemetry.logs import log

if TYPE_CHECKING:
    from model_server.http.connection import Connection
    from model_server.http.incoming import IncomingBody

JSON = b"application/json"
TEXT = b"text/plain; charset=utf-8"

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
} | {499: b"HTTP/1.1 499 Client Closed Request\r\n"}
_OK_JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"

_CLIENT_GONE = 499
_LOGGED_CHARACTERS = 200

Header = tuple[bytes, bytes]


class Exchange:
    """A request whose body is complete, and its one answer."""

    __slots__ = (
        "_added",
        "_connection",
        "_on_gone",
        "answered",
        "body",
        "gone",
        "headers",
        "http_version",
        "incoming",
        "keep_alive",
        "method",
        "received",
        "response",
        "streaming",
        "target",
        "trace_id",
    )

    def __init__(
        self,
        connection: "Connection",
        method: bytes,
        target: bytes,
        headers: Mapping[bytes, bytes],
        body: bytes,
        keep_alive: bool,
        http_version: str = "1.1",
    ) -> None:
        self._connection = connection
        self._on_gone: Callable[[], object] | None = None
        self._added: list[tuple[bytes, bytes | Callable[[], bytes]]] | None = None
        self.method = method
        self.target = target
        self.headers = headers
        """Names in lower case; values of a repeated header are joined with ", "."""
        self.body = body
        self.keep_alive = keep_alive
        self.http_version = http_version
        self.received = monotonic()
        self.answered = False
        self.streaming = False
        """Part of the answer may have been sent, and its end has not."""
        self.incoming: IncomingBody | None = None
        """Set when the body is handed over while it arrives; `body` is empty then."""
        self.gone = False
        """The client left: an answer goes nowhere."""
        self.response: bytes | None = None
        """The answer while it waits for earlier ones on a pipelined connection."""
        self.trace_id = ""
        """For logs; set where the server traces."""

    @property
    def path(self) -> bytes:
        """The target without its query, still percent-encoded."""
        return self.target.partition(b"?")[0]

    @property
    def query(self) -> dict[str, list[str]]:
        """The decoded query."""
        raw = self.target.partition(b"?")[2]
        return parse_qs(raw.decode("ascii", "replace"), keep_blank_values=True)

    @property
    def peer(self) -> str:
        """The address that the request came from; empty where it is not known."""
        return self._connection.peer

    @property
    def request_id(self) -> str:
        """The caller's X-Request-Id, for logs; empty if there is none."""
        return self.headers.get(b"x-request-id", b"").decode("latin-1")[:128]

    @property
    def log_fields(self) -> dict[str, str]:
        """What log lines about this request carry: request_id, and trace_id where there is one."""
        return log_fields(self)

    def on_gone(self, callback: Callable[[], object]) -> None:
        """Have callback called if the client leaves before the answer."""
        if self.gone:
            callback()
        elif not self.answered:
            self._on_gone = callback

    def add_header(self, name: bytes, value: bytes | Callable[[], bytes]) -> None:
        """Have a header sent with the answer, whatever it is; a function is called when it is sent.

        Once an answer has begun, nothing can be added.
        """
        if not self.answered:
            self._added = self._added or []
            self._added.append((name, value))

    def client_gone(self) -> None:
        """The connection is lost; Connection tells us."""
        self.gone = True
        if not self.answered and self._connection.logs_access:
            self._log(_CLIENT_GONE)
        # Headers to add may hold the call, which holds this: see respond.
        self._added = None
        callback, self._on_gone = self._on_gone, None
        if callback is not None:
            callback()

    def respond(
        self, status: int, body: bytes, content_type: bytes = JSON, headers: Iterable[Header] = ()
    ) -> None:
        """Send the answer, once; later calls are ignored, but for cutting off an unfinished stream."""
        if self.answered:
            if self.streaming:
                self._connection.abort()
            return
        self.answered = True
        if self._connection.logs_access and not self.gone:
            self._log(status)
        # The callback holds what holds this exchange: let go, or only the garbage collector frees them.
        self._on_gone = None
        if self.gone:
            return
        if self.incoming is not None and not self.incoming.finished:
            # What is left of the body is not read: the connection cannot be used again.
            self.keep_alive = False
        if self._added is not None:
            headers = (*headers, *self._take_added())
        self._connection.send(self, self._render(status, body, content_type, headers))

    def respond_json(self, status: int, document: object) -> None:
        """Send a JSON answer."""
        self.respond(status, orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY))

    def stream(
        self, status: int = 200, content_type: bytes = JSON, headers: Iterable[Header] = ()
    ) -> ResponseStream:
        """Begin an answer whose body comes in parts. For coroutine handlers; see ResponseStream."""
        self.answered = self.streaming = True
        if self._connection.logs_access:
            self._log(status)
        chunked = self.http_version != "1.0"
        self.keep_alive = self.keep_alive and chunked
        lines = [_STATUS_LINES[status], b"content-type: %s\r\n" % content_type]
        lines += [b"%s: %s\r\n" % header for header in (*headers, *self._take_added())]
        if chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        return ResponseStream(self._connection, self, b"".join((*lines, b"\r\n")), chunked)

    def _log(self, status: int) -> None:
        log.info(
            "request",
            extra={
                "method": self.method.decode("latin-1"),
                "target": self.target.decode("latin-1")[:_LOGGED_CHARACTERS],
                "status": status,
                "ms": round((monotonic() - self.received) * 1000, 3),
                "request_id": self.request_id,
            },
        )

    def _take_added(self) -> list[Header]:
        added, self._added = self._added or [], None
        return [(name, value if isinstance(value, bytes) else value()) for name, value in added]

    def _render(self, status: int, body: bytes, content_type: bytes, headers: Iterable[Header]) -> bytes:
        request_id = self.headers.get(b"x-request-id")
        if status == 200 and self.keep_alive and not headers and request_id is None and content_type is JSON:
            head = _OK_JSON % len(body)
        else:
            parts = [_STATUS_LINES[status]]
            if status != 204:
                parts.append(b"content-type: %s\r\ncontent-length: %d\r\n" % (content_type, len(body)))
            if request_id is not None:
                parts.append(b"x-request-id: %s\r\n" % request_id)
            parts += [b"%s: %s\r\n" % header for header in headers]
            if not self.keep_alive:
                parts.append(b"connection: close\r\n")
            parts.append(b"\r\n")
            head = b"".join(parts)
        return head if self.method == b"HEAD" else head + body
