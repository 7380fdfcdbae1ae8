"""The life of a circuit breaker, with a model that fails, dawdles and recovers."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from engine.stand_ins import ask, index_body, model, quick, runs, table, turns_body
from running_server import Server, wait_until

OPEN_SECONDS = 1.0
BREAKER: dict[str, Any] = {"min_calls": 4, "failure_rate": 0.5, "open_seconds": OPEN_SECONDS, "probes": 2}
GOOD, BAD = index_body(1), index_body(99)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("broken")
    path = table(folder / "table.onnx", 10)
    slow = onnx_models.slow(folder / "slow.onnx")
    rungs = {"rungs": [{"value": {"y": -1.0}}]}
    names = ("life", "steady", "relapse", "client-faults")
    settings = {
        "models": [
            *(model(name, path, breaker=BREAKER) for name in names),
            model("laddered", path, breaker=BREAKER, fallback=rungs),
            model("on-rung", path, breaker=BREAKER),
            model("uses-rung", path, fallback={"rungs": [{"model": "on-rung"}]}),
            model("slow", slow, breaker=BREAKER, slo_ms=150, concurrency=8),
            model("quick", quick(folder / "quick.onnx")),
        ]
    }
    server = Server(folder, settings)
    try:
        yield server.until_ready()
    finally:
        server.close()


def is_open(server: Server, name: str) -> float:
    return server.metric("model_server_breaker_open", model=name, version="1")


def break_it(server: Server, name: str) -> None:
    for _ in range(4):
        assert ask(server, name, BAD)[0] == 500


def test_it_opens_probes_and_closes(broken: Server) -> None:
    break_it(broken, "life")
    before = runs(broken, "life")
    status, error, headers = ask(broken, "life", GOOD)
    assert status == 503
    assert "left alone" in error
    assert int(headers["retry-after"]) >= 1
    assert runs(broken, "life") == before
    assert is_open(broken, "life") == 1
    assert broken.metric("model_server_breaker_opened_total", model="life") == 1
    assert broken.metric("model_server_breaker_refused_total", model="life") == 1
    time.sleep(OPEN_SECONDS)
    assert ask(broken, "life", GOOD)[0] == 200
    assert is_open(broken, "life") == 1, "one probe of two has succeeded"
    assert ask(broken, "life", GOOD)[0] == 200
    assert is_open(broken, "life") == 0
    assert ask(broken, "life", BAD)[0] == 500, "what was counted before is forgotten"
    assert ask(broken, "life", GOOD)[0] == 200


def test_a_failed_probe_opens_it_again(broken: Server) -> None:
    break_it(broken, "relapse")
    time.sleep(OPEN_SECONDS)
    assert ask(broken, "relapse", BAD)[0] == 500
    assert ask(broken, "relapse", GOOD)[0] == 503
    assert broken.metric("model_server_breaker_opened_total", model="relapse") == 2


def test_below_the_rate_it_stays_closed(broken: Server) -> None:
    for body in (GOOD, GOOD, GOOD, BAD) * 3:
        assert ask(broken, "steady", body)[0] in (200, 500)
    assert is_open(broken, "steady") == 0


def test_client_faults_do_not_open_it(broken: Server) -> None:
    for _ in range(10):
        assert ask(broken, "client-faults", turns_body(1))[0] == 400
        assert ask(broken, "client-faults", GOOD, X_Request_Timeout="0")[0] == 504
    assert ask(broken, "client-faults", GOOD)[0] == 200


def test_readiness_tells(broken: Server) -> None:
    for _ in range(4):
        ask(broken, "laddered", BAD)
    status, answer, _ = broken.get("/v2/health/ready")
    assert (status, answer["ready"]) == (200, True)
    note = "model 'laddered' version 1: the circuit breaker is open"
    assert note in answer["notes"]
    assert broken.get("/v2/models/laddered/ready")[1]["notes"] == [note]
    assert "notes" not in broken.get("/v2/models/quick/ready")[1]


def test_an_open_breaker_is_a_reason_to_degrade(broken: Server) -> None:
    found = wait_until(
        lambda: (
            (got := ask(broken, "laddered", BAD))[2]["x-degraded"].startswith("static; reason=breaker")
            and got
        )
    )
    assert found[:2] == (200, [-1])
    assert ask(broken, "laddered", GOOD)[1] == [-1]


def test_a_rung_is_behind_its_own_breaker(broken: Server) -> None:
    for _ in range(4):
        ask(broken, "uses-rung", BAD)
    assert ask(broken, "on-rung", GOOD)[0] == 503
    assert ask(broken, "uses-rung", GOOD)[0] == 200


def test_time_outs_count_if_the_model_had_its_time(broken: Server) -> None:
    for _ in range(6):
        assert ask(broken, "slow", turns_body(600), X_Request_Timeout="0.02")[0] == 504
    assert is_open(broken, "slow") == 0, "an impatient client says nothing about the model"
    for _ in range(6):
        assert ask(broken, "slow", turns_body(2000), X_Request_Timeout="0.2")[0] in (504, 503)
    assert is_open(broken, "slow") == 1


def test_a_new_version_starts_closed(start: Callable[..., Server], tmp_path: Path) -> None:
    path = table(tmp_path / "m.onnx", 10)
    server = start({"models": [model("m", path, breaker={**BREAKER, "open_seconds": 60})]}).until_ready()
    break_it(server, "m")
    assert ask(server, "m", GOOD)[0] == 503
    assert server.post("/v2/repository/models/m/load")[0] == 200
    assert ask(server, "m", GOOD)[0] == 200
    assert is_open(server, "m") == 0
