"""The hook for payload capture and drift: what an observer sees, and that it delays nobody."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine.stand_ins import ask, index_body, model, table
from running_server import Server, wait_until

HERE = str(Path(__file__).parent)


def settings(folder: Path, observer: dict[str, Any], **options: Any) -> dict[str, Any]:
    path = table(folder / "table.onnx", 10)
    use = {"use": "notebook:Notebook", "options": {"path": str(folder / "notes"), **options}, **observer}
    rungs = {"rungs": [{"value": {"y": -1.0}}]}
    return {"observers": [use], "models": [model("m", path), model("laddered", path, fallback=rungs)]}


def notes(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / "notes").read_text().splitlines()]


def observed(server: Server, outcome: str) -> float:
    return server.metric("model_server_observations_total", outcome=outcome)


def test_an_observer_sees_calls_and_their_outcome(start: Callable[..., Server], tmp_path: Path) -> None:
    server = start(settings(tmp_path, {}), PYTHONPATH=HERE).until_ready()
    ask(server, "m", index_body(1, 2), X_Request_Id="r-1")
    ask(server, "m", index_body(99))
    ask(server, "laddered", index_body(99))
    good, bad, degraded = wait_until(lambda: len(notes(tmp_path)) == 3 and notes(tmp_path))
    assert good["inputs"] == {"index": [1, 2]}
    assert good["outputs"] == {"y": [10, 20]}
    assert (good["model"], good["version"], good["request_id"]) == ("m", "1", "r-1")
    assert abs(good["received"] - time.time()) < 60
    assert 0 < good["seconds"] < 30
    assert (bad["error"], bad["outputs"]) == ("model_failed", {})
    assert (degraded["degraded"], degraded["outputs"], degraded["error"]) == ("static", {"y": [-1]}, None)
    assert observed(server, "queued") == 3
    assert server.stop() == 0
    assert notes(tmp_path)[-1] == "closed"


def test_what_is_predicted_is_counted(start: Callable[..., Server], tmp_path: Path) -> None:
    path = table(tmp_path / "table.onnx", 10)
    server = start({"predictions": {"sample": 1.0}, "models": [model("m", path)]}).until_ready()
    for numbers in ((1, 2), (2, 5), (99,)):
        ask(server, "m", index_body(*numbers))
    wait_until(lambda: observed(server, "queued") == 3)

    def rows(kind: str) -> float:
        return server.metric("model_server_predictions_total", model="m", output="y", kind=kind)

    wait_until(lambda: (rows("10 to 20"), rows("20 to 50"), rows("50 to 100")) == (1, 2, 1))


def test_a_slow_observer_delays_nobody_and_drops(start: Callable[..., Server], tmp_path: Path) -> None:
    server = start(settings(tmp_path, {"queue_size": 2}, seconds=2.0), PYTHONPATH=HERE).until_ready()
    began = time.monotonic()
    for _ in range(10):
        assert ask(server, "m", index_body(1))[0] == 200
    assert time.monotonic() - began < 1.9, "one observation takes two seconds"
    assert observed(server, "queued") + observed(server, "dropped") == 10
    assert observed(server, "dropped") >= 5


def test_the_bytes_in_the_queue_are_bounded(start: Callable[..., Server], tmp_path: Path) -> None:
    server = start(settings(tmp_path, {"queue_bytes": 1024}), PYTHONPATH=HERE).until_ready()
    assert ask(server, "m", index_body(*[1] * 200))[0] == 200
    wait_until(lambda: observed(server, "dropped") == 1)
    assert ask(server, "m", index_body(1))[0] == 200
    wait_until(lambda: observed(server, "queued") == 1)


def test_a_failing_observer_ends_nothing(start: Callable[..., Server], tmp_path: Path) -> None:
    server = start(settings(tmp_path, {}, fails_at=7), PYTHONPATH=HERE).until_ready()
    for index in (7, 7, 3):
        assert ask(server, "m", index_body(index))[0] == 200
    (entry,) = wait_until(lambda: notes(tmp_path))
    assert entry["inputs"] == {"index": [3]}
    assert observed(server, "failed") == 2
    assert "does not like" in server.log("an observer failed")["exception"]


def test_a_sample_of_some_models(start: Callable[..., Server], tmp_path: Path) -> None:
    observer = {"models": ["m"], "sample": 0.2}
    server = start(settings(tmp_path, observer), PYTHONPATH=HERE).until_ready()
    for _ in range(100):
        ask(server, "m", index_body(1))
    ask(server, "laddered", index_body(1))
    wait_until(lambda: len(notes(tmp_path)) == observed(server, "queued"))
    seen = notes(tmp_path)
    assert 3 <= len(seen) <= 45
    assert {entry["model"] for entry in seen} == {"m"}


@pytest.mark.parametrize(
    ("use", "says"),
    [("drift", "no entry point 'drift'"), ("nowhere:Nothing", "cannot be imported"), ("json:x", "imported")],
)
def test_an_observer_that_is_not_there_is_named_at_start(
    start: Callable[..., Server], tmp_path: Path, use: str, says: str
) -> None:
    server = start(settings(tmp_path, {"use": use}))
    assert server.process.wait(timeout=30) == 2
    assert says in server.log("observers:")["message"]
