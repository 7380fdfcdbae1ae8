"""What is measured of one running server, and the records that it leaves."""

import http.client
import json
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.serving import load
from benchmarks.serving.forms import Form, corpus
from benchmarks.serving.models import Array, Model
from benchmarks.serving.peers import Peer, Setup
from benchmarks.serving.process import Server, busy_seconds

START_LIMIT = 60
NOISE_LIMIT = 0.15
"""A window in which others took more than this share of the server's core is measured again, once."""


class RefusedError(Exception):
    """A server that cannot be measured; the text is what the table says."""


@dataclass(frozen=True)
class Record:
    peer: str
    model: str
    what: str
    value: float
    round: int
    detail: dict[str, object] = field(default_factory=dict)


@dataclass
class Bench:
    """Cores, ports and prepared requests, shared by all sessions."""

    server_core: int
    load_core: int
    work: Path
    pythons: dict[str, Path]
    models: dict[str, Model]
    rows: dict[str, Array] = field(default_factory=dict)
    answers: dict[str, Array] = field(default_factory=dict)

    def prepare(self, model: Model) -> tuple[Array, Array]:
        if model.name not in self.rows:
            self.rows[model.name] = model.rows()
            self.answers[model.name] = model.answers(self.rows[model.name])
        return self.rows[model.name], self.answers[model.name]

    def corpus(self, peer: Peer, form_name: str, model: Model) -> Path:
        path = self.work / "requests" / f"{peer.home.name}-{form_name}-{model.name}"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(corpus(peer.forms()[form_name], model, *self.prepare(model)))
        return path


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@dataclass
class Session:
    """One server, running with its models, until the `with` block ends."""

    bench: Bench
    peer: Peer
    server: Server
    port: int
    grpc_port: int
    start_seconds: float

    def send(
        self,
        form: str,
        model: Model,
        seconds: float,
        connections: int | None = None,
        rate: float = 0,
        limit: int = 0,
    ) -> load.Running:
        port = self.grpc_port if form == "grpc" else self.port
        path = self.bench.corpus(self.peer, form, model)
        many = connections or model.connections
        return load.start(self.bench.load_core, port, path, many, seconds, rate, limit)

    def window(
        self,
        form: str,
        model: Model,
        seconds: float,
        connections: int | None = None,
        rate: float = 0,
    ) -> tuple[load.Report, float, float]:
        """Load for a while. Returns the report, CPU microseconds a request and the share that others took."""
        best = None
        for _ in range(2):
            cpu, busy, clock = (
                self.server.cpu_seconds(),
                busy_seconds(self.bench.server_core),
                time.monotonic(),
            )
            report = self.send(form, model, seconds, connections, rate).report()
            wall = time.monotonic() - clock
            cpu = self.server.cpu_seconds() - cpu
            others = max(0.0, (busy_seconds(self.bench.server_core) - busy - cpu) / wall)
            if not report.clean:
                raise RefusedError(f"{form}: {report.fault()}")
            if best is None or others < best[2]:
                best = report, 1e6 * cpu / report.right, others
            if others < NOISE_LIMIT:
                break
        assert best
        return best

    def check(self, form: str, model: Model) -> load.Report:
        """Every distinct input once, alone; then under load, where a stray answer is a wrong one."""
        alone = self.send(form, model, 2 if model.slow else 5, connections=1, limit=model.inputs).report()
        crowd = self.send(form, model, 1.0, limit=4 * model.inputs).report()
        for report in (alone, crowd):
            if not report.clean:
                raise RefusedError(f"{form}: {report.fault()}")
        return alone


@contextmanager
def running(bench: Bench, peer: Peer, models: tuple[Model, ...]) -> Iterator[Session]:
    """Start a server and wait until it gave a right answer for every model."""
    for model in models:
        bench.prepare(model)
    port, grpc_port = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="sb-", dir=bench.work) as folder:
        setup = Setup(bench.pythons[peer.name], Path(folder), models, port, grpc_port)
        launch = peer.launch(setup)
        environment = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **launch.environment}
        clock = time.monotonic()
        with Server(launch.argv, environment, Path(folder), bench.server_core) as server:
            for model in models:
                form = peer.forms()["json"]
                rows, answers = bench.prepare(model)
                wait_for(server, port, form, form.request(model, rows[0]), answers[0])
            yield Session(bench, peer, server, port, grpc_port, time.monotonic() - clock)


def wait_for(server: Server, port: int, form: Form, request: bytes, answer: Array) -> None:
    deadline, seen = time.monotonic() + START_LIMIT, "no connection"
    while time.monotonic() < deadline:
        try:
            status, body = ask(port, request)
        except OSError:
            pass
        else:
            if status == 200 and matches(form, body, answer):
                return
            seen = f"status {status}: {body[:200].decode(errors='replace')}"
        if not server.alive():
            raise RefusedError(f"ended while starting: {server.tail()}")
        time.sleep(0.005)
    raise RefusedError(f"no right answer within {START_LIMIT} s: {seen} | {server.tail()}")


def ask(port: int, request: bytes) -> tuple[int, bytes]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
        s.sendall(request)
        response = http.client.HTTPResponse(s)
        try:
            response.begin()
            return response.status, response.read()
        except http.client.HTTPException as fault:
            raise ConnectionError(str(fault)) from fault


def matches(form: Form, body: bytes, answer: Array) -> bool:
    text = body.decode(errors="replace")
    at = text.find(form.key)
    if at < 0:
        return False
    try:
        got, _ = json.JSONDecoder().raw_decode(text, len(text) - len(text[at + len(form.key) :].lstrip()))
    except ValueError:
        return False
    flat = np.ravel(got)
    return flat.shape == answer.shape and bool(np.allclose(flat, answer, rtol=1e-3, atol=1e-6))


def details(report: load.Report, others: float) -> dict[str, object]:
    return {**asdict(report), "others": round(others, 3)}
