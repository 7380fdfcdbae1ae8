"""Start, stop, workers: what an operator sees."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from running_server import Server, infer_body, read_all, wait_until
from test_engine import send_and_stay, slow_body

BODY = infer_body([1, 2, 3], [1, 3])


def two_models(models: Path) -> list[dict]:
    return [{"name": name, "source": str(models / f"{name}.onnx")} for name in ("scale", "slow")]


def worker_pids(server: Server) -> list[int]:
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    return [int(pid) for pid in children.split()]


@pytest.mark.parametrize("workers", [1, 2])
def test_stop_finishes_what_is_in_flight(start: Callable[..., Server], models: Path, workers: int) -> None:
    server = start({"server": {"workers": workers}, "models": two_models(models)}).until_ready()
    held = [send_and_stay(server, "slow", slow_body(1500)) for _ in range(4)]
    time.sleep(0.1)
    assert server.stop() == 0
    assert all(read_all(sock).startswith(b"HTTP/1.1 200") for sock in held)


@pytest.mark.parametrize("workers", [1, 2])
def test_while_draining_it_is_not_ready_but_still_answers(
    start: Callable[..., Server], models: Path, workers: int
) -> None:
    settings = {"server": {"workers": workers, "drain_seconds": 1.0}, "models": two_models(models)}
    server = start(settings).until_ready()
    server.process.send_signal(signal.SIGTERM)
    server.log("stopping", times=workers)
    assert server.get("/v2/health/ready")[0] == 503
    assert server.get("/v2/health/live")[0] == 200
    assert server.post("/v2/models/scale/infer", BODY)[0] == 200
    assert server.process.wait(timeout=20) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_to_serve_is_an_error(start: Callable[..., Server], tmp_path: Path, workers: int) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"this is no model")
    models = [
        {"name": "a", "source": str(tmp_path / "broken.onnx")},
        {"name": "b", "source": "/no/such/model"},
    ]
    server = start({"server": {"workers": workers}, "models": models})
    assert server.process.wait(timeout=30) == 3
    message = server.log("cannot start")["message"]
    assert "ONNX Runtime cannot load it" in message
    assert "/no/such/model: no such file" in message


def test_one_broken_model_leaves_the_others_serving_and_the_server_not_ready(
    start: Callable[..., Server], models: Path
) -> None:
    declared = [*two_models(models), {"name": "gone", "source": "/no/such/model"}]
    server = start({"models": declared})
    server.log("serving")
    assert server.post("/v2/models/scale/infer", BODY)[0] == 200
    status, answer, _ = server.get("/v2/health/ready")
    assert status == 503
    assert "model 'gone': /no/such/model: no such file" in answer["error"]
    status, answer, _ = server.post("/v2/models/gone/infer", BODY)
    assert status == 503
    rows = server.post("/v2/repository/index")[1]
    assert next(row for row in rows if row["name"] == "gone")["state"] == "UNAVAILABLE"


def test_start_requires_all(start: Callable[..., Server], models: Path) -> None:
    declared = [*two_models(models), {"name": "gone", "source": "/no/such/model"}]
    assert start({"models": declared, "start_requires": "all"}).process.wait(timeout=30) == 3


def test_bad_settings_name_the_field(start: Callable[..., Server]) -> None:
    server = start({"modles": []})
    assert server.process.wait(timeout=30) == 2
    assert "did you mean 'models'?" in server.log("")["message"]


def test_a_taken_port_is_said(start: Callable[..., Server], shared: Server) -> None:
    server = start({"server": {"http_port": shared.port}})
    assert server.process.wait(timeout=30) == 1
    server.log("cannot listen on 127.0.0.1")


def test_a_killed_worker_is_replaced_within_a_second(start: Callable[..., Server], models: Path) -> None:
    server = start({"server": {"workers": 2}, "models": two_models(models)}).until_ready()
    for _ in range(20):
        assert server.post("/v2/models/scale/infer", BODY)[0] == 200
    victim = worker_pids(server)[0]
    os.kill(victim, signal.SIGKILL)
    began = time.monotonic()
    wait_until(lambda: victim not in worker_pids(server), 1.0)
    wait_until(lambda: server.get("/v2/health/ready")[0] == 200, 5.0)
    assert time.monotonic() - began < 2.0
    assert len(worker_pids(server)) == 2
    assert server.metric("model_server_request_seconds_count", model="scale") == 20


def test_a_killed_worker_loses_only_what_it_held(start: Callable[..., Server], models: Path) -> None:
    server = start({"server": {"workers": 2}, "models": two_models(models)}).until_ready()
    outcomes: list[int] = []

    def ask() -> None:
        for _ in range(100):
            try:
                outcomes.append(server.post("/v2/models/scale/infer", BODY)[0])
            except OSError:
                outcomes.append(0)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(outcomes) > 50)
    os.kill(worker_pids(server)[0], signal.SIGKILL)
    for thread in threads:
        thread.join(timeout=60)
    assert len(outcomes) == 400
    assert outcomes.count(200) >= 396


def test_a_hung_worker_is_replaced(start: Callable[..., Server], models: Path) -> None:
    settings = {"server": {"workers": 2, "hung_worker_seconds": 1.0}, "models": two_models(models)}
    server = start(settings).until_ready()
    victim = worker_pids(server)[0]
    os.kill(victim, signal.SIGSTOP)
    wait_until(lambda: victim not in worker_pids(server), 5.0)
    wait_until(lambda: server.get("/v2/health/ready")[0] == 200, 5.0)


def test_load_and_unload_reach_every_worker(start: Callable[..., Server], models: Path) -> None:
    server = start({"server": {"workers": 2}, "models": two_models(models)}).until_ready()
    assert server.post("/v2/repository/models/scale/unload")[0] == 200
    for _ in range(20):
        assert server.post("/v2/models/scale/infer", BODY)[0] == 503
    os.kill(worker_pids(server)[0], signal.SIGKILL)
    wait_until(lambda: len(worker_pids(server)) == 2)
    for _ in range(20):
        assert server.get("/v2/models/scale/ready")[0] == 503
    assert server.post("/v2/repository/models/scale/load")[0] == 200
    for _ in range(20):
        assert server.post("/v2/models/scale/infer", BODY)[0] == 200
    assert server.post("/v2/repository/models/none/load")[0] == 404


def test_workers_stop_when_the_master_is_killed(start: Callable[..., Server], models: Path) -> None:
    server = start({"server": {"workers": 2}, "models": two_models(models)}).until_ready()
    pids = worker_pids(server)
    server.process.kill()
    server.process.wait()

    def gone(pid: int) -> bool:
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"

    wait_until(lambda: all(gone(pid) for pid in pids), 10.0)
