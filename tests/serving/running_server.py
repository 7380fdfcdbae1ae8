"""A real model server as a subprocess, and the clients that tests talk to it with."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

START_SECONDS = 30.0


class Server:
    """`model-server serve` with a settings file of its own, on a free port."""

    def __init__(self, folder: Path, settings: dict[str, Any], **environment: str) -> None:
        self.logs: list[dict[str, Any]] = []
        self._logged = threading.Condition()
        server = {"http_port": 0, "grpc_port": 0, "drain_seconds": 0.1, **settings.get("server", {})}
        path = folder / "settings.yaml"
        path.write_text(yaml.safe_dump({**settings, "server": server}))
        command = [sys.executable, "-m", "model_server.cli.main", "serve", "--config", str(path)]
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "MODEL_SERVER_"))}
        self.process = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            env={**clean, "XDG_CACHE_HOME": str(folder / "cache"), **environment},
        )
        self._reader = threading.Thread(target=self._read_logs, daemon=True)
        self._reader.start()

    def _read_logs(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                entry = {"level": "raw", "message": line.decode().rstrip()}
            with self._logged:
                self.logs.append(entry)
                self._logged.notify_all()
        with self._logged:
            self._logged.notify_all()

    def log(self, message: str, times: int = 1) -> dict[str, Any]:
        """Wait for a log line that starts with message (the times-th of them)."""

        def found() -> list[dict[str, Any]]:
            return [entry for entry in self.logs if entry["message"].startswith(message)]

        with self._logged:
            self._logged.wait_for(
                lambda: len(found()) >= times or self.process.poll() is not None, timeout=START_SECONDS
            )
            matching = found()
        assert len(matching) >= times, f"no log {message!r}; got {self.logs}"
        return matching[times - 1]

    @property
    def port(self) -> int:
        return int(self.log("listening")["http_port"])

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.port}"

    def until_ready(self) -> "Server":
        wait_until(lambda: self.process.poll() is not None or self.get("/v2/health/ready")[0] == 200)
        assert self.process.poll() is None, self.logs
        return self

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        timeout: float = 30.0,
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, decoded body and headers (names in lower case)."""
        raw = json.dumps(body).encode() if isinstance(body, dict | list) else body
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, raw, headers or {})
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        answer_headers = {name.lower(): value for name, value in response.getheaders()}
        decoded = (
            json.loads(data) if answer_headers.get("content-type") == "application/json" and data else data
        )
        return response.status, decoded, answer_headers

    def get(self, path: str) -> tuple[int, Any, dict[str, str]]:
        return self.request("GET", path)

    def post(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        return self.request(
            "POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()}
        )

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the series of this name with these labels."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        total = 0.0
        for line in self.get("/metrics")[1].decode().splitlines():
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0] == name and all(label in series for label in wanted):
                total += float(value)
        return total

    def connect(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def send_raw(self, data: bytes) -> bytes:
        """Everything that comes back until the server closes or 20 seconds pass."""
        with self.connect() as sock:
            sock.sendall(data)
            return read_all(sock)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(timeout=10)
        assert self.process.stderr is not None
        self.process.stderr.close()


def read_all(sock: socket.socket) -> bytes:
    parts: list[bytes] = []
    try:
        while part := sock.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def wait_until(condition: Callable[[], Any], seconds: float = START_SECONDS) -> Any:
    """Ask until it is true; fail after a time."""
    limit = time.monotonic() + seconds
    while True:
        try:
            result = condition()
        except ConnectionError:
            result = None
        if result:
            return result
        assert time.monotonic() < limit, "it did not become true in time"
        time.sleep(0.01)


def infer_body(
    data: list, shape: list[int], name: str = "x", datatype: str = "FP32", **more: Any
) -> dict[str, Any]:
    return {"inputs": [{"name": name, "datatype": datatype, "shape": shape, "data": data}], **more}
