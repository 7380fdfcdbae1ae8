"""A request whose body and answer flow at the same time, each no faster than the other side takes it."""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from model_server.errors import InvalidRequest

if TYPE_CHECKING:
    from model_server.http.connection import Connection
    from model_server.http.exchange import Exchange, Header

STREAMED = b"application/x-ndjson"
"""Bodies of this type are handed over as they arrive; others when they are complete."""

_ENOUGH_BYTES = 128 * 1024
"""What may wait for the handler before the connection stops reading."""


class Stream:
    """The flow of one exchange: Connection feeds it, a handler's coroutine reads and writes."""

    __slots__ = (
        "_arrived",
        "_bytes",
        "_chunked",
        "_connection",
        "_exchange",
        "_fault",
        "_reader",
        "finished",
        "started",
    )

    def __init__(self, connection: "Connection", exchange: "Exchange", chunked: bool) -> None:
        """`chunked`: the client understands chunked answers (HTTP/1.1)."""
        self._connection = connection
        self._exchange = exchange
        self._chunked = chunked
        self._arrived: list[bytes] = []
        self._bytes = 0
        self._reader: asyncio.Future[None] | None = None
        self._fault: str | None = None
        self.finished = False
        """The body is complete, or will not come."""
        self.started = False
        """The head of the answer is written: its status cannot change any more."""

    # the connection's side

    @property
    def full(self) -> bool:
        """The handler has enough to do: stop reading from the client."""
        return self._bytes > _ENOUGH_BYTES

    def feed(self, data: bytes) -> None:
        """A part of the body arrived."""
        self._arrived.append(data)
        self._bytes += len(data)
        self._wake()

    def finish(self) -> None:
        """The body is complete."""
        self.finished = True
        self._wake()

    def fail(self, message: str) -> None:
        """The rest of the body will not come; the handler learns it after what has arrived."""
        self._fault = message
        self._exchange.keep_alive = False
        self.finish()

    # the handler's side

    async def read(self) -> bytes:
        """What has arrived since the last call; waits for something; empty at the end.

        Raises InvalidRequest if the body broke off.
        """
        while not self._arrived:
            if self._fault is not None:
                raise InvalidRequest(self._fault)
            if self.finished:
                return b""
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        data = b"".join(self._arrived)
        self._arrived.clear()
        self._bytes = 0
        self._connection.balance_reading()
        return data

    async def start(self, status: int, content_type: bytes, headers: Iterable["Header"] = ()) -> None:
        """Write the head of the answer, once the answers before it on the connection are written."""
        await self._connection.turn_of(self._exchange)
        if not self._chunked:
            self._exchange.keep_alive = False
        self.started = True
        self._connection.write_part(
            self._exchange.streaming_head(status, content_type, headers, self._chunked)
        )

    async def write(self, data: bytes) -> None:
        """Write a part of the answer; waits while the client does not read."""
        if data:
            self._connection.write_part(b"%x\r\n%s\r\n" % (len(data), data) if self._chunked else data)
            await self._connection.writable()

    def end(self) -> None:
        """The answer is complete."""
        if not self.finished:
            # What is left of the body is not read: the connection cannot be used again.
            self._exchange.keep_alive = False
        self._connection.send(self._exchange, b"0\r\n\r\n" if self._chunked else b"")

    def abort(self) -> None:
        """The answer cannot be completed: cut it off, so that the client does not take it for whole."""
        self._connection.abort()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
