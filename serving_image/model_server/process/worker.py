"""One process that serves: builds the parts, runs the event loop, drains on SIGTERM."""

import asyncio
import gc
import signal
import socket
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import uvloop

from model_server.engine.service import InferenceService
from model_server.http.exchange import TEXT, Exchange
from model_server.http.listener import Listener
from model_server.http.router import Router
from model_server.http2.listener import Listener as GrpcListener
from model_server.models.repository import Repository
from model_server.models.source import Plan
from model_server.process.board import Board, WorkerState
from model_server.process.control import ControlChannel
from model_server.process.memory import return_freed_memory, unmap_big_blocks_when_freed
from model_server.process.state import ServerState
from model_server.process.watcher import Watcher
from model_server.protocols.mlflow_scoring import MlflowScoring
from model_server.protocols.mlflow_webhook import MlflowWebhook
from model_server.protocols.oip import OpenInferenceRest
from model_server.protocols.oip_statistics import ModelStatistics
from model_server.protocols.openapi import OpenApi
from model_server.protocols.predict import Predict
from model_server.protocols.tensorflow_serving import TensorFlowServing
from model_server.settings import Settings
from model_server.telemetry.logs import log
from model_server.telemetry.metrics import Metrics

NOTHING_TO_SERVE = 3
"""Exit code when the models that the start requires do not load."""
CUT_OFF = 4
"""Exit code when requests were still in flight at the end of the shutdown time."""

_POLL_SECONDS = 0.02
_HEARTBEAT_SECONDS = 0.25


