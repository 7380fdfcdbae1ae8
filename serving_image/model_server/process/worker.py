"""One process that serves: builds the parts, runs the event loop, drains on SIGTERM."""

import asyncio
import signal
import socket
import sys
from time import monotonic

from model_server.engine.service import InferenceService
from model_server.http.exchange import TEXT, Exchange
from model_server.http.listener import Listener
from model_server.http.router import Router
from model_server.models.repository import Repository
from model_server.process.state import ServerState
from model_server.protocols.oip import OpenInferenceRest
from model_server.settings import Settings
from model_server.telemetry.logs import log
from model_server.telemetry.metrics import Metrics

_NOTHING_TO_SERVE = 3
_CUT_OFF = 4
_POLL_SECONDS = 0.02


class Worker:
    """Everything of one serving process."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self.repository = Repository(settings, metrics)
        self.state = ServerState(self.repository)
        self.service = InferenceService(self.repository)
        self.router = Router()
        self.listener = Listener(settings.http, self.router.dispatch, metrics)
        OpenInferenceRest(self.service, self.state).add_routes(self.router)
        self.router.add("GET", "/metrics", lambda exchange: _respond_metrics(exchange, metrics))

    async def run(self, sock: socket.socket) -> int:
        """Serve until SIGTERM or SIGINT; return the exit code."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        # The port opens before the models load: probes get an honest "not ready" instead of a refusal.
        await self.listener.start(sock)
        host, port = sock.getsockname()[:2]
        log.info("listening", extra={"host": host, "http_port": port})
        loading = loop.create_task(self.repository.load_all())
        stopping = loop.create_task(stop.wait())
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()
            if not self._enough_to_start():
                self.listener.abort()
                return _NOTHING_TO_SERVE
            self.state.starting = False
            log.info(
                "serving", extra={"models": [entry.settings.name for entry in self.repository.entries()]}
            )
            await stopping
        else:
            loading.cancel()
        return await self._drain()

    def _enough_to_start(self) -> bool:
        requires = self._settings.start_requires
        missing = self.repository.not_ready()
        declared = self.repository.entries()
        enough = requires == "none" or not missing or (requires == "any" and len(missing) < len(declared))
        if not enough:
            reasons = "; ".join(f"{entry.settings.name}: {entry.reason}" for entry in missing)
            log.error(f"cannot start: start_requires is {requires!r} and these models failed: {reasons}")
        return enough

    async def _drain(self) -> int:
        """Readiness off, still accepting for the drain delay; then finish what is in flight."""
        server = self._settings.server
        self.state.draining = True
        log.info("stopping", extra={"drain_seconds": server.drain_seconds})
        await asyncio.sleep(server.drain_seconds)
        self.listener.stop_accepting()
        limit = monotonic() + server.shutdown_seconds
        while self.listener.busy and monotonic() < limit:
            await asyncio.sleep(_POLL_SECONDS)
        cut = self.listener.busy
        if cut:
            log.error(
                "requests were cut off",
                extra={"connections": cut, "shutdown_seconds": server.shutdown_seconds},
            )
        else:
            await self.repository.close()
        self.listener.abort()
        log.info("stopped")
        return _CUT_OFF if cut else 0


def run_worker(settings: Settings, metrics: Metrics, sock: socket.socket) -> int:
    """Serve in this process until told to stop; return the exit code."""
    import uvloop

    return uvloop.run(Worker(settings, metrics).run(sock))


def _respond_metrics(exchange: Exchange, metrics: Metrics) -> None:
    exchange.respond(200, metrics.render(), TEXT)


def bind(host: str, port: int) -> socket.socket:
    """A bound TCP socket. Exits with a message if the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        log.error(f"cannot listen on {host} port {port}: {error.strerror}")
        sys.exit(1)
    sock.setblocking(False)
    return sock
