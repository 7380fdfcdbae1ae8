"""`inference.GRPCInferenceService`: health, metadata, inference, streams of inferences."""

from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

import model_server
from model_server.engine.call import Call
from model_server.engine.service import InferenceService
from model_server.errors import NotReady, QueueFull, ServerError
from model_server.models.repository import Served
from model_server.process.state import ServerState
from model_server.protocols.grpc import codec
from model_server.protocols.grpc.messages import message
from model_server.protocols.grpc.rpc import Method, Rpc
from model_server.protocols.grpc.server import GrpcServer, fail
from model_server.protocols.oip import EXTENSIONS
from model_server.protocols.oip_codec import InferRequest
from model_server.protocols.oip_parameters import priority_of, timeout_of

SERVICE = "inference.GRPCInferenceService"

_MAX_OUTSTANDING = 1024
_ServerMetadata = message("inference.ServerMetadataResponse")
_ModelMetadata = message("inference.ModelMetadataResponse")
_ModelReady = message("inference.ModelReadyResponse")
_StreamResponse = message("inference.ModelStreamInferResponse")


class InferenceMethods:
    """The methods that serve."""

    def __init__(self, service: InferenceService, state: ServerState) -> None:
        self._service = service
        self._repository = service.repository
        self._state = state

    def add_to(self, server: GrpcServer) -> None:
        """Serve them."""
        for name, handler in (
            ("ServerLive", self.live),
            ("ServerReady", self.ready),
            ("ServerMetadata", self.server_metadata),
            ("ModelReady", self.model_ready),
            ("ModelMetadata", self.model_metadata),
        ):
            server.add(Method(f"/{SERVICE}/{name}", message(f"inference.{name}Request"), handler))
        server.add(Method(f"/{SERVICE}/ModelInfer", codec.INFER_REQUEST, self.infer))
        server.add(
            Method(
                f"/{SERVICE}/ModelStreamInfer",
                codec.INFER_REQUEST,
                self.infer_in_stream,
                streaming=True,
                on_end=_end_of_stream,
            )
        )

    def live(self, rpc: Rpc, _: Any) -> None:
        """True as long as the event loop turns."""
        rpc.respond(message("inference.ServerLiveResponse")(live=True).SerializeToString())

    def ready(self, rpc: Rpc, _: Any) -> None:
        """True only while every declared model can answer, in every worker, and no drain is under way."""
        ready = not self._state.not_ready_reasons()
        rpc.respond(message("inference.ServerReadyResponse")(ready=ready).SerializeToString())

    def server_metadata(self, rpc: Rpc, _: Any) -> None:
        """Name, version and extensions of this server."""
        answer = _ServerMetadata(name="model-server", version=model_server.__version__, extensions=EXTENSIONS)
        rpc.respond(answer.SerializeToString())

    def model_ready(self, rpc: Rpc, request: Any) -> None:
        """True if this model can answer."""
        try:
            self._repository.get(request.name, request.version)
        except NotReady:
            rpc.respond(_ModelReady(ready=False).SerializeToString())
            return
        rpc.respond(_ModelReady(ready=True).SerializeToString())

    def model_metadata(self, rpc: Rpc, request: Any) -> None:
        """Versions, inputs and outputs."""
        served = self._repository.get(request.name, request.version)
        signature = served.lane.signature
        answer = _ModelMetadata(
            name=request.name,
            versions=sorted(self._repository.entry(request.name).versions),
            platform=served.model.platform,
            inputs=[spec.metadata() for spec in signature.inputs],
            outputs=[spec.metadata() for spec in signature.outputs],
        )
        rpc.respond(answer.SerializeToString())

    def infer(self, rpc: Rpc, request: Any) -> None:
        """Run the model on the tensors of the request."""
        call = self._start(rpc, request, partial(self._answer, rpc))
        rpc.on_gone(call.cancel)

    def infer_in_stream(self, rpc: Rpc, request: Any) -> None:
        """One request of a stream; answers keep the order of the requests, as Triton's do."""
        turns: _Turns = rpc.state or _Turns(rpc)
        rpc.state = turns
        turns.infer(self, request)

    def _start(self, rpc: Rpc, request: Any, on_done: Any) -> Call:
        """Decode and submit. Raises ServerError."""
        received = monotonic() if rpc.method.streaming else rpc.received
        served = self._repository.get(request.model_name, request.model_version)
        try:
            decoded = codec.decode(request, served.lane.signature)
            deadline, priority = rpc.deadline, 0
            if decoded.parameters:
                priority = priority_of(decoded.parameters)
                timeout = timeout_of(decoded.parameters)
                if timeout is not None:
                    deadline = min(received + timeout, deadline or float("inf"))
            call = Call(
                decoded.inputs,
                decoded.outputs,
                partial(on_done, served, decoded),
                received=received,
                deadline=deadline,
                priority=priority,
                caller=_OfStream(rpc) if rpc.method.streaming else rpc,
            )
            self._service.submit(served, call)
        except ServerError as error:
            served.lane.meters.failed(error.kind)
            raise
        return call

    def _answer(self, rpc: Rpc, served: Served, request: InferRequest, call: Call) -> None:
        if call.error is not None:
            served.lane.meters.failed(call.error.kind)
            fail(rpc, call.error)
            return
        rpc.respond(encode_and_measure(served, request, call))


