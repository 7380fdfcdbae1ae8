"""`model-server bench`: load on itself; throughput and latency by the number of clients.

Starts the server that the settings describe, on a free loopback port, or takes one that runs (`--url`).
Each client asks again as soon as it is answered, with made-up rows of the model's signature.
"""

import http.client
import ipaddress
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.parse import quote, urlsplit

import orjson
import uvloop

from model_server.cli.load_client import Step, run_step
from model_server.engine.warmup import made_up
from model_server.errors import ServerError
from model_server.settings import Settings
from model_server.tensors import NUMPY_TYPES, Signature, TensorSpec, to_bytes, to_json

CONCURRENCIES = (1, 2, 4, 8, 16, 32, 64)
_FAILED = 1
_START_SECONDS = 300.0
_STOP_SECONDS = 40.0
_ASK_SECONDS = 10.0
_WARM_SECONDS = 0.3
_DIFFERENT_ROWS = 16
_BAR = 24
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_CLIENT_BOUND = 0.9
"""Share of a CPU above which the load, one thread, is what limits the rate."""


class _Stopped(Exception):
    """The bench cannot go on; the message says why."""


def bench(
    settings: Settings,
    config: Path | None,
    *,
    url: str | None = None,
    model: str | None = None,
    seconds: float = 2.0,
    binary: bool = False,
    as_json: bool = False,
) -> int:
    """Print a report; return 0 if every request was answered with status 200, else 1."""
    try:
        if url is not None:
            report = _measure(*_loopback(url), model, seconds, binary)
        else:
            if model is None and settings.models:
                model = settings.models[0].name
            with _started(config) as (host, port):
                report = _measure(host, port, "", model, seconds, binary)
    except (_Stopped, ServerError, OSError, http.client.HTTPException) as error:
        if as_json:
            print(orjson.dumps({"error": str(error)}).decode())
        else:
            print(f"bench: {error}", file=sys.stderr)
        return _FAILED
    print(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode() if as_json else plot(report))
    return _FAILED if any(step["errors"] for step in report["steps"]) else 0


def _loopback(url: str) -> tuple[str, int, str]:
    """Host, port and path of a URL of this machine: load on others' servers is an attack."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    host = parts.hostname or ""
    try:
        port = parts.port or 80
    except ValueError:
        raise _Stopped(f"--url: {url!r} has no port that can be") from None
    local = host == "localhost"
    if not local:
        try:
            local = ipaddress.ip_address(host).is_loopback
        except ValueError:
            local = False
    if not local or parts.scheme not in ("", "http"):
        raise _Stopped(f"--url: {url!r} is not on this machine; use http://127.0.0.1:PORT")
    return host, port, parts.path.rstrip("/")


@contextmanager
def _started(config: Path | None) -> Iterator[tuple[str, int]]:
    """The server of the settings, ready, on a port of its own; stopped in the end."""
    command = [sys.executable, "-m", "model_server.cli.main", "serve"]
    command += ["--config", str(config)] if config else []
    overrides = {
        "SERVER__HOST": "127.0.0.1",
        "SERVER__HTTP_PORT": "0",
        "SERVER__DRAIN_SECONDS": "0",
        "GRPC__ENABLED": "false",
        "LOG__FORMAT": "json",
        "LOG__LEVEL": "info",
        "LOG__ACCESS": "false",
    }
    environment = {**os.environ, **{f"MODEL_SERVER__{name}": value for name, value in overrides.items()}}
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment) as process:
        logs = _Logs(process)
        try:
            port = logs.port()
            _until_ready(port, process, logs)
            yield "127.0.0.1", port
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


class _Logs:
    """The started server's logs: the port, and what went wrong."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._port = 0
        self._found = threading.Event()
        self.faults: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def port(self) -> int:
        """The port, once there is one. Raises _Stopped."""
        self._found.wait(_START_SECONDS)
        if not self._port:
            raise _Stopped(self.why("the server did not start"))
        return self._port

    def why(self, what: str) -> str:
        """What happened, with the errors that were logged."""
        if self._process.poll() is not None:
            self._reader.join(_ASK_SECONDS)
        return "\n  ".join([what, *self.faults])

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            try:
                entry = orjson.loads(line)
            except orjson.JSONDecodeError:
                entry = {"level": "error", "message": line.decode("utf-8", "replace").rstrip()}
            if entry.get("message") == "listening":
                self._port = int(entry["http_port"])
                self._found.set()
            elif entry.get("level") in ("error", "critical"):
                self.faults.append(str(entry["message"]))
        self._found.set()


