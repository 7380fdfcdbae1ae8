"""The response cache: hits, bounds, versions, opt-out, and equal requests that meet."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import onnx_models
import pytest
from engine.stand_ins import ask, index_body, model, runs, table, turns_body
from running_server import Server, infer_body, wait_until
from test_engine import send_and_stay

MAX_BYTES = 52_000
MAX_ENTRIES = 50


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("cached")
    scale = onnx_models.scale(folder / "scale.onnx")
    slow = onnx_models.slow(folder / "slow.onnx")
    settings = {
        "models": [
            model("scale", scale, cache={}),
            model("plain", scale),
            model("brief", scale, cache={"ttl_seconds": 0.2}),
            model("few", scale, cache={"max_entries": MAX_ENTRIES}),
            model("small", scale, cache={"max_bytes": MAX_BYTES}),
            model("echo", onnx_models.echo(folder / "echo.onnx"), cache={}),
            model("slow", slow, cache={}),
            model("fails", table(folder / "table.onnx", 10), cache={}),
        ]
    }
    server = Server(folder, settings)
    try:
        yield server.until_ready()
    finally:
        server.close()


def row(*values: float) -> dict:
    return infer_body(list(values), [1, 3])


def said(server: Server, name: str, outcome: str) -> float:
    return server.metric("model_server_cache_requests_total", model=name, outcome=outcome)


def test_an_equal_request_is_not_run_again(cached: Server) -> None:
    first = ask(cached, "scale", row(1, 2, 3))
    before = runs(cached, "scale")
    again = ask(cached, "scale", row(1, 2, 3))
    assert (first[1], again[1]) == ([2, 4, 6], [2, 4, 6])
    assert (first[2]["x-cache"], again[2]["x-cache"]) == ("miss", "hit")
    assert int(again[2]["age"]) >= 0
    assert runs(cached, "scale") == before
    assert said(cached, "scale", "hit") == 1


def test_anything_else_is_another_request(cached: Server) -> None:
    assert ask(cached, "scale", row(7, 8, 9))[2]["x-cache"] == "miss"
    for other in (row(7, 8, 9.0001), row(9, 8, 7), infer_body([7, 8, 9] * 2, [2, 3])):
        assert ask(cached, "scale", other)[2]["x-cache"] == "miss"
    datatypes = [
        {"name": f"in_{name}", "datatype": name, "shape": [1, 2], "data": data}
        for name, data in (("BOOL", [True, False]), ("BYTES", ["a", "bc"]), ("INT8", [1, 2]))
    ]
    full = {
        "inputs": [
            *datatypes,
            *(
                {"name": f"in_{name}", "datatype": name, "shape": [1, 2], "data": [1, 2]}
                for name in onnx_models.ELEMENT_TYPES
                if name not in ("BOOL", "BYTES", "INT8")
            ),
        ]
    }
    assert ask(cached, "echo", full)[2]["x-cache"] == "miss"
    assert ask(cached, "echo", full)[2]["x-cache"] == "hit"
    datatypes[1]["data"] = ["ab", "c"]
    assert ask(cached, "echo", full)[2]["x-cache"] == "miss"
    fewer = {**full, "outputs": [{"name": "out_INT8"}]}
    assert ask(cached, "echo", fewer)[2]["x-cache"] == "miss"


def test_without_a_cache_nothing_is_said(cached: Server) -> None:
    for _ in range(2):
        assert "x-cache" not in ask(cached, "plain", row(1, 2, 3))[2]


def test_a_client_can_ask_for_a_run_of_its_own(cached: Server) -> None:
    ask(cached, "scale", row(4, 4, 4))
    before = runs(cached, "scale")
    assert ask(cached, "scale", row(4, 4, 4), Cache_Control="no-cache")[2]["x-cache"] == "bypass"
    assert runs(cached, "scale") == before + 1
    assert ask(cached, "scale", row(5, 4, 4), Cache_Control="no-store")[2]["x-cache"] == "bypass"
    assert ask(cached, "scale", row(5, 4, 4))[2]["x-cache"] == "miss"


def test_answers_grow_old(cached: Server) -> None:
    ask(cached, "brief", row(1, 2, 3))
    time.sleep(0.3)
    assert ask(cached, "brief", row(1, 2, 3))[2]["x-cache"] == "miss"


def test_errors_are_not_kept(cached: Server) -> None:
    for _ in range(2):
        assert ask(cached, "fails", index_body(99))[0] == 500
    assert said(cached, "fails", "hit") == 0
    assert cached.metric("model_server_cache_entries", model="fails") == 0


def test_the_number_of_answers_is_bounded(cached: Server) -> None:
    for number in range(MAX_ENTRIES + 10):
        ask(cached, "few", row(number, 0, 0))
    assert cached.metric("model_server_cache_entries", model="few") == MAX_ENTRIES
    assert cached.metric("model_server_cache_evicted_total", model="few") == 10
    assert ask(cached, "few", row(0, 0, 0))[2]["x-cache"] == "miss"
    assert ask(cached, "few", row(MAX_ENTRIES + 9, 0, 0))[2]["x-cache"] == "hit"


def test_the_bytes_of_the_answers_are_bounded(cached: Server) -> None:
    rows = 1000
    for number in range(20):
        ask(cached, "small", infer_body([number] * rows * 3, [rows, 3]))
    size = cached.metric("model_server_cache_bytes", model="small")
    assert rows * 3 * 4 < size <= MAX_BYTES
    assert cached.metric("model_server_cache_entries", model="small") == 4
    # One that could never fit does not push the others out.
    ask(cached, "small", infer_body([1.5] * 60_000, [20_000, 3]))
    assert cached.metric("model_server_cache_entries", model="small") == 4


def test_equal_requests_that_meet_run_once(cached: Server) -> None:
    before = runs(cached, "slow")
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: ask(cached, "slow", turns_body(800)), range(12)))
    assert [(status, data) for status, data, _ in answers] == [(200, [800])] * 12
    assert runs(cached, "slow") == before + 1
    said_of = [headers["x-cache"] for _, _, headers in answers]
    assert said_of.count("miss") == 1
    assert "joined" in said_of


def test_who_leads_may_leave(cached: Server) -> None:
    before = runs(cached, "slow")
    leader = send_and_stay(cached, "slow", turns_body(1501))
    joined = said(cached, "slow", "joined")
    with ThreadPoolExecutor(1) as pool:
        follower = pool.submit(ask, cached, "slow", turns_body(1501))
        wait_until(lambda: said(cached, "slow", "joined") == joined + 1)
        leader.close()
        assert follower.result()[:2] == (200, [1501])
    assert runs(cached, "slow") == before + 1


def test_the_leaders_deadline_is_its_own(cached: Server) -> None:
    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(ask, cached, "slow", turns_body(1502), X_Request_Timeout="0.2")
        wait_until(lambda: said(cached, "slow", "miss") and not leader.done())
        follower = pool.submit(ask, cached, "slow", turns_body(1502))
        assert leader.result()[0] == 504
        assert follower.result()[:2] == (200, [1502])


def test_a_run_that_nobody_waits_for_is_called_off(cached: Server) -> None:
    busy = send_and_stay(cached, "slow", turns_body(1503))
    misses = said(cached, "slow", "miss")
    gone = [send_and_stay(cached, "slow", turns_body(1504)) for _ in range(3)]
    wait_until(lambda: said(cached, "slow", "miss") > misses)
    before = runs(cached, "slow")
    for sock in gone:
        sock.close()
    assert busy.recv(1000).startswith(b"HTTP/1.1 200")
    busy.close()
    assert ask(cached, "slow", turns_body(1))[0] == 200
    assert runs(cached, "slow") == before + 2
    assert ask(cached, "slow", turns_body(1504))[2]["x-cache"] == "miss"


def test_a_new_version_starts_empty(start: Callable[..., Server], tmp_path: Path) -> None:
    path = onnx_models.scale(tmp_path / "m.onnx", 2.0)
    server = start({"models": [model("m", path, cache={})]}).until_ready()
    ask(server, "m", row(1, 1, 1))
    assert ask(server, "m", row(1, 1, 1))[2]["x-cache"] == "hit"
    onnx_models.scale(path, 3.0)
    assert server.post("/v2/repository/models/m/load")[0] == 200
    assert server.metric("model_server_cache_entries", model="m") == 0
    status, data, headers = ask(server, "m", row(1, 1, 1))
    assert (status, data, headers["x-cache"]) == (200, [3, 3, 3], "miss")