class _OfStream:
    """One request of a stream: it has the call's metadata, and cannot add to the answer's, which has left."""

    __slots__ = ("headers", "request_id", "trace_id")

    def __init__(self, rpc: Rpc) -> None:
        self.headers = rpc.headers
        self.request_id = rpc.request_id
        self.trace_id = ""

    def add_header(self, name: bytes, value: bytes | Callable[[], bytes]) -> None:
        """See Caller."""


def encode_and_measure(served: Served, request: InferRequest, call: Call) -> bytes:
    """The serialized answer to a call; its phases are added to the metrics."""
    meters = served.lane.meters
    began = monotonic()
    body = codec.encode(request, call.results, served, call.degraded)
    ended = monotonic()
    meters.decode.observe(call.queued - call.received)
    meters.encode.observe(ended - began)
    meters.request.observe(ended - call.received)
    return body


class _Turn:
    """A request of a stream, waiting for its answer or for its turn to be answered."""

    __slots__ = ("answer", "call", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.call: Call | None = None
        self.answer: bytes | None = None


class _Turns:
    """The requests of one stream, in their order."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc
        self._turns: deque[_Turn] = deque()
        self.ended = False
        rpc.on_gone(self._cancel)

    def infer(self, methods: InferenceMethods, request: Any) -> None:
        """Start one. A fault of it is its answer; the stream goes on."""
        if len(self._turns) >= _MAX_OUTSTANDING:
            raise QueueFull(f"{_MAX_OUTSTANDING} requests of this stream wait already, which is the limit")
        turn = _Turn(request.ByteSize())
        self._turns.append(turn)
        try:
            call = methods._start(self._rpc, request, partial(self._done, turn, request.id))
        except ServerError as error:
            self._answer(turn, _error(error, request.id))
        else:
            # It may be answered already: from the cache, or by a rung of the ladder.
            turn.call = call if turn.answer is None else None

    def flush(self) -> None:
        """Send the answers whose turn it is."""
        while self._turns and (answer := self._turns[0].answer) is not None:
            self._rpc.give_credit(self._turns.popleft().size)
            self._rpc.send(answer)
        if self.ended and not self._turns:
            self._rpc.finish()

    def _done(self, turn: _Turn, id_: str, served: Served, request: InferRequest, call: Call) -> None:
        turn.call = None
        if call.error is not None:
            served.lane.meters.failed(call.error.kind)
            self._answer(turn, _error(call.error, id_))
            return
        response = _StreamResponse()
        response.infer_response.MergeFromString(encode_and_measure(served, request, call))
        self._answer(turn, response.SerializeToString())

    def _answer(self, turn: _Turn, answer: bytes) -> None:
        turn.answer = answer
        self.flush()

    def _cancel(self) -> None:
        for turn in self._turns:
            if turn.call is not None:
                turn.call.cancel()
        self._turns.clear()


def _error(error: ServerError, id_: str) -> bytes:
    answer = _StreamResponse(error_message=error.message)
    answer.infer_response.id = id_
    serialized: bytes = answer.SerializeToString()
    return serialized


def _end_of_stream(rpc: Rpc) -> None:
    turns: _Turns | None = rpc.state
    if turns is None:
        rpc.finish()
        return
    turns.ended = True
    turns.flush()
