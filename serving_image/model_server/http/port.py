"""A listening port that closes without cutting anybody off.

The kernel shakes hands before we accept: closing a port resets the connections that wait there, whose clients
may have sent their first request. So new handshakes are turned away first, those under way finish and are
accepted, and the port closes empty. Who is turned away asks again a second later and is then refused, or
finds another server.
"""

import asyncio
import select
import socket
import struct
from array import array
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

LINGER_SECONDS = 2.0
"""Between our last word to a client and the end of the connection, if the client does not end it."""
_BACKLOG = 2048
_HANDSHAKE_SECONDS = 0.05
"""For handshakes under way: the longest way to a client within a data centre, many times over."""
_TURN_SECONDS = 0.001
_EMPTYING_SECONDS = 2.0
_SO_ATTACH_FILTER = 26
_NO_HANDSHAKES = (
    # Classic BPF over the TCP header: (code, jump if true, jump if false, value).
    (0x30, 0, 0, 13),  # load the byte of flags
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # a first SYN?
    (0x06, 0, 0, 0),  # then drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # else pass it on
)


class Port:
    """Accepts connections on a bound socket."""

    def __init__(self, sock: socket.socket, connection: Callable[[], asyncio.BaseProtocol]) -> None:
        self._sock = sock
        self._connection = connection
        self._server: asyncio.Server | None = None
        self._closed: Callable[[], None] | None = None
        self._give_up_at = 0.0

    async def open(self) -> None:
        """Begin to accept."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connection, sock=self._sock, backlog=_BACKLOG)

    def close(self, closed: Callable[[], None]) -> None:
        """Turn new clients away, accept those that got through, close; then call `closed`."""
        self._closed = closed
        self._give_up_at = monotonic() + _EMPTYING_SECONDS
        # Where the system cannot do it, the port closes as soon as nobody waits.
        with suppress(OSError):
            _drop_handshakes(self._sock)
        asyncio.get_running_loop().call_later(_HANDSHAKE_SECONDS, self._close_if_empty)

    def _close_if_empty(self) -> None:
        # The event loop accepts one connection a turn, and timers come before it: look at the port itself.
        waiting = select.poll()
        waiting.register(self._sock, select.POLLIN)
        if waiting.poll(0) and monotonic() < self._give_up_at:
            asyncio.get_running_loop().call_later(_TURN_SECONDS, self._close_if_empty)
            return
        if self._server is not None:
            self._server.close()
        if self._closed is not None:
            self._closed()


def _drop_handshakes(sock: socket.socket) -> None:
    """Have the kernel ignore first SYNs to this socket. Raises OSError where it cannot."""
    instructions = array("B", b"".join(struct.pack("=HBBI", *each) for each in _NO_HANDSHAKES))
    address, _ = instructions.buffer_info()
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_NO_HANDSHAKES), address))
