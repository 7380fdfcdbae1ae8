"""The HTTP port: accepts connections, sweeps slow ones, drains."""

import asyncio
import socket
from time import monotonic

from model_server.http.connection import Connection, Dispatch
from model_server.settings import HttpSettings
from model_server.telemetry.metrics import Metrics

_SWEEP_SECONDS = 0.25


class Listener:
    """All connections of one port in this process."""

    def __init__(self, limits: HttpSettings, dispatch: Dispatch, metrics: Metrics) -> None:
        self._limits = limits
        self._dispatch = dispatch
        self._connections: set[Connection] = set()
        self._open = metrics.gauge("model_server_http_connections", "Open HTTP connections.")
        self._metrics = metrics
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self.clock = monotonic()
        """Monotonic seconds, as of the last sweep: timeouts need no finer clock."""
        self.draining = False
        """Answers now end their connections, so that clients go elsewhere."""

    async def start(self, sock: socket.socket) -> None:
        """Accept on a bound socket."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self, self._limits, self._dispatch), sock=sock, backlog=2048
        )
        self.sweep()

    def stop_accepting(self) -> None:
        """Close the port; idle connections end now, others with their answer."""
        self.draining = True
        if self._server is not None:
            self._server.close()
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
        """Connections with a request under way."""
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
