"""Everything that is served on the gRPC port. Imported only where gRPC is enabled."""

from model_server.engine.service import InferenceService
from model_server.http2.listener import Listener
from model_server.process.state import ServerState
from model_server.protocols.grpc.health import Health
from model_server.protocols.grpc.inference import InferenceMethods
from model_server.protocols.grpc.management import ManagementMethods
from model_server.protocols.grpc.reflection import Reflection
from model_server.protocols.grpc.server import GrpcServer
from model_server.settings import GrpcSettings
from model_server.telemetry.metrics import Metrics


def grpc_listener(
    settings: GrpcSettings, service: InferenceService, state: ServerState, metrics: Metrics
) -> Listener:
    """The port's listener, with all services."""
    server = GrpcServer(settings, metrics)
    InferenceMethods(service, state).add_to(server)
    ManagementMethods(service.repository, state, metrics).add_to(server)
    Health(service.repository, state).add_to(server)
    if settings.reflection:
        Reflection().add_to(server)
    return Listener(settings, server.accept, metrics)
