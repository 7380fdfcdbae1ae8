"""One client's HTTP/1.1 connection: limits, order, back-pressure.

httptools (llhttp, the parser of Node.js) reads the bytes; this class holds it to our limits, keeps answers in
the order of their requests, and stops reading from clients that do not read.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import httptools
import orjson

from model_server.errors import ClientGone, ServerError
from model_server.http.coding import decompress
from model_server.http.exchange import Exchange
from model_server.http.incoming import STREAMED, IncomingBody
from model_server.http.port import LINGER_SECONDS
from model_server.settings import HttpSettings

if TYPE_CHECKING:
    from model_server.http.listener import Listener

Dispatch = Callable[[Exchange], None]

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_SINGLE_HEADERS = frozenset({b"content-length", b"host", b"transfer-encoding", b"content-type"})


class _Refused(Exception):
    """The request breaks HTTP or a limit; the connection ends after the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Connection(asyncio.Protocol):
    """Bytes in, exchanges to `dispatch`, answers out."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_discarding",
        "_dispatch",
        "_head_bytes",
        "_headers",
        "_in_request",
        "_incoming",
        "_limits",
        "_listener",
        "_parser",
        "_pending",
        "_reading_paused",
        "_target",
        "_transport",
        "_waiters",
        "_writing_paused",
        "due",
        "logs_access",
    )

    def __init__(self, listener: "Listener", limits: HttpSettings, dispatch: Dispatch) -> None:
        self._listener = listener
        self._limits = limits
        self._dispatch = dispatch
        self._parser = httptools.HttpRequestParser(self)
        self._pending: deque[Exchange] = deque()
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._in_request = False
        self._discarding = False
        self._reading_paused = False
        self._writing_paused = False
        self._waiters: list[asyncio.Future[None]] = []
        self.logs_access = listener.logs_access
        self._incoming: IncomingBody | None = None
        self.due = 0.0
        """Clock of the listener at which this connection has taken too long; see Listener.sweep."""

    @property
    def peer(self) -> str:
        """The client's address; empty where it is not known."""
        return str((self._transport.get_extra_info("peername") or ("",))[0])

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)
        self._allow(self._limits.header_timeout_seconds)
        if not self._listener.opened(self):
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        del exc
        self._listener.closed(self)
        while self._pending:
            self._pending.popleft().client_gone()
        self._body.clear()
        self._wake_waiters()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._discarding:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            refused = error.__context__
            if not isinstance(refused, _Refused):
                raise
            self._refuse(refused.status, str(refused))
        except httptools.HttpParserError as error:
            self._refuse(400, f"not HTTP/1.1: {error}")

    def eof_received(self) -> bool:
        """See asyncio.Protocol. Whoever stops sending is taken to be gone: most clients close both ways at
        once, which looks the same, and work that nobody waits for must not run.
        """
        return False

    def pause_writing(self) -> None:
        """See asyncio.Protocol. The client does not read: do not read from it either."""
        self._writing_paused = True
        self.due = self._listener.clock + self._limits.write_timeout_seconds
        self.balance_reading()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._writing_paused = False
        self._wake_waiters()
        if self._incoming is not None:
            self._allow(self._limits.body_timeout_seconds)
        else:
            self._allow(math.inf if self._pending else self._limits.idle_timeout_seconds)
        self.balance_reading()

    # httptools callbacks

    def on_message_begin(self) -> None:
        """A request's first byte."""
        self._in_request = True
        self._headers = {}
        self._target = b""
        self._head_bytes = 0
        self._allow(self._limits.header_timeout_seconds)

    def on_url(self, url: bytes) -> None:
        """Part of the request target."""
        self._target += url
        self._head_bytes += len(url)
        if self._head_bytes > self._limits.max_header_bytes:
            raise _Refused(414, f"the request target is over {self._limits.max_header_bytes} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or trailer."""
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > self._limits.max_header_bytes:
            raise _Refused(431, f"the headers are over {self._limits.max_header_bytes} bytes")
        name = name.lower()
        headers = self._headers
        if name in headers:
            if name in _SINGLE_HEADERS:
                raise _Refused(400, f"header {name.decode('latin-1')!r} is repeated")
            value = headers[name] + b", " + value
        elif len(headers) >= self._limits.max_headers:
            raise _Refused(431, f"more than {self._limits.max_headers} headers")
        headers[name] = value

    def on_headers_complete(self) -> None:
        """The request line and headers are whole: decide whether to read the body."""
        headers = self._headers
        version = self._parser.get_http_version()
        if b"host" not in headers and version == "1.1":
            raise _Refused(400, "HTTP/1.1 needs a Host header")
        coding = headers.get(b"transfer-encoding")
        length = headers.get(b"content-length")
        kind = headers.get(b"content-type", b"")
        streamed = (
            kind != b"application/json"  # most of all
            and kind[: len(STREAMED)].lower() == STREAMED
            and self._parser.get_method() == b"POST"
        )
        if coding is not None:
            # Two ways to say where the body ends, or an unknown one, is how requests are smuggled.
            if length is not None or version != "1.1":
                raise _Refused(400, "Transfer-Encoding cannot be used with Content-Length or before HTTP/1.1")
            if coding.lower() != b"chunked":
                raise _Refused(
                    501, f"Transfer-Encoding {coding.decode('latin-1')!r:.50} is not supported, only chunked"
                )
        elif length is not None and int(length) > self._limits.max_body_bytes and not streamed:
            raise _Refused(
                413, f"the body has {int(length)} bytes; the limit is {self._limits.max_body_bytes}"
            )
        self._allow(self._limits.body_timeout_seconds)
        expect = headers.get(b"expect")
        if expect is not None:
            if expect.lower() != b"100-continue":
                raise _Refused(417, f"Expect {expect.decode('latin-1')!r:.50} is not supported")
            if not self._pending:
                self._transport.write(_CONTINUE)
        if streamed and not self._parser.should_upgrade() and not self._discarding:
            self._hand_over_early()

    def on_body(self, body: bytes) -> None:
        """Part of the body."""
        if self._incoming is not None:
            self._allow(self._limits.body_timeout_seconds)
            self._incoming.feed(body)
            self.balance_reading()
            return
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.max_body_bytes:
            raise _Refused(413, f"the body is over the limit of {self._limits.max_body_bytes} bytes")
        self._body.append(body)

    def on_message_complete(self) -> None:
        """The request is whole: hand it over."""
        parser = self._parser
        if parser.should_upgrade() or self._discarding:
            return
        if self._incoming is not None:
            self._in_request = False
            self._allow(math.inf)
            self._incoming.finish()
            self._incoming = None
            return
        parts = self._body
        body = b"" if not parts else parts[0] if len(parts) == 1 else b"".join(parts)
        if parts:
            self._body = []
            self._body_bytes = 0
        self._in_request = False
        keep_alive = parser.should_keep_alive() and not self._listener.draining
        coding = self._headers.get(b"content-encoding")
        if coding is not None:
            try:
                body = decompress(body, coding, self._limits.max_body_bytes)
            except ServerError as error:
                raise _Refused(error.status, error.message) from None
        exchange = Exchange(self, parser.get_method(), self._target, self._headers, body, keep_alive)
        if not keep_alive:
            exchange.http_version = parser.get_http_version()
        self._pending.append(exchange)
        self._allow(math.inf)
        if len(self._pending) >= self._limits.max_pipelined:
            self.balance_reading()
        self._dispatch(exchange)

    def _hand_over_early(self) -> None:
        """Hand the request over before its body has come."""
        parser = self._parser
        keep_alive = parser.should_keep_alive() and not self._listener.draining
        exchange = Exchange(
            self, parser.get_method(), self._target, self._headers, b"", keep_alive, parser.get_http_version()
        )
        self._incoming = exchange.incoming = IncomingBody(self, exchange)
        self._pending.append(exchange)
        self._dispatch(exchange)

    # answers

    def send(self, exchange: Exchange, response: bytes) -> None:
        """Write an answer, now or when those before it are written."""
        pending = self._pending
        if self._transport.is_closing():
            return
        if pending[0] is not exchange:
            exchange.response = response
            return
        self._transport.write(response)
        pending.popleft()
        last = exchange
        while pending and pending[0].response is not None:
            last = pending.popleft()
            self._transport.write(cast(bytes, last.response))
        if not last.keep_alive:
            self._close()
            return
        if self._waiters:
            self._wake_waiters()
        if not pending:
            self._allow(self._limits.idle_timeout_seconds)
        if self._reading_paused:
            self.balance_reading()

    async def until_writable(self, exchange: Exchange) -> None:
        """Wait until it is this exchange's turn to write and the client reads. Raises ClientGone."""
        while not exchange.gone and not self._transport.is_closing():
            if self._pending[0] is exchange and not self._writing_paused:
                return
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        raise ClientGone("the client closed the connection before the end of the answer")

    def write_part(self, data: bytes) -> None:
        """Write part of the answer of the exchange whose turn it is."""
        self._transport.write(data)

    def _wake_waiters(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    @property
    def idle(self) -> bool:
        """No request is under way."""
        return not self._pending and not self._in_request

    def time_over(self) -> None:
        """The listener's sweep found `due` in the past."""
        if self._discarding or self._writing_paused or self.idle:
            self._transport.abort()
        else:
            self._refuse(408, "the request took too long to arrive")

    def close_if_idle(self) -> None:
        """The server stops: end connections that only wait for another request."""
        if self.idle:
            self._transport.close()

    def abort(self) -> None:
        """Cut the connection."""
        self._transport.abort()

    def _allow(self, seconds: float) -> None:
        """Give the client this long for its next step; what it has to read comes first."""
        if not self._writing_paused:
            self.due = self._listener.clock + seconds

    def _decline_upgrade(self, rest: bytes) -> None:
        """Read a request that offers another protocol (Java's client does) again, without the offer.

        The parser stops at its headers, before the body.
        """
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._refuse(405, "CONNECT is for proxies")
            return
        headers = {name: value for name, value in self._headers.items() if name != b"upgrade"}
        close = b"close" in headers.pop(b"connection", b"").lower()
        lines = [b"%s %s HTTP/1.1" % (method, self._target)]
        lines += [b"%s: %s" % header for header in headers.items()]
        lines += [b"connection: close"] if close else []
        self._parser = httptools.HttpRequestParser(self)
        self.data_received(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    def _refuse(self, status: int, message: str) -> None:
        """Answer what cannot be read further, after the answers still owed, then close."""
        self._discarding = True
        if self._incoming is not None:
            # Its handler is at work already, and ends the answer that it has begun.
            self._listener.refused(status)
            self._incoming.fail(message)
            self._incoming = None
            return
        self._body.clear()
        self._listener.refused(status)
        exchange = Exchange(self, b"GET", self._target, {}, b"", keep_alive=False)
        self._pending.append(exchange)
        exchange.respond(status, orjson.dumps({"error": message}))

    def _close(self) -> None:
        """Close so that the answer arrives: a reset while the client still sends would overtake it."""
        self._discarding = True
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self.due = self._listener.clock + LINGER_SECONDS

    def balance_reading(self) -> None:
        """Read from the client, or stop, as writing, pipelining and the handler allow."""
        incoming = self._incoming
        pause = (
            self._writing_paused
            or len(self._pending) >= self._limits.max_pipelined
            or (incoming is not None and incoming.full)
        )
        if pause != self._reading_paused and not self._transport.is_closing():
            self._reading_paused = pause
            if incoming is not None:
                # The client's time to send the rest runs only while we read.
                self._allow(math.inf if pause else self._limits.body_timeout_seconds)
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()
