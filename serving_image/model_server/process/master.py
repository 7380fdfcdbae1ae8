"""The master of several workers: starts them, notices the dead and the hung, replaces them, stops them all.

It never serves and never loads a model, so what kills a worker does not kill it. Everything heavy is imported
before the first fork: workers share those pages, and a new one is up in the time its models take to load.
"""

import os
import selectors
import signal
import socket
import sys
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import orjson

from model_server.process.board import Board, WorkerState
from model_server.process.sockets import bind
from model_server.process.worker import NOTHING_TO_SERVE, Place, run_worker
from model_server.settings import Settings
from model_server.telemetry.logs import log
from model_server.telemetry.metrics import Metrics, shared_memory

_TICK_SECONDS = 0.25
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
_STEADY_SECONDS = 10.0
_KILL_GRACE_SECONDS = 5.0
_READ_BYTES = 1 << 16


@dataclass
class _Child:
    pid: int
    channel: socket.socket
    started: float = field(default_factory=monotonic)
    buffer: bytes = b""


@dataclass
class _Errand:
    """An operation that every worker is doing for one of them."""

    asker: int
    ask: int
    message: dict[str, Any]
    waiting: set[int]
    error: dict[str, Any] | None = None


class Master:
    """Workers by number."""

    def __init__(self, settings: Settings, workers: int) -> None:
        self._settings = settings
        self._sockets = bind(settings.server.host, settings.server.http_port, workers)
        self._grpc_sockets: list[socket.socket] = []
        if settings.grpc.enabled:
            # Imported before the first fork, so that the workers share its memory.

            self._grpc_sockets = bind(settings.server.host, settings.server.grpc_port, workers)
        self._board = Board(workers)
        self._memory = shared_memory(workers)
        self._children: dict[int, _Child] = {}
        self._restart_at: dict[int, float] = {}
        self._pause: dict[int, float] = {}
        self._errands: dict[int, _Errand] = {}
        self._errand = 0
        self._unloaded: set[str] = set()
        self._plans: dict[str, dict[str, Any]] = {}
        """What each model serves, for successors of dead workers: they must not serve something else."""
        self._stop_by: float | None = None
        self._exit_code = 0
        self._selector = selectors.DefaultSelector()
        self._workers = workers

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; return the exit code."""
        wake, wake_write = socket.socketpair()
        wake.setblocking(False)
        wake_write.setblocking(False)
        signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop(0))
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(wake, selectors.EVENT_READ)
        for worker in range(self._workers):
            self._start(worker)
        while self._children or self._stop_by is None:
            for key, _ in self._selector.select(_TICK_SECONDS):
                if key.data is None:
                    wake.recv(_READ_BYTES)
                else:
                    self._read(key.data)
            self._reap()
            self._look_after()
        return self._exit_code

    def _start(self, worker: int) -> None:
        ours, theirs = socket.socketpair()
        self._board.set_state(worker, WorkerState.STARTING)
        pid = os.fork()
        if pid == 0:
            self._be_worker(worker, theirs, ours)
        theirs.close()
        ours.setblocking(False)
        self._children[worker] = _Child(pid, ours)
        self._selector.register(ours, selectors.EVENT_READ, worker)
        for errand in self._errands.values():
            errand.waiting.add(worker)
            self._send(worker, errand.message)

    def _be_worker(self, worker: int, channel: socket.socket, masters_end: socket.socket) -> None:
        """The life of the forked child; never returns."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            self._selector.close()
            masters_end.close()
            for child in self._children.values():
                child.channel.close()
            for sockets in (self._sockets, self._grpc_sockets):
                for other, sock in enumerate(sockets):
                    if other != worker:
                        sock.close()
            channel.setblocking(False)
            metrics = Metrics(self._memory, self._workers, worker)
            place = Place(
                self._sockets[worker],
                self._grpc_sockets[worker] if self._grpc_sockets else None,
                self._board,
                metrics,
                worker,
                channel,
                replacement=worker in self._pause,
                unloaded=frozenset(self._unloaded),
                plans=dict(self._plans),
            )
            code = run_worker(self._settings, place)
        except Exception:
            log.exception("a worker failed", extra={"worker": worker})
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        for worker, child in list(self._children.items()):
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid == 0:
                continue
            self._board.set_state(worker, WorkerState.DEAD)
            self._selector.unregister(child.channel)
            child.channel.close()
            del self._children[worker]
            self._forget(worker)
            code = os.waitstatus_to_exitcode(status)
            if self._stop_by is not None:
                # One that had no handler yet when it was told to stop had nothing to finish either.
                self._exit_code = max(self._exit_code, 0 if code == -signal.SIGTERM else abs(code))
            elif code == NOTHING_TO_SERVE:
                self._stop(code)
            else:
                self._plan_restart(worker, child, code)

    def _plan_restart(self, worker: int, child: _Child, code: int) -> None:
        steady = monotonic() - child.started > _STEADY_SECONDS
        pause = 0.0 if steady else self._pause.get(worker, 0.0)
        self._pause[worker] = min(max(2 * pause, _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
        self._restart_at[worker] = monotonic() + pause
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        log.error("a worker died", extra={"worker": worker, "pid_was": child.pid, "how": how, "pause": pause})

    def _look_after(self) -> None:
        """Replace the dead, kill the hung, end a stop that takes too long."""
        now = monotonic()
        if self._stop_by is not None:
            if now > self._stop_by:
                self._kill_all("the worker did not stop in time")
            return
        for worker, at in list(self._restart_at.items()):
            if at <= now:
                del self._restart_at[worker]
                self._start(worker)
        limit = self._settings.server.hung_worker_seconds
        for worker, child in self._children.items():
            if limit and self._board.silent_seconds(worker) > limit:
                log.error("a worker hangs and is killed", extra={"worker": worker, "pid_was": child.pid})
                os.kill(child.pid, signal.SIGKILL)
                self._board.beat(worker)

    def _stop(self, code: int) -> None:
        if self._stop_by is not None:
            return
        self._exit_code = code
        server = self._settings.server
        self._stop_by = monotonic() + server.drain_seconds + server.shutdown_seconds + _KILL_GRACE_SECONDS
        for child in self._children.values():
            os.kill(child.pid, signal.SIGTERM)
        # The workers' copies are now the only ones: a port closes when its worker closes it.
        for sock in (*self._sockets, *self._grpc_sockets):
            sock.close()

    def _kill_all(self, reason: str) -> None:
        for worker, child in self._children.items():
            log.error(reason, extra={"worker": worker, "pid_was": child.pid})
            os.kill(child.pid, signal.SIGKILL)

    # errands: see control.py

    def _read(self, worker: int) -> None:
        child = self._children.get(worker)
        if child is None:
            return
        try:
            data = child.channel.recv(_READ_BYTES)
        except OSError:
            return
        *lines, child.buffer = (child.buffer + data).split(b"\n")
        for line in lines:
            message = orjson.loads(line)
            if "ask" in message:
                self._begin(worker, message)
            else:
                self._done(worker, message["done"], message["error"])

    def _begin(self, worker: int, message: dict[str, Any]) -> None:
        self._errand += 1
        task = {"do": self._errand, **{key: message[key] for key in ("operation", "model", "detail")}}
        self._errands[self._errand] = _Errand(worker, message["ask"], task, set(self._children))
        for number in list(self._children):
            self._send(number, task)

    def _done(self, worker: int, number: int, error: dict[str, Any] | None) -> None:
        errand = self._errands.get(number)
        if errand is None:
            return
        errand.waiting.discard(worker)
        errand.error = errand.error or error
        if not errand.waiting:
            del self._errands[number]
            self._remember(errand)
            self._send(errand.asker, {"answer": errand.ask, "error": errand.error})

    def _remember(self, errand: _Errand) -> None:
        operation, model = errand.message["operation"], errand.message["model"]
        if operation == "unload":
            self._unloaded.add(model)
        elif operation == "apply" and errand.error is None:
            self._unloaded.discard(model)
            self._plans[model] = errand.message["detail"]

    def _forget(self, worker: int) -> None:
        """A dead worker owes no answers: its successor loads what is declared."""
        for number in list(self._errands):
            self._done(worker, number, None)

    def _send(self, worker: int, message: dict[str, Any]) -> None:
        child = self._children.get(worker)
        if child is None:
            return
        try:
            child.channel.sendall(orjson.dumps(message) + b"\n")
        except OSError as error:
            log.warning("a worker cannot be told", extra={"worker": worker, "reason": str(error)})
