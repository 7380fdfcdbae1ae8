"""The HTTP port: accepts connections, sweeps slow ones, drains."""

import asyncio
import socket
from time import monotonic

from model_server.http.connection import Connection, Dispatch
from model_server.http.port import Port
from model_server.settings import HttpSettings
from model_server.telemetry.metrics import Metrics

_SWEEP_SECONDS = 0.25
_GRACE_SECONDS = 0.25
"""Between the closed port and the end of idle connections: for requests on their way to us."""


class Listener:
    """All connections of one port in this process."""

    def __init__(
        self, limits: HttpSettings, dispatch: Dispatch, metrics: Metrics, *, logs_access: bool = False
    ) -> None:
        self.logs_access = logs_access
        self._limits = limits
        self._dispatch = dispatch
        self._connections: set[Connection] = set()
        self._open = metrics.gauge("model_server_http_connections", "Open HTTP connections.")
        self._metrics = metrics
        self._port: Port | None = None
        self._stopping = False
        self._sweeper: asyncio.TimerHandle | None = None
        self.clock = monotonic()
        """Monotonic seconds, as of the last sweep: timeouts need no finer clock."""
        self.draining = False
        """Answers now end their connections, so that clients go elsewhere."""

    async def start(self, sock: socket.socket) -> None:
        """Accept on a bound socket."""
        self._port = Port(sock, lambda: Connection(self, self._limits, self._dispatch))
        await self._port.open()
        self.sweep()

    def stop_accepting(self) -> None:
        """Close the port; connections end with their next answer, or a moment later if nothing comes.

        A connection that looks idle may have its next request on the wire, above all a new one.
        """
        if self._port is None:
            self.draining = True
            return
        self._stopping = True
        self._port.close(self._drain)

    def _drain(self) -> None:
        self.draining = True
        if self._connections:
            asyncio.get_running_loop().call_later(_GRACE_SECONDS, self._end_idle)
        else:
            self._stopping = False

    def _end_idle(self) -> None:
        self._stopping = False
        for connection in list(self._connections):
            connection.close_if_idle()

    def abort(self) -> None:
        """Cut every connection."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._connections):
            connection.abort()

    @property
    def busy(self) -> int:
        """Connections with a request under way, or that may have one."""
        if self._stopping:
            return max(1, len(self._connections))
        return sum(not connection.idle for connection in self._connections)

    def opened(self, connection: Connection) -> bool:
        """A connection came; False if it is one too many."""
        self._connections.add(connection)
        self._open.set(len(self._connections))
        return len(self._connections) <= self._limits.max_connections

    def closed(self, connection: Connection) -> None:
        """A connection ended."""
        self._connections.discard(connection)
        self._open.set(len(self._connections))

    def refused(self, status: int) -> None:
        """A request was refused before it reached a handler."""
        self._metrics.counter(
            "model_server_http_refused_total",
            "Requests that broke HTTP or a limit, by status.",
            {"status": str(status)},
        ).add()

    def sweep(self) -> None:
        """End connections whose time is over."""
        self.clock = now = monotonic()
        for connection in [c for c in self._connections if c.due < now]:
            connection.time_over()
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self.sweep)
