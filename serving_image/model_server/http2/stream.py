"""One request of an HTTP/2 connection, and its answer: what protocols get."""

from collections import deque
from typing import TYPE_CHECKING, Protocol

from model_server.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEAD,
    HEADERS,
    Code,
    frame,
)

if TYPE_CHECKING:
    from model_server.http2.connection import Connection


class Receiver(Protocol):
    """Who reads a request."""

    def data(self, chunk: bytes) -> None:
        """Part of the body came."""

    def end(self) -> None:
        """The body is whole."""

    def late(self) -> None:
        """The body took too long to arrive."""

    def lost(self) -> None:
        """The client does not wait any more; nothing can be sent."""


class Nobody:
    """Reads a request that is answered already."""

    def data(self, chunk: bytes) -> None:
        """See Receiver."""

    def end(self) -> None:
        """See Receiver."""

    def late(self) -> None:
        """See Receiver."""

    def lost(self) -> None:
        """See Receiver."""


NOBODY = Nobody()


class Stream:
    """The sending side, and what the connection keeps of it.

    The connection calls the receiver; the receiver, or whoever it hands the stream to, calls `respond`, or
    `start`, `send` and `finish`. What the client has no room for yet waits in `pending`.
    """

    __slots__ = (
        "blocked_since",
        "connection",
        "credit",
        "due",
        "finished",
        "id",
        "left",
        "pending",
        "received_all",
        "receiver",
        "streaming",
        "trailers",
        "window",
    )

    def __init__(self, connection: "Connection", number: int, window: int, credit: int, due: float) -> None:
        self.connection = connection
        self.id = number
        self.receiver: Receiver = NOBODY
        self.window = window
        """Bytes that the client has room for."""
        self.credit = credit
        """Bytes that the client may still send."""
        self.due = due
        """When the body must be whole, in seconds of the listener's clock."""
        self.left: int | None = None
        """Bytes of the body that must still come, where the client said how many there are."""
        self.received_all = False
        self.streaming = False
        """A conversation: there is no time by which the body must be whole."""
        self.finished = False
        """The answer is complete, though part of it may be pending."""
        self.pending: deque[bytes] = deque()
        self.trailers: bytes | None = None
        """The last header block, while data is pending before it."""
        self.blocked_since = 0.0

    def respond(self, head: bytes, data: bytes, trailers: bytes) -> None:
        """Send a whole answer: header block, body, trailer block."""
        if self.finished:
            return
        connection = self.connection
        size = len(data)
        if size > connection.frame_limit or size > self.window or size > connection.window:
            self.start(head)
            self.send(data)
            self.finish(trailers)
            return
        self.finished = True
        self.window -= size
        connection.window -= size
        number = self.id
        connection.write(
            b"".join(
                (
                    HEAD.pack(0, len(head), HEADERS, END_HEADERS, number),
                    head,
                    HEAD.pack(size >> 16, size & 0xFFFF, DATA, 0, number),
                    data,
                    HEAD.pack(0, len(trailers), HEADERS, END_HEADERS | END_STREAM, number),
                    trailers,
                )
            )
        )
        connection.answered(self)

    def start(self, head: bytes) -> None:
        """Send the header block of a longer answer."""
        if not self.finished:
            self.connection.write(frame(HEADERS, END_HEADERS, self.id, head))

    def send(self, data: bytes) -> None:
        """Send part of the body, now or when the client has room."""
        if self.finished:
            return
        self.pending.append(data)
        self.connection.flush(self)

    def finish(self, trailers: bytes) -> None:
        """End the answer with a trailer block."""
        if self.finished:
            return
        self.finished = True
        self.trailers = trailers
        self.connection.flush(self)

    def refuse(self, head: bytes) -> None:
        """Answer with nothing but a header block."""
        if self.finished:
            return
        self.finished = True
        self.connection.write(frame(HEADERS, END_HEADERS | END_STREAM, self.id, head))
        self.connection.answered(self)

    def reset(self, code: Code) -> None:
        """Cut the stream."""
        self.finished = True
        self.connection.reset(self, code)

    def more(self, size: int) -> None:
        """Let the client of a conversation send this many bytes more."""
        if not self.received_all and not self.finished:
            self.connection.give_credit(self, size)
