"""The latency budget: phases against the objective, in a header on request."""

import time
from collections.abc import Callable
from pathlib import Path

from engine.stand_ins import ask, model, turns_body
from running_server import Server, infer_body

BODY = infer_body([1, 2, 3], [1, 3])


def phases(value: str) -> dict[str, dict[str, str]]:
    """Name -> parameters."""
    found: dict[str, dict[str, str]] = {}
    for part in value.split(", "):
        name, *parameters = part.split(";")
        found[name] = {key: number for key, _, number in (one.partition("=") for one in parameters)}
    return found


def test_phases_stand_beside_their_shares(shared: Server) -> None:
    got = phases(ask(shared, "scale", BODY, X_Latency_Budget="1")[2]["x-latency-budget"])
    names = ["network", "features", "queue", "inference", "post-processing", "total", "reserve"]
    assert list(got) == names
    assert [got[name].get("budget") for name in names] == ["5", "10", None, "20", "5", None, "60"]
    assert got["total"]["objective"] == "100"
    took = {name: float(parameters["dur"]) for name, parameters in got.items() if "dur" in parameters}
    assert "network" not in took, "the client did not say when it sent the request"
    spent = took["features"] + took["queue"] + took["inference"] + took["post-processing"]
    assert abs(spent - took["total"]) < 0.01
    assert abs(took["reserve"] - (100 - took["total"])) < 0.01
    assert "x-latency-budget" not in ask(shared, "scale", BODY)[2]


def test_the_network_is_known_from_a_client_that_tells_its_time(shared: Server) -> None:
    for scale in (1, 1e3, 1e6):
        sent = f"t={(time.time() - 0.05) * scale:.6f}"
        got = phases(
            ask(shared, "scale", BODY, X_Latency_Budget="1", X_Request_Start=sent)[2]["x-latency-budget"]
        )
        assert 50 <= float(got["network"]["dur"]) < 1000
        assert "over" in got["network"]
        assert float(got["total"]["dur"]) >= 50
    for odd in ("soon", "t=nan", "t=1", f"t={time.time() + 100}"):
        answer = ask(shared, "scale", BODY, X_Latency_Budget="1", X_Request_Start=odd)
        assert answer[0] == 200
        assert "dur" not in phases(answer[2]["x-latency-budget"])["network"]


def test_what_takes_too_long_is_marked(start: Callable[..., Server], models: Path) -> None:
    declared = model("slow", models / "slow.onnx", slo_ms=50, budget={"inference_ms": 30, "network_ms": 0})
    server = start({"models": [declared]}).until_ready()
    status, _, headers = ask(server, "slow", turns_body(300), X_Latency_Budget="1")
    got = phases(headers["x-latency-budget"])
    assert status == 200
    assert got["inference"]["budget"] == "30"
    assert "over" in got["inference"]
    assert "over" not in got["features"]
    assert float(got["inference"]["dur"]) > 30
    assert float(got["reserve"]["dur"]) < 0
    assert got["reserve"]["budget"] == "12.5"


def test_errors_have_a_budget_too(shared: Server) -> None:
    status, _, headers = ask(shared, "scale", BODY, X_Latency_Budget="1", X_Request_Timeout="0")
    assert status == 504
    assert phases(headers["x-latency-budget"])["inference"]["dur"] == "0.000"