@dataclass
class Place:
    """A worker's place among the processes of the server."""

    http_socket: socket.socket
    grpc_socket: socket.socket | None = None
    """None where gRPC is off."""
    board: Board = field(default_factory=lambda: Board(1))
    metrics: Metrics = field(default_factory=Metrics)
    number: int = 0
    channel: socket.socket | None = None
    """To the master, if there is one."""
    replacement: bool = False
    """This worker takes a dead one's place: clients wait until it can answer, and see no "not ready"."""
    unloaded: frozenset[str] = frozenset()
    """Declared models that were unloaded before this worker started."""
    plans: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What the other workers serve, as Plan.as_json gives it, by model."""


class Worker:
    """Everything of one serving process. Other protocols add their routes to `router` here."""

    def __init__(self, settings: Settings, place: Place) -> None:
        self._settings = settings
        self._place = place
        self._stop = asyncio.Event()
        self.repository = Repository(settings, place.metrics)
        self.state = ServerState(self.repository, place.board, place.number)
        self.service = InferenceService(self.repository, settings, place.metrics)
        self.router = Router()
        self.listener = Listener(
            settings.http, self.router.dispatch, place.metrics, logs_access=settings.log.access
        )
        OpenInferenceRest(self.service, self.state).add_routes(self.router)
        ModelStatistics(self.service, place.metrics).add_routes(self.router)
        MlflowWebhook(self.repository, self.state).add_routes(self.router)
        TensorFlowServing(self.service).add_routes(self.router)
        MlflowScoring(self.service, self.state, settings.default_model).add_routes(self.router)
        Predict(self.service, settings).add_routes(self.router)
        if settings.server.tells_answers:
            from model_server.protocols.answers import Answers

            Answers(self.service).add_routes(self.router)
        OpenApi(self.repository, self.router).add_routes(self.router)
        self.router.add("GET", "/metrics", self._respond_metrics)
        self.grpc_listener: GrpcListener | None = None
        if place.grpc_socket is not None:
            from model_server.protocols.grpc.port import grpc_listener

            self.grpc_listener = grpc_listener(settings.grpc, self.service, self.state, place.metrics)

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        if self._place.channel is not None:
            self.state.channel = ControlChannel(self._place.channel, self.state.operate, self._stop.set)
            await self.state.channel.start()
        self._beat()
        # The port opens before the models load: probes get an honest "not ready" instead of a refusal.
        if not self._place.replacement:
            await self._listen()
        plans = {name: Plan.from_json(plan) for name, plan in self._place.plans.items()}
        loading = loop.create_task(self.repository.load_all(plans, besides=self._place.unloaded))
        stopping = loop.create_task(self._stop.wait())
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()
            # A replacement stays: it can load later what it cannot now, and its siblings serve on.
            if not self._enough_to_start() and not self._place.replacement:
                self._abort()
                return NOTHING_TO_SERVE
            # What is loaded now lives as long as the process: full collections need not walk it.
            return_freed_memory()
            gc.freeze()
            if self._place.replacement:
                await self._listen()
            self.state.set_state(WorkerState.READY)
            log.info(
                "serving", extra={"models": [entry.settings.name for entry in self.repository.entries()]}
            )
            watcher = Watcher(self.repository, self.state, self._settings, leads=self._place.number == 0)
            watching = loop.create_task(watcher.run())
            await stopping
            watching.cancel()
        else:
            loading.cancel()
        return await self._drain()

    async def _listen(self) -> None:
        where: dict[str, object] = {}
        for port, listener, sock in (
            ("http_port", self.listener, self._place.http_socket),
            ("grpc_port", self.grpc_listener, self._place.grpc_socket),
        ):
            if listener is not None and sock is not None:
                await listener.start(sock)
                where["host"], where[port] = sock.getsockname()[:2]
        log.info("listening", extra=where)

    def _enough_to_start(self) -> bool:
        requires = self._settings.start_requires
        declared = [e for e in self.repository.entries() if e.settings.name not in self._place.unloaded]
        missing = [entry for entry in declared if entry.default is None]
        enough = requires == "none" or not missing or (requires == "any" and len(missing) < len(declared))
        if not enough:
            reasons = "; ".join(f"{entry.settings.name}: {entry.reason}" for entry in missing)
            log.error(f"cannot start: start_requires is {requires!r} and these models failed: {reasons}")
        return enough

    async def _drain(self) -> int:
        """Readiness off, still accepting for the drain delay; then finish what is in flight."""
        server = self._settings.server
        self.state.set_state(WorkerState.STOPPING)
        log.info("stopping", extra={"drain_seconds": server.drain_seconds})
        await asyncio.sleep(server.drain_seconds)
        for listener in self._listeners:
            listener.stop_accepting()
        limit = monotonic() + server.shutdown_seconds
        while self._busy and monotonic() < limit:  # noqa: ASYNC110 - connections must not signal each end
            await asyncio.sleep(_POLL_SECONDS)
        cut = self._busy
        if cut:
            log.error(
                "requests were cut off", extra={"connections": cut, "after_seconds": server.shutdown_seconds}
            )
        else:
            await self.repository.close()
        await asyncio.get_running_loop().run_in_executor(None, self.service.close)
        self._abort()
        log.info("stopped")
        return CUT_OFF if cut else 0

    @property
    def _listeners(self) -> list[Listener | GrpcListener]:
        return [self.listener] if self.grpc_listener is None else [self.listener, self.grpc_listener]

    @property
    def _busy(self) -> int:
        return sum(listener.busy for listener in self._listeners)

    def _abort(self) -> None:
        for listener in self._listeners:
            listener.abort()

    def _beat(self) -> None:
        self.state.beat()
        asyncio.get_running_loop().call_later(_HEARTBEAT_SECONDS, self._beat)

    def _respond_metrics(self, exchange: Exchange) -> None:
        """Prometheus metrics of all workers."""
        exchange.respond(200, self._place.metrics.render(), TEXT)


def run_worker(settings: Settings, place: Place) -> int:
    """Serve in this process until told to stop; return the exit code."""

    unmap_big_blocks_when_freed()

    async def run() -> int:
        return await Worker(settings, place).run()

    return uvloop.run(run())
