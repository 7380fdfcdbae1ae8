"""Answers for whoever compares versions: those that were asked for, once, and never through a proxy."""

import http.client
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


def test_nobody_gets_answers_through_a_gateway_or_from_elsewhere_or_where_none_are_told(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    server = started(start, tmp_path, tells_answers=True)
    assert take(server)[0] == 200
    assert take(server, X_Forwarded_For="10.1.1.1")[0] == 404
    elsewhere = http.client.HTTPConnection("127.0.0.1", server.port, 10, source_address=("127.0.0.6", 0))
    elsewhere.request("POST", "/v2/models/m/answers", "{}", {"content-type": "application/json"})
    refused = elsewhere.getresponse()
    assert (refused.status, b"own machine" in refused.read()) == (404, True)
    assert take(started(start, tmp_path))[0] == 404
