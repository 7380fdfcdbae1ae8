"""Server reflection, v1 and v1alpha: how grpcurl and its like learn what can be called."""

from typing import Any

from model_server.protocols.grpc.messages import FILES, POOL, message, services
from model_server.protocols.grpc.rpc import Method, Rpc
from model_server.protocols.grpc.server import GrpcServer
from model_server.protocols.grpc.status import Status

_PACKAGES = ("grpc.reflection.v1", "grpc.reflection.v1alpha")


class Reflection:
    """Answers from the descriptions that the messages were made from."""

    def add_to(self, server: GrpcServer) -> None:
        """Serve the methods."""
        for package in _PACKAGES:
            response = message(f"{package}.ServerReflectionResponse")

            def handle(rpc: Rpc, request: Any, response: Any = response) -> None:
                rpc.send(_answer(request, response).SerializeToString())
                rpc.give_credit(request.ByteSize())

            server.add(
                Method(
                    f"/{package}.ServerReflection/ServerReflectionInfo",
                    message(f"{package}.ServerReflectionRequest"),
                    handle,
                    streaming=True,
                )
            )


def _answer(request: Any, response: Any) -> Any:
    answer = response(valid_host=request.host, original_request=request)
    asked = request.WhichOneof("message_request")
    try:
        if asked == "list_services":
            for name in services():
                answer.list_services_response.service.add(name=name)
        elif asked == "file_by_filename":
            answer.file_descriptor_response.file_descriptor_proto.append(FILES[request.file_by_filename])
        elif asked == "file_containing_symbol":
            file = POOL.FindFileContainingSymbol(request.file_containing_symbol)
            answer.file_descriptor_response.file_descriptor_proto.append(FILES[file.name])
        else:
            _refuse(answer, Status.UNIMPLEMENTED, f"{asked or 'nothing'} is not answered here")
    except KeyError:
        _refuse(answer, Status.NOT_FOUND, f"{getattr(request, str(asked))!r:.200} is not known here")
    return answer


def _refuse(answer: Any, status: Status, text: str) -> None:
    answer.error_response.error_code = status
    answer.error_response.error_message = text
