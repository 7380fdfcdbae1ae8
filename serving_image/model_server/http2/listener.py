"""The gRPC port: accepts connections, sweeps slow ones, drains."""

import asyncio
import socket
from time import monotonic

from model_server.http.port import Port
from model_server.http2.connection import Accept, Connection
from model_server.http2.frames import Code
from model_server.settings import GrpcSettings
from model_server.telemetry.metrics import Metrics

_OTHERS_CLOSE_SECONDS = 0.25


class Listener:
    """All connections of one port in this process."""

    sweep_seconds = 0.25

    def __init__(self, limits: GrpcSettings, accept: Accept, metrics: Metrics) -> None:
        self._limits = limits
        self._accept = accept
        self._connections: set[Connection] = set()
        self._open = metrics.gauge("model_server_grpc_connections", "Open gRPC connections.")
        self._metrics = metrics
        self._port: Port | None = None
        self._closing = False
        self._sweeper: asyncio.TimerHandle | None = None
        self.clock = monotonic()
        """Monotonic seconds, as of the last sweep: timeouts need no finer clock."""
        self.draining = False

    async def start(self, sock: socket.socket) -> None:
        """Accept on a bound socket."""
        self._port = Port(sock, lambda: Connection(self, self._limits, self._accept))
        await self._port.open()
        self._sweep()

    def stop_accepting(self) -> None:
        """Close the port; connections end when their calls are answered.

        Clients that are asked to go come back at once. They must find every worker's port closed, not one
        that is about to be: what waits there to be accepted would be cut.
        """
        if self._port is None:
            self.draining = True
            return
        self._closing = True
        self._port.close(self._closed)

    def _closed(self) -> None:
        self.draining = True
        if self._connections:
            asyncio.get_running_loop().call_later(_OTHERS_CLOSE_SECONDS, self._drain)
        else:
            self._closing = False

    def _drain(self) -> None:
        self._closing = False
        for connection in list(self._connections):
            connection.drain()

    def abort(self) -> None:
        """Cut every connection."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._connections):
            connection.abort()

    @property
    def busy(self) -> int:
        """Connections with a call under way, or that may have one."""
        if self._closing:
            return max(1, len(self._connections))
        return sum(connection.busy for connection in self._connections)

    def opened(self, connection: Connection) -> bool:
        """A connection came; False if it is one too many."""
        self._connections.add(connection)
        self._open.set(len(self._connections))
        return len(self._connections) <= self._limits.max_connections

    def closed(self, connection: Connection) -> None:
        """A connection ended."""
        self._connections.discard(connection)
        self._open.set(len(self._connections))

    def refused(self, code: Code) -> None:
        """A connection was ended because it broke HTTP/2 or a limit."""
        self._metrics.counter(
            "model_server_grpc_refused_total",
            "Connections that broke HTTP/2 or a limit, by code.",
            {"code": code.name.lower()},
        ).add()

    def _sweep(self) -> None:
        self.clock = now = monotonic()
        for connection in list(self._connections):
            connection.sweep(now)
        self._sweeper = asyncio.get_running_loop().call_later(self.sweep_seconds, self._sweep)