def _until_ready(port: int, process: "subprocess.Popen[bytes]", logs: _Logs) -> None:
    began = monotonic()
    show = _Progress()
    while True:
        if process.poll() is not None:
            raise _Stopped(logs.why("the server ended before it was ready"))
        try:
            status, body = _ask("127.0.0.1", port, "GET", "/v2/health/ready")
        except ConnectionError:
            continue  # it is just ending
        if status == http.client.OK:
            show.done()
            return
        spent = monotonic() - began
        if spent > _START_SECONDS:
            raise _Stopped(logs.why(f"not ready after {spent:.0f} s: {_message(body)}"))
        show.say(f"loading models, {spent:.0f} s")
        sleep(0.05)


def _ask(host: str, port: int, method: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(host, port, timeout=_ASK_SECONDS)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _ask_json(host: str, port: int, method: str, path: str) -> Any:
    status, body = _ask(host, port, method, path)
    if status != http.client.OK:
        raise _Stopped(f"{path}: status {status}: {_message(body)}")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise _Stopped(f"{path}: the answer is not JSON; is this a model server?") from None


def _message(body: bytes) -> str:
    try:
        return str(orjson.loads(body)["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace")


def _measure(
    host: str, port: int, base: str, model: str | None, seconds: float, binary: bool
) -> dict[str, Any]:
    if model is None:
        rows = _ask_json(host, port, "POST", f"{base}/v2/repository/index")
        model = next((row["name"] for row in rows if row["state"] == "READY"), None)
        if model is None:
            raise _Stopped("the server has no model that is ready")
    path = f"{base}/v2/models/{quote(model, safe='')}"
    metadata = _ask_json(host, port, "GET", path)
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    requests = _requests(authority, f"{path}/infer", _signature(metadata), binary)
    steps = uvloop.run(_steps(host, port, requests, seconds))
    return {
        "model": model,
        "url": f"http://{authority}{base}",
        "form": "binary" if binary else "json",
        "request_bytes": len(requests[0]),
        "seconds": seconds,
        "steps": [_summary(step) for step in steps],
    }


def _signature(metadata: dict[str, Any]) -> Signature:
    unknown = [t["datatype"] for t in metadata["inputs"] if t["datatype"] not in NUMPY_TYPES]
    if unknown:
        raise _Stopped(f"no rows can be made up for datatype {unknown[0]}")
    specs = [TensorSpec(t["name"], t["datatype"], tuple(t["shape"])) for t in metadata["inputs"]]
    return Signature(tuple(specs), ())


def _requests(host: str, path: str, signature: Signature, binary: bool) -> list[bytes]:
    """Whole requests of one row each, different rows."""
    requests: list[bytes] = []
    for seed in range(_DIFFERENT_ROWS):
        arrays = made_up(signature, 1, seed)
        tensors: list[dict[str, Any]] = []
        blobs: list[bytes] = []
        for spec in signature.inputs:
            array = arrays[spec.name]
            tensor: dict[str, Any] = {
                "name": spec.name,
                "datatype": spec.datatype,
                "shape": list(array.shape),
            }
            if binary or spec.datatype == "BF16":
                blobs.append(to_bytes(array))
                tensor["parameters"] = {"binary_data_size": len(blobs[-1])}
            else:
                tensor["data"] = to_json(array)
            tensors.append(tensor)
        document: dict[str, Any] = {"inputs": tensors}
        if binary:
            document["parameters"] = {"binary_data_output": True}
        head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
        body = b"".join((head, *blobs))
        kind = "application/json"
        if blobs:
            kind = f"application/octet-stream\r\nInference-Header-Content-Length: {len(head)}"
        requests.append(
            f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
    return requests


async def _steps(host: str, port: int, requests: list[bytes], seconds: float) -> list[Step]:
    show = _Progress()
    await run_step(host, port, requests, 1, min(seconds, _WARM_SECONDS))
    steps: list[Step] = []
    for number, clients in enumerate(CONCURRENCIES, 1):
        show.say(f"[{number}/{len(CONCURRENCIES)}] {clients} clients for {seconds:g} s")
        steps.append(await run_step(host, port, requests, clients, seconds))
    show.done()
    return steps


def _summary(step: Step) -> dict[str, Any]:
    ordered = sorted(step.latencies)

    def percentile(share: float) -> float | None:
        if not ordered:
            return None
        return round(ordered[math.ceil(share * len(ordered)) - 1] * 1000, 3)

    return {
        "clients": step.clients,
        "answers": len(ordered),
        "errors": step.errors,
        "error": step.sample or None,
        "rate": round(len(ordered) / step.seconds, 1),
        "p50_ms": percentile(0.50),
        "p90_ms": percentile(0.90),
        "p99_ms": percentile(0.99),
        "client_cpu": round(step.client_cpu, 2),
    }


def plot(report: dict[str, Any]) -> str:
    """The report for people, with bars."""
    steps = report["steps"]
    title = f"{report['model']} at {report['url']}, {report['form']}, one row a request"
    lines = [f"{title}, {report['seconds']:g} s a step", ""]
    most = max(step["rate"] for step in steps)
    lines.append(f"{'clients':>7}  {'requests/s':>10}  {'':{_BAR}}  {'errors':>6}")
    lines += [
        f"{step['clients']:>7}  {step['rate']:>10,.0f}  {_bar(step['rate'], most):{_BAR}}  "
        f"{step['errors'] or '':>6}".rstrip()
        for step in steps
    ]
    slowest = max(step["p99_ms"] or 0 for step in steps)
    lines += ["", f"{'clients':>7}  {'p99 ms':>10}  {'':{_BAR}}  {'p50':>8}  {'p90':>8}"]
    lines += [
        f"{step['clients']:>7}  {_number(step['p99_ms']):>10}  {_bar(step['p99_ms'] or 0, slowest):{_BAR}}  "
        f"{_number(step['p50_ms']):>8}  {_number(step['p90_ms']):>8}"
        for step in steps
    ]
    if any(step["client_cpu"] > _CLIENT_BOUND for step in steps):
        lines += ["", "The load took a whole CPU: the server can do more than the highest rates shown."]
    error = next((step["error"] for step in steps if step["error"]), None)
    if error:
        lines += ["", f"first error: {error}"]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.2f}"


def _bar(value: float, most: float) -> str:
    """A bar in eighths of a character."""
    eighths = round(_BAR * 8 * value / most) if most else 0
    whole, part = divmod(eighths, 8)
    return _EIGHTHS[8] * whole + (_EIGHTHS[part] if part else "")


class _Progress:
    """What goes on, on standard error: over one line at a terminal, else a line each time it changes."""

    def __init__(self) -> None:
        self._last = ""
        self._terminal = sys.stderr.isatty()
        self.say: Callable[[str], None] = self._over if self._terminal else self._line

    def _over(self, text: str) -> None:
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    def _line(self, text: str) -> None:
        if text != self._last:
            print(text, file=sys.stderr, flush=True)
        self._last = text

    def done(self) -> None:
        """Leave an empty line for the report."""
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
