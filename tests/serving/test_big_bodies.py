"""Long JSON bodies: read right, and nobody else waits for them."""

import http.client
import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running_server import Server, infer_body

ROWS = 300_000
BOUND_SECONDS = 0.04
"""Beside 16 MB; read as a whole, a body stops the server for 50 to 100 ms. The machine may be shared."""


@pytest.fixture
def server(start: Callable[..., Server], models: Path) -> Server:
    declared = [{"name": name, "source": str(models / f"{name}.onnx")} for name in ("scale", "slow")]
    return start({"models": declared, "grpc": {"enabled": False}}).until_ready()


def big(rows: int = ROWS, **more: Any) -> bytes:
    data = np.random.default_rng(0).standard_normal(3 * rows).tolist()
    return json.dumps(infer_body(data, [rows, 3], parameters={"binary_data_output": True}, **more)).encode()


def as_rows(raw: bytes) -> bytes:
    """The same request with nested data."""
    document = json.loads(raw)
    (tensor,) = document["inputs"]
    tensor["data"] = np.reshape(tensor["data"], tensor["shape"]).tolist()
    return json.dumps(document).encode()


def infer(server: Server, raw: bytes) -> tuple[int, Any]:
    status, answer, headers = server.request("POST", "/v2/models/scale/infer", raw)
    if status != 200:
        return status, answer["error"]
    head = int(headers.get("inference-header-content-length", 0))
    return status, np.frombuffer(answer[head:], "<f4")


def latencies(server: Server, work: Callable[[], None], times: int) -> list[float]:
    """Seconds of small requests while two threads repeat `work`, at least so many times in all."""
    stop = threading.Event()
    done: list[None] = []

    def repeat() -> None:
        while not stop.is_set():
            work()
            done.append(None)

    threads = [threading.Thread(target=repeat) for _ in range(2)]
    for thread in threads:
        thread.start()
    seconds: list[float] = []
    small = b"POST /v2/models/scale/infer HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"
    body = json.dumps(infer_body([1, 2, 3], [1, 3])).encode()
    with server.connect() as sock:
        began = time.monotonic()
        while time.monotonic() - began < 4 or len(done) < times:
            asked = time.monotonic()
            sock.sendall(small % len(body) + body)
            assert sock.recv(4096).startswith(b"HTTP/1.1 200")
            seconds.append(time.monotonic() - asked)
            time.sleep(0.001)
            assert time.monotonic() - began < 60
    stop.set()
    for thread in threads:
        thread.join()
    return seconds


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
def test_a_fast_model_stays_fast_beside_long_bodies(server: Server, nested: bool) -> None:
    raw = as_rows(big()) if nested else big()
    expected = 2 * np.random.default_rng(0).standard_normal(3 * ROWS).astype(np.float32)
    assert len(raw) > 16_000_000
    outcomes: list[bool] = []

    def send() -> None:
        status, got = infer(server, raw)
        outcomes.append(status == 200 and bool(np.allclose(got, expected, rtol=1e-5)))

    seconds = latencies(server, send, 4)
    assert all(outcomes)
    assert np.quantile(seconds, 0.95) < BOUND_SECONDS, np.quantile(seconds, [0.5, 0.9, 0.95, 0.99, 1])


def test_a_fast_model_stays_fast_beside_long_answers(server: Server) -> None:
    """The request is binary, the answer 900,000 numbers as JSON."""
    values = np.random.default_rng(0).standard_normal((ROWS, 3)).astype(np.float32)
    tensor = {"name": "x", "datatype": "FP32", "shape": [ROWS, 3]}
    sized = {**tensor, "parameters": {"binary_data_size": values.nbytes}}
    head = json.dumps({"inputs": [sized]}).encode()
    body = head + values.tobytes()
    answers: list[bytes] = []

    def send() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        headers = {"Inference-Header-Content-Length": str(len(head))}
        connection.request("POST", "/v2/models/scale/infer", body, headers)
        answers.append(connection.getresponse().read())
        connection.close()

    seconds = latencies(server, send, 4)
    assert len({*answers}) == 1
    assert np.allclose(json.loads(answers[0])["outputs"][0]["data"], 2 * values.ravel(), rtol=1e-6)
    assert np.quantile(seconds, 0.95) < BOUND_SECONDS, np.quantile(seconds, [0.5, 0.9, 0.95, 0.99, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.replace(b"]}]", b",]}]"), "not JSON"),
        (lambda raw: re.sub(rb" [-0-9.e]+\]\}\]", b'"1"]}]', raw), "is the string '1'"),
        (lambda raw: re.sub(rb" [-0-9.e]+\]\}\]", b"null]}]", raw), "is null"),
        (lambda raw: raw.replace(b"]}]", b",1]}]"), "expected 300000"),
        (lambda raw: raw.replace(b'"data": [', b'"data": [,'), "not JSON"),
        (lambda raw: raw[:-1], "not JSON"),
        (lambda raw: raw.replace(b'"inputs"', b'"input"'), "inputs: expected a list"),
        (lambda raw: raw.replace(b"FP32", b"INT64"), "expected 'FP32'"),
        (lambda raw: b"[%b]" % raw, "not a JSON object"),
        (lambda raw: raw.replace(b"]}]", b",1e300]}]").replace(b"[100000", b"[100001"), ""),
    ],
    ids=["comma", "text", "null", "count", "first", "cut", "name", "type", "list", "range"],
)
def test_faults_in_long_bodies_are_named(
    server: Server, change: Callable[[bytes], bytes], message: str
) -> None:
    status, error = infer(server, change(big(100_000)))
    assert status == 400
    assert message in error


def test_other_forms_of_long_bodies_are_read_too(server: Server) -> None:
    expected = 2 * np.random.default_rng(0).standard_normal(300_000).astype(np.float32)
    named = json.loads(big(100_000))
    named["id"] = '"data": ['
    named["parameters"]["data"] = "\0 17:4"
    for raw in (as_rows(big(100_000)), json.dumps(named).encode()):
        status, got = infer(server, raw)
        assert status == 200, got
        np.testing.assert_allclose(got, expected, rtol=1e-5)
