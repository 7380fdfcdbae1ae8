"""Open Inference Protocol v2 over REST: health, metadata, inference, model repository."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from time import monotonic
from typing import Any

import orjson

import model_server
from model_server.engine.call import Call
from model_server.engine.service import InferenceService
from model_server.errors import ModelFailed, NotReady, ServerError
from model_server.fastjson import BIG_BYTES
from model_server.http.exchange import Exchange
from model_server.http.router import Router, respond_error
from model_server.models.repository import Served
from model_server.process.state import ServerState
from model_server.protocols import oip_codec
from model_server.protocols.common import deadline_of
from model_server.protocols.oip_parameters import priority_of, timeout_of
from model_server.telemetry.logs import log
from model_server.tensors import Array

EXTENSIONS = ["binary_tensor_data", "model_repository", "model_configuration", "statistics"]


class OpenInferenceRest:
    """The routes under /v2."""

    def __init__(self, service: InferenceService, state: ServerState) -> None:
        self._service = service
        self._repository = service.repository
        self._state = state
        self._one_big_body = asyncio.Lock()
        """Two at a time would stop the event loop twice as long."""
        self._answering: set[asyncio.Task[None]] = set()

    def add_routes(self, router: Router) -> None:
        """Put them on the router."""
        router.add("GET", "/v2", self.server_metadata)
        router.add("GET", "/v2/health/live", self.live)
        router.add("GET", "/v2/health/ready", self.ready)
        for base in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            router.add("GET", base, self.model_metadata)
            router.add("GET", f"{base}/ready", self.model_ready)
            router.add("POST", f"{base}/infer", self.infer)
        router.add("POST", "/v2/repository/index", self.index)
        router.add("POST", "/v2/repository/models/{model}/load", self.load)
        router.add("POST", "/v2/repository/models/{model}/unload", self.unload)

    def server_metadata(self, exchange: Exchange) -> None:
        """Name, version and extensions of this server."""
        exchange.respond_json(
            200, {"name": "model-server", "version": model_server.__version__, "extensions": EXTENSIONS}
        )

    def live(self, exchange: Exchange) -> None:
        """200 as long as the event loop turns."""
        exchange.respond_json(200, {"live": True})

    def ready(self, exchange: Exchange) -> None:
        """200 only while every declared model can answer, in every worker, and no drain is under way."""
        reasons = self._state.not_ready_reasons()
        notes, warnings = self._service.notes(), self._state.warnings()
        detail = {"notes": notes} if notes else {}
        if reasons:
            exchange.respond_json(503, {"ready": False, "error": "; ".join(reasons), **detail})
        else:
            if warnings:
                detail["warnings"] = warnings
            exchange.respond_json(200, {"ready": True, **detail})

    def model_metadata(self, exchange: Exchange, model: str, version: str = "") -> None:
        """Versions, inputs and outputs."""
        served = self._repository.get(model, version)
        signature = served.lane.signature
        exchange.respond_json(
            200,
            {
                "name": model,
                "versions": sorted(self._repository.entry(model).versions),
                "platform": served.model.platform,
                "inputs": [spec.metadata() for spec in signature.inputs],
                "outputs": [spec.metadata() for spec in signature.outputs],
                "parameters": {
                    "version": served.version,
                    "source": served.artifact.uri,
                    "sha256": served.artifact.digest,
                },
            },
        )

    def model_ready(self, exchange: Exchange, model: str, version: str = "") -> None:
        """200 if this model can answer."""
        try:
            served = self._repository.get(model, version)
        except NotReady as error:
            exchange.respond_json(503, {"name": model, "ready": False, "error": error.message})
            return
        notes = self._service.notes(served)
        detail = {"notes": notes} if notes else {}
        exchange.respond_json(200, {"name": model, "version": served.version, "ready": True, **detail})

    def infer(self, exchange: Exchange, model: str, version: str = "") -> Coroutine[Any, Any, None] | None:
        """Run the model on the tensors of the body."""
        served = self._repository.get(model, version)
        body, header_length = exchange.body, exchange.headers.get(oip_codec.HEADER_LENGTH)
        if len(body) >= BIG_BYTES and header_length is None:
            return self._infer_big(exchange, served, model, version)
        try:
            request = oip_codec.decode(body, header_length, served.lane.signature)
        except ServerError as error:
            served.lane.meters.failed(error.kind)
            raise
        self._submit(exchange, served, request)
        return None

    async def _infer_big(self, exchange: Exchange, served: Served, model: str, version: str) -> None:
        try:
            async with self._one_big_body:
                request = await oip_codec.decode_big(exchange.body, served.lane.signature)
        except ServerError as error:
            served.lane.meters.failed(error.kind)
            raise
        # Meanwhile another version may have taken over.
        now = self._repository.get(model, version)
        if now.lane.signature != served.lane.signature:
            request = oip_codec.decode(exchange.body, None, now.lane.signature)
        self._submit(exchange, now, request)

    def _submit(self, exchange: Exchange, served: Served, request: oip_codec.InferRequest) -> None:
        try:
            call = Call(
                request.inputs,
                request.outputs,
                partial(self._answer, exchange, served, request),
                received=exchange.received,
                deadline=_deadline(exchange, request.parameters),
                priority=priority_of(request.parameters) if request.parameters else 0,
                caller=exchange,
            )
            self._service.submit(served, call)
        except ServerError as error:
            served.lane.meters.failed(error.kind)
            raise
        exchange.on_gone(call.cancel)

    def _answer(
        self, exchange: Exchange, served: Served, request: oip_codec.InferRequest, call: Call
    ) -> None:
        meters = served.lane.meters
        if call.error is not None:
            meters.failed(call.error.kind)
            respond_error(exchange, call.error)
            return
        began = monotonic()
        big = oip_codec.big_outputs(request, call.results)
        if big:
            write = partial(self._write, exchange, served, request, call, began)
            task = asyncio.get_running_loop().create_task(self._answer_big(exchange, big, write))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
        else:
            self._write(exchange, served, request, call, began, None)

    async def _answer_big(
        self,
        exchange: Exchange,
        big: dict[str, Array],
        write: Callable[[dict[str, orjson.Fragment]], None],
    ) -> None:
        try:
            async with self._one_big_body:
                written = await oip_codec.write_big(big)
            write(written)
        except Exception:
            log.exception("an answer could not be written", extra=exchange.log_fields)
            respond_error(exchange, ModelFailed("internal error; the server's log has the details"))

    def _write(
        self,
        exchange: Exchange,
        served: Served,
        request: oip_codec.InferRequest,
        call: Call,
        began: float,
        written: dict[str, orjson.Fragment] | None,
    ) -> None:
        meters = served.lane.meters
        body, content_type, headers = oip_codec.encode(
            request, call.results, served.name, served.version, served.lane.signature, call.degraded, written
        )
        ended = monotonic()
        meters.decode.observe(call.queued - call.received)
        meters.encode.observe(ended - began)
        meters.request.observe(ended - call.received)
        exchange.respond(200, body, content_type, headers)

    def index(self, exchange: Exchange) -> None:
        """Every declared model with its state; with {"ready": true} only those that are ready."""
        document = _optional_object(exchange.body)
        only_ready = document.get("ready") is True
        rows: list[dict[str, str]] = []
        for entry in self._repository.entries():
            name = entry.settings.name
            rows += [
                {"name": name, "version": version, "state": "READY", "reason": entry.reason}
                for version in sorted(entry.versions)
            ]
            if not entry.versions and not only_ready:
                rows.append({"name": name, "version": "", "state": entry.state, "reason": entry.reason})
        exchange.respond_json(200, rows)

    async def load(self, exchange: Exchange, model: str) -> None:
        """Load, or load again, what the model's source means now."""
        _optional_object(exchange.body)
        await self._state.load(model)
        exchange.respond_json(200, {})

    async def unload(self, exchange: Exchange, model: str) -> None:
        """Stop serving a model and free its memory."""
        _optional_object(exchange.body)
        await self._state.unload(model)
        exchange.respond_json(200, {})


def _deadline(exchange: Exchange, parameters: dict[str, Any]) -> float | None:
    """The client's deadline: X-Request-Timeout in seconds, or the `timeout` parameter in microseconds."""
    deadline = deadline_of(exchange)
    if deadline is not None:
        return deadline
    timeout = timeout_of(parameters)
    return None if timeout is None else exchange.received + timeout


def _optional_object(body: bytes) -> dict[str, Any]:
    """tritonclient sends nothing at all where the protocol has an object."""
    return oip_codec.parse_object(body) if body else {}
