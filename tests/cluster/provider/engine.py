"""Messages to whoever runs `pulumi`: lines that stay, and the status that changes beside a resource."""

import threading

import grpc
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc

INFO, WARNING, ERROR = engine_pb2.INFO, engine_pb2.WARNING, engine_pb2.ERROR


class Engine:
    """The engine that started this plugin. Without an address, messages go nowhere."""

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._stub: engine_pb2_grpc.EngineStub | None = None
        self._lock = threading.Lock()
        self._said: set[tuple[str, str]] = set()
        if address:
            self.attach(address)

    def attach(self, address: str) -> None:
        """Send messages to this address from now on."""
        self._address = address
        self._stub = engine_pb2_grpc.EngineStub(grpc.insecure_channel(address))

    def warn(self, urn: str, message: str) -> None:
        """Say something that stays on the screen, once for each resource."""
        with self._lock:
            if (urn, message) in self._said:
                return
            self._said.add((urn, message))
        self._send(urn, WARNING, message, ephemeral=False)

    def status(self, urn: str, message: str) -> None:
        """Show what a resource waits for; the next status takes its place."""
        self._send(urn, INFO, message, ephemeral=True)

    def _send(
        self, urn: str, severity: engine_pb2.LogSeverity.ValueType, message: str, ephemeral: bool
    ) -> None:
        if self._stub is None:
            return
        request = engine_pb2.LogRequest(severity=severity, message=message, urn=urn, ephemeral=ephemeral)
        try:
            self._stub.Log(request, timeout=5)
        except grpc.RpcError:  # a message that cannot be shown must not fail what it tells of
            return
