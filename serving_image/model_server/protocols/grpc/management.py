"""Triton's extensions of `inference.GRPCInferenceService`: configuration, statistics, model repository."""

from typing import Any

from model_server.models.repository import Repository
from model_server.process.state import ServerState
from model_server.protocols.grpc.inference import SERVICE
from model_server.protocols.grpc.messages import message
from model_server.protocols.grpc.rpc import Method, Rpc
from model_server.protocols.grpc.server import GrpcServer
from model_server.protocols.oip_statistics import configuration_of, statistics_of
from model_server.telemetry.metrics import Metrics


class ManagementMethods:
    """The methods that tell about models, and that load and unload them."""

    def __init__(self, repository: Repository, state: ServerState, metrics: Metrics) -> None:
        self._repository = repository
        self._state = state
        self._metrics = metrics

    def add_to(self, server: GrpcServer) -> None:
        """Serve them."""
        for name, handler in (
            ("ModelConfig", self.config),
            ("ModelStatistics", self.model_statistics),
            ("RepositoryIndex", self.index),
            ("RepositoryModelLoad", self.load),
            ("RepositoryModelUnload", self.unload),
        ):
            server.add(Method(f"/{SERVICE}/{name}", message(f"inference.{name}Request"), handler))

    def config(self, rpc: Rpc, request: Any) -> None:
        """Triton's configuration of a model."""
        served = self._repository.get(request.name, request.version)
        answer = message("inference.ModelConfigResponse")(config=configuration_of(served))
        rpc.respond(answer.SerializeToString())

    def model_statistics(self, rpc: Rpc, request: Any) -> None:
        """Counts and durations of one model, or of every one."""
        if request.name and not request.version:
            self._repository.get(request.name)
            chosen = list(self._repository.entry(request.name).versions.values())
        elif request.name:
            chosen = [self._repository.get(request.name, request.version)]
        else:
            chosen = [s for entry in self._repository.entries() for s in entry.versions.values()]
        stats = [statistics_of(served, self._metrics) for served in chosen]
        rpc.respond(message("inference.ModelStatisticsResponse")(model_stats=stats).SerializeToString())

    def index(self, rpc: Rpc, request: Any) -> None:
        """Every declared model with its state."""
        answer = message("inference.RepositoryIndexResponse")()
        for entry in self._repository.entries():
            name = entry.settings.name
            for version in sorted(entry.versions):
                answer.models.add(name=name, version=version, state="READY", reason=entry.reason)
            if not entry.versions and not request.ready:
                answer.models.add(name=name, state=entry.state, reason=entry.reason)
        rpc.respond(answer.SerializeToString())

    async def load(self, rpc: Rpc, request: Any) -> None:
        """Load, or load again, what the model's source means now."""
        model = _model(request)
        await self._state.load(model)
        answer = message("inference.RepositoryModelLoadResponse")(model_name=model, isLoaded=True)
        rpc.respond(answer.SerializeToString())

    async def unload(self, rpc: Rpc, request: Any) -> None:
        """Stop serving a model and free its memory."""
        model = _model(request)
        await self._state.unload(model)
        answer = message("inference.RepositoryModelUnloadResponse")(model_name=model, isUnloaded=True)
        rpc.respond(answer.SerializeToString())


def _model(request: Any) -> str:
    """Triton's clients name the model in field 2, KServe's in field 1."""
    name: str = request.model_name or request.repository_name
    return name
