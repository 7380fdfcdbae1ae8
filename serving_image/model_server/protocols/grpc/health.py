"""`grpc.health.v1.Health`: what Kubernetes' gRPC probes and load balancers ask."""

import asyncio
from typing import Any

from model_server.errors import NotFound, NotReady
from model_server.models.repository import Repository
from model_server.process.state import ServerState
from model_server.protocols.grpc.inference import SERVICE as INFERENCE
from model_server.protocols.grpc.messages import message
from model_server.protocols.grpc.rpc import Method, Rpc
from model_server.protocols.grpc.server import GrpcServer

SERVICE = "grpc.health.v1.Health"

_LOOK_SECONDS = 0.25
_SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = 1, 2, 3
_Request = message("grpc.health.v1.HealthCheckRequest")
_Response = message("grpc.health.v1.HealthCheckResponse")


class Health:
    """A service's name can be empty (the server), a service of the port, or a model."""

    def __init__(self, repository: Repository, state: ServerState) -> None:
        self._repository = repository
        self._state = state

    def add_to(self, server: GrpcServer) -> None:
        """Serve the methods."""
        server.add(Method(f"/{SERVICE}/Check", _Request, self.check))
        server.add(Method(f"/{SERVICE}/Watch", _Request, self.watch, streaming=True, on_end=lambda _: None))

    def check(self, rpc: Rpc, request: Any) -> None:
        """The status now."""
        rpc.respond(_Response(status=self._status(request.service)).SerializeToString())

    def watch(self, rpc: Rpc, request: Any) -> None:
        """The status now, and each time it changes."""
        self._tell(rpc, request.service, before=None)

    def _tell(self, rpc: Rpc, service: str, before: int | None) -> None:
        if rpc.gone or rpc.answered:
            return
        try:
            status = self._status(service)
        except NotFound:
            status = _SERVICE_UNKNOWN
        if status != before:
            rpc.send(_Response(status=status).SerializeToString())
        asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._tell, rpc, service, status)

    def _status(self, service: str) -> int:
        if service in ("", INFERENCE, SERVICE):
            return _NOT_SERVING if self._state.not_ready_reasons() else _SERVING
        try:
            self._repository.get(service)
        except NotReady:
            return _NOT_SERVING
        return _SERVING
