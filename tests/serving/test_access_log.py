"""`log.access`: one line a request, and none unless asked for."""

from collections.abc import Callable
from pathlib import Path

import pytest
from running_server import Server, infer_body, wait_until
from test_engine import send_and_stay, slow_body


@pytest.mark.parametrize("access", [True, False])
def test_one_line_a_request(start: Callable[..., Server], models: Path, access: bool) -> None:
    declared = [{"name": name, "source": str(models / f"{name}.onnx")} for name in ("scale", "slow")]
    server = start({"models": declared, "log": {"access": access}}).until_ready()
    assert server.post("/v2/models/scale/infer", infer_body([1, 2, 3], [1, 3]), X_Request_Id="a-1")[0] == 200
    assert server.get("/nowhere")[0] == 404
    assert server.send_raw(b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400")
    send_and_stay(server, "slow", slow_body(500)).close()
    wait_until(lambda: server.metric("model_server_http_connections") == 1)
    assert server.stop() == 0
    server.close()
    lines = [entry for entry in server.logs if entry["message"] == "request"]
    ours = [line for line in lines if line["target"] not in ("/v2/health/ready", "/metrics")]
    if not access:
        assert lines == []
        return
    assert [(line["method"], line["target"], line["status"]) for line in ours] == [
        ("POST", "/v2/models/scale/infer", 200),
        ("GET", "/nowhere", 404),
        ("GET", "/", 400),
        ("POST", "/v2/models/slow/infer", 499),
    ]
    assert ours[0]["request_id"] == "a-1"
    assert all(line["ms"] >= 0 for line in ours)
