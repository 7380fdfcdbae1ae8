"""Answers whose body is made while it is sent."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model_server.http.connection import Connection
    from model_server.http.exchange import Exchange

LAST_CHUNK = b"0\r\n\r\n"


class ResponseStream:
    """The body of one answer, in parts; made by Exchange.stream."""

    def __init__(self, connection: "Connection", exchange: "Exchange", head: bytes, chunked: bool) -> None:
        self._connection = connection
        self._exchange = exchange
        self._head = head
        self._chunked = chunked

    async def write(self, part: bytes) -> None:
        """Send a part. Waits for earlier answers, and while the client does not read. Raises ClientGone."""
        await self._connection.until_writable(self._exchange)
        self._connection.write_part(self._take_head() + self._framed(part))

    async def end(self) -> None:
        """Finish the answer. Raises ClientGone.

        A handler that raises before this has the connection cut: an incomplete answer must not look whole.
        """
        await self._connection.until_writable(self._exchange)
        self._exchange.streaming = False
        self._connection.send(self._exchange, self._take_head() + (LAST_CHUNK if self._chunked else b""))

    def _framed(self, part: bytes) -> bytes:
        if not part or not self._chunked:
            return part
        return b"%x\r\n%s\r\n" % (len(part), part)

    def _take_head(self) -> bytes:
        head, self._head = self._head, b""
        return head
