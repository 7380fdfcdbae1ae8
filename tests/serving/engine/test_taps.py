"""Answers for whoever compares versions: those that were asked for, once, and never through a proxy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.stand_ins import ask, index_body, model, table
from running_server import Server


def started(start: Callable[..., Server], folder: Path, **server: Any) -> Server:
    path = table(folder / "table.onnx", 10)
    return start({"server": server, "models": [model("m", path)]}).until_ready()


def take(server: Server, body: dict[str, Any] | None = None, **headers: str) -> tuple[int, Any]:
    status, answer, _ = server.post("/v2/models/m/answers", body or {}, **headers)
    return status, answer


def test_answers_are_kept_from_the_first_taking_on_and_told_once(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    server = started(start, tmp_path, tells_answers=True)
    ask(server, "m", index_body(1), X_Request_Id="early")
    assert take(server, {"slice_header": "X-Region"}) == (200, {"answers": []})
    ask(server, "m", index_body(1, 2), X_Request_Id="good", X_Region="north")
    ask(server, "m", index_body(99), X_Request_Id="bad")
    ask(server, "m", index_body(1))  # without an id nobody could compare it
    good, bad = take(server)[1]["answers"]
    assert (good["id"], good["slice"], good["version"]) == ("good", "north", "1")
    assert good["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [2], "data": [10, 20]}]
    assert 0 < good["ms"] < 30_000
    assert (bad["id"], bad["error"]) == ("bad", "model_failed")
    assert take(server)[1] == {"answers": []}


def test_two_servers_keep_the_same_share(start: Callable[..., Server], tmp_path: Path) -> None:
    server = started(start, tmp_path, tells_answers=True)
    take(server, {"share": 0.5})
    for number in range(100):
        ask(server, "m", index_body(1), X_Request_Id=f"r-{number}")
    first = {one["id"] for one in take(server, {"share": 0.5})[1]["answers"]}
    for number in range(100):
        ask(server, "m", index_body(1), X_Request_Id=f"r-{number}")
    assert first == {one["id"] for one in take(server)[1]["answers"]}
    assert 25 < len(first) < 75


def test_clients_of_a_gateway_and_servers_that_tell_nothing(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    assert take(started(start, tmp_path, tells_answers=True), X_Forwarded_For="10.1.1.1")[0] == 404
    assert take(started(start, tmp_path))[0] == 404
