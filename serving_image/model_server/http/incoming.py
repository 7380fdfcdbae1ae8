"""Bodies that are handed over while they arrive, no faster than the handler takes them."""

import asyncio
from typing import TYPE_CHECKING

from model_server.errors import InvalidRequest

if TYPE_CHECKING:
    from model_server.http.connection import Connection
    from model_server.http.exchange import Exchange

STREAMED = b"application/x-ndjson"
"""POST bodies of this type are handed over as they arrive; others when they are complete."""

_ENOUGH_BYTES = 128 * 1024
"""What may wait for the handler before the connection stops reading."""


class IncomingBody:
    """The body of one request: Connection feeds it, a handler's coroutine reads it."""

    __slots__ = ("_arrived", "_bytes", "_connection", "_exchange", "_fault", "_reader", "finished")

    def __init__(self, connection: "Connection", exchange: "Exchange") -> None:
        self._connection = connection
        self._exchange = exchange
        self._arrived: list[bytes] = []
        self._bytes = 0
        self._reader: asyncio.Future[None] | None = None
        self._fault: str | None = None
        self.finished = False
        """The body is complete, or the rest of it will not come."""

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
        """The rest will not come; the handler learns it after what has arrived, and the connection ends."""
        self._fault = message
        self._exchange.keep_alive = False
        self.finish()

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

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
