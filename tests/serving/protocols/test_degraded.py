"""Answers of the degradation ladder over TensorFlow's, MLflow's and the plain protocol."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from engine.stand_ins import model, table
from running_server import Server

FAILS = 99
STATIC = "static; reason=failure; by=top/1"
ROUTES = {
    "tensorflow": ("/v1/models/top:predict", lambda index: {"instances": [index]}, [-7.0]),
    "mlflow": ("/invocations", lambda index: {"inputs": {"index": [index]}}, [{"y": -7.0}]),
    "plain": ("/predict/top", lambda index: [{"index": index}], [{"y": -7.0}]),
}


@pytest.fixture(scope="module")
def laddered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A model that knows 10 numbers, on a ladder."""
    folder = tmp_path_factory.mktemp("laddered")
    path = table(folder / "top.onnx", 10)
    rungs: list[dict[str, Any]] = [{"model": "other"}, {"value": {"y": -7.0}}]
    settings = {
        "default_model": "top",
        "models": [
            model("other", table(folder / "other.onnx", 20, 100.0)),
            model("top", path, fallback={"rungs": rungs}),
            model("broken", path, breaker={"min_calls": 2, "open_seconds": 60}),
        ],
    }
    server = Server(folder, settings)
    try:
        yield server.until_ready()
    finally:
        server.close()


@pytest.mark.parametrize("protocol", ROUTES)
def test_a_degraded_answer_says_so(laddered: Server, protocol: str) -> None:
    path, body, static = ROUTES[protocol]
    status, answer, headers = laddered.post(path, body(3))
    assert (status, "x-degraded" in headers) == (200, False)
    status, answer, headers = laddered.post(path, body(FAILS), Content_Type="application/json")
    assert (status, headers["x-degraded"]) == (200, STATIC)
    predictions = answer["predictions"]
    assert predictions in (static, {"y": [-7.0]})
    headers = laddered.post(path, body(15), X_Latency_Budget="1")[2]
    assert headers["x-degraded"] == "model; reason=failure; by=other/1"
    assert "total;dur=" in headers["x-latency-budget"]


def test_the_plain_protocol_names_who_computed_the_answer(laddered: Server) -> None:
    answer = laddered.post("/predict/top", {"index": 15})[1]
    assert answer == {
        "model": "other",
        "version": "1",
        "prediction": {"y": 1500.0},
        "degraded": "model",
        "degraded_reason": "failure",
    }
    assert laddered.post("/predict/top", {"index": 3})[1].keys() == {"model", "version", "prediction"}


def rows_of(server: Server, path: str, *numbers: int) -> list[dict[str, Any]]:
    body = "".join(json.dumps({"index": number}) + "\n" for number in numbers).encode()
    status, answer, headers = server.post(path, body, Content_Type="application/x-ndjson")
    assert status == 200
    assert "x-degraded" not in headers
    return [json.loads(line) for line in answer.splitlines()]


def test_rows_of_a_stream_say_it_each(laddered: Server) -> None:
    rows = rows_of(laddered, "/predict/top", FAILS)
    assert rows == [{"row": 0, "prediction": {"y": -7.0}, "degraded": "static", "degraded_reason": "failure"}]
    (row,) = rows_of(laddered, "/predict/top", 3)
    assert row == {"row": 0, "prediction": {"y": 30.0}}


def test_a_stream_does_not_wait_for_a_breaker_to_close(laddered: Server) -> None:
    rows = rows_of(laddered, "/predict/broken", *[FAILS] * 200)
    assert len(rows) == 200
    assert all("error" in row for row in rows)
    assert "it is left alone" in rows[-1]["error"]
    notes = laddered.get("/v2/health/ready")[1]["notes"]
    assert notes == ["model 'broken' version 1: the circuit breaker is open"]
