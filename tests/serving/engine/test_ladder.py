"""The degradation ladder: each rung, their order, what is said of it, and when it is not climbed down."""

import http.server
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from engine.stand_ins import ask, index_body, model, quick, runs, table, turns_body
from running_server import Server, wait_until
from test_engine import send_and_stay
from test_models import FakeMlflow
from test_process import worker_pids

BEYOND_ALL = 1000


@pytest.fixture(scope="module")
def ladders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Models that know 10, 20 and 30 numbers, on ladders of every kind."""
    folder = tmp_path_factory.mktemp("ladders")
    top = table(folder / "top.onnx", 10)
    slow = onnx_models.slow(folder / "slow.onnx")
    other = onnx_models.scale(folder / "other.onnx")
    static = {"value": {"y": -7.0}}
    settings = {
        "models": [
            model("middle", table(folder / "middle.onnx", 20, 100.0)),
            model("low", table(folder / "low.onnx", 30, 1000.0)),
            model("quick", quick(folder / "quick.onnx")),
            model("other", other),
            model("models", top, fallback={"rungs": [{"model": "middle"}, {"model": "low"}]}),
            model("static", top, fallback={"rungs": [{"model": "middle"}, static]}),
            model("unfit", top, fallback={"rungs": [{"model": "other"}, static]}),
            model("only-timeouts", top, fallback={"rungs": [static], "on": ["timeout"]}),
            model("slow-model", slow, fallback={"rungs": [{"model": "quick"}]}),
            model("slow-limit", slow, timeout_seconds=0.5, fallback={"rungs": [{"value": {"y": [5.0]}}]}),
            model("left", slow, fallback={"rungs": [{"value": {"y": [5.0]}}]}),
            model("slow-rungs", slow, fallback={"rungs": [{"model": "slow-stand-in"}]}),
            model("slow-stand-in", slow),
            model("crowded", slow, queue_size=1, fallback={"rungs": [{"model": "quick"}]}),
        ]
    }
    server = Server(folder, settings)
    try:
        yield server.until_ready()
    finally:
        server.close()


def test_the_model_itself_answers_while_it_can(ladders: Server) -> None:
    status, data, headers = ask(ladders, "models", index_body(3))
    assert (status, data) == (200, [30])
    assert "x-degraded" not in headers


def test_rungs_are_tried_in_their_order(ladders: Server) -> None:
    for index, answer, by in ((15, 1500, "middle/1"), (25, 25000, "low/1")):
        status, data, headers = ask(ladders, "models", index_body(index))
        assert (status, data) == (200, [answer])
        assert headers["x-degraded"] == f"model; reason=failure; by={by}"
    status, error, headers = ask(ladders, "models", index_body(BEYOND_ALL))
    assert status == 500
    assert "the model failed" in error
    assert "x-degraded" not in headers


def test_a_degraded_answer_says_so_everywhere(ladders: Server) -> None:
    labels = {"model": "models", "version": "1", "rung": "model", "reason": "failure"}
    before = ladders.metric("model_server_degraded_total", **labels)
    _, answer, _ = ladders.post("/v2/models/models/infer", index_body(15))
    assert answer["parameters"] == {"degraded": "model", "degraded_reason": "failure"}
    assert (answer["model_name"], answer["model_version"]) == ("middle", "1")
    assert ladders.metric("model_server_degraded_total", **labels) == before + 1


def test_a_static_default_has_a_row_for_each_row(ladders: Server) -> None:
    status, data, headers = ask(ladders, "static", index_body(BEYOND_ALL, 1, 2))
    assert (status, data) == (200, [-7, -7, -7])
    assert headers["x-degraded"] == "static; reason=failure; by=static/1"


def test_a_rung_that_does_not_fit_is_left_out_and_named(ladders: Server) -> None:
    status, data, _ = ask(ladders, "unfit", index_body(BEYOND_ALL))
    assert (status, data) == (200, [-7])
    assert ladders.log("a fallback cannot stand in")["reason"] == "it needs the input 'x'"


def test_faults_of_the_request_never_degrade(ladders: Server) -> None:
    for body in ({}, turns_body(1), index_body()):
        status, answer, headers = ladders.post("/v2/models/static/infer", body)
        assert status in (400, 200), answer
        assert "x-degraded" not in headers
    assert ask(ladders, "only-timeouts", index_body(BEYOND_ALL))[0] == 500


def test_a_time_out_leaves_time_for_the_rung(ladders: Server) -> None:
    began = time.monotonic()
    status, data, headers = ask(ladders, "slow-model", turns_body(8000), X_Request_Timeout="1.5")
    assert (status, data) == (200, [-1])
    assert headers["x-degraded"] == "model; reason=timeout; by=quick/1"
    # 80 % of the time for the model, the rest for the rung.
    assert 1.1 < time.monotonic() - began < 1.5


def test_the_models_own_limit_degrades_too(ladders: Server) -> None:
    status, data, headers = ask(ladders, "slow-limit", turns_body(4000))
    assert (status, data) == (200, [5])
    assert headers["x-degraded"] == "static; reason=timeout; by=slow-limit/1"


def test_the_deadline_holds_for_the_rungs_as_well(ladders: Server) -> None:
    began = time.monotonic()
    status, error, headers = ask(ladders, "slow-rungs", turns_body(4000), X_Request_Timeout="0.6")
    assert (status, "x-degraded" in headers) == (504, False), error
    assert 0.5 < time.monotonic() - began < 1.0
    # A static answer would take no time, but even that is too late.
    status, error, _ = ask(ladders, "slow-limit", turns_body(1), X_Request_Timeout="0")
    assert status == 504, error


def test_overload_degrades(ladders: Server) -> None:
    held = [send_and_stay(ladders, "crowded", turns_body(3000)) for _ in range(2)]
    try:
        found = wait_until(
            lambda: (got := ask(ladders, "crowded", turns_body(1)))[2].get("x-degraded") and got, 5
        )
        assert found[2]["x-degraded"] == "model; reason=overload; by=quick/1"
        assert found[1] == [-1]
    finally:
        for sock in held:
            sock.close()


def test_a_client_that_leaves_takes_its_attempt_along(ladders: Server) -> None:
    before = runs(ladders, "left")
    busy = send_and_stay(ladders, "left", turns_body(1000))
    wait_until(lambda: ladders.get("/v2/health/live")[0] == 200)
    open_now = ladders.metric("model_server_http_connections")
    send_and_stay(ladders, "left", turns_body(999)).close()
    wait_until(lambda: ladders.metric("model_server_http_connections") <= open_now)
    assert busy.recv(1000).startswith(b"HTTP/1.1 200")
    busy.close()
    assert ask(ladders, "left", turns_body(1))[1] == [1]
    assert runs(ladders, "left") == before + 2
    assert ladders.metric("model_server_degraded_total", model="left") == 0


def test_a_cached_answer_comes_before_the_static_one_and_tells_its_age(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    slow = onnx_models.slow(tmp_path / "slow.onnx")
    settings = {
        "models": [
            model(
                "m",
                slow,
                queue_size=1,
                cache={"ttl_seconds": 0},
                fallback={"rungs": [{"cached_seconds": 60}, {"value": {"y": [-2.0]}}]},
            )
        ]
    }
    server = start(settings).until_ready()
    assert ask(server, "m", turns_body(1))[1] == [1]
    assert ask(server, "m", turns_body(1))[2]["x-cache"] == "miss"
    held = [send_and_stay(server, "m", turns_body(turns)) for turns in (4000, 4001)]
    found = wait_until(lambda: (got := ask(server, "m", turns_body(1)))[2].get("x-degraded") and got, 5)
    assert found[2]["x-degraded"].startswith("cached; reason=overload; by=m/1; age=")
    assert found[1] == [1]
    assert ask(server, "m", turns_body(2))[2]["x-degraded"] == "static; reason=overload; by=m/1"
    for sock in held:
        sock.close()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[tuple[str, type[FakeMlflow]]]:
    """Version 1 knows 100 numbers, version 2 only 10."""
    files = {}
    for version, size in (("v1", 100), ("v2", 10)):
        files[f"{version}/model.onnx"] = table(tmp_path / "model.onnx", size, float(version[1])).read_bytes()
        files[f"{version}/MLmodel"] = b"flavors: {onnx: {data: model.onnx}, python_function: {}}"
    handler = type("Handler", (FakeMlflow,), {"files": files, "aliases": {"champion": "1"}})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as fake:
        threading.Thread(target=fake.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{fake.server_port}", handler
        fake.shutdown()


def test_the_previous_version_stays_and_stands_in(
    start: Callable[..., Server], registry: tuple[str, type[FakeMlflow]]
) -> None:
    uri, fake = registry
    declared: dict[str, Any] = {"name": "m", "source": "models:/m@champion"}
    declared |= {"cache": {}, "fallback": {"rungs": [{"previous_version": True}]}}
    server = start({"registry": {"tracking_uri": uri}, "models": [declared]}).until_ready()
    assert ask(server, "m", index_body(50))[1] == [50]
    assert ask(server, "m", index_body(50))[2]["x-cache"] == "hit"
    fake.aliases["champion"] = "2"
    assert server.post("/v2/repository/models/m/load")[0] == 200
    # The new version never gives the old one's answers as its own.
    status, data, headers = ask(server, "m", index_body(5))
    assert (status, data, headers["x-cache"]) == (200, [10], "miss")
    status, data, headers = ask(server, "m", index_body(50))
    assert (status, data) == (200, [50])
    assert headers["x-degraded"] == "previous-version; reason=failure; by=m/1"


def test_polls_and_new_workers_keep_the_previous_version(
    start: Callable[..., Server], registry: tuple[str, type[FakeMlflow]]
) -> None:
    uri, fake = registry
    declared: dict[str, Any] = {"name": "m", "source": "models:/m@champion"}
    declared |= {"fallback": {"rungs": [{"previous_version": True}]}}
    settings = {
        "server": {"workers": 2},
        "registry": {"tracking_uri": uri, "poll_seconds": 0.3},
        "models": [declared],
    }
    server = start(settings).until_ready()
    fake.aliases["champion"] = "2"

    def versions() -> list[str]:
        return sorted(row["version"] for row in server.post("/v2/repository/index")[1])

    wait_until(lambda: all(versions() == ["1", "2"] for _ in range(10)))
    loads = server.metric("model_server_model_loads_total", model="m", outcome="succeeded")
    changes = [line for line in server.logs if line["message"] == "model serves"]
    time.sleep(1.5)
    # What is kept is part of what is wished for: no poll takes it for a change.
    assert [line for line in server.logs if line["message"] == "model serves"] == changes
    assert server.metric("model_server_model_loads_total", model="m") == loads == 4
    # Loading again does not load what only stands in.
    assert server.post("/v2/repository/models/m/load")[0] == 200
    assert server.metric("model_server_model_loads_total", model="m") == 6
    os.kill(worker_pids(server)[0], signal.SIGKILL)
    server.log("serving", times=3)
    for _ in range(10):
        status, data, headers = ask(server, "m", index_body(50))
        assert (status, data) == (200, [50])
        assert headers["x-degraded"] == "previous-version; reason=failure; by=m/1"
    # A rollback falls back to nothing newer.
    fake.aliases["champion"] = "1"
    wait_until(lambda: all(versions() == ["1"] for _ in range(10)))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"z": 1.0}, "no output 'z'"),
        ({"y": "high"}, "the string 'high'"),
        ({"y": [1.0, 2.0]}, "expected one row of shape []"),
        ({}, "needs a value for output 'y'"),
    ],
)
def test_a_static_default_that_is_no_answer_of_the_model_is_refused_at_load(
    start: Callable[..., Server], tmp_path: Path, value: dict, says: str
) -> None:
    path = table(tmp_path / "m.onnx", 10)
    server = start({"models": [model("m", path, fallback={"rungs": [{"value": value}]})]})
    assert server.process.wait(timeout=30) == 3
    message = server.log("cannot start")["message"]
    assert "fallback.rungs[0].value" in message
    assert says in message
