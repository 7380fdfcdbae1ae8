"""When calls run: deadlines, full queues, clients that leave, slow neighbours, exact batches."""

import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from running_server import Server, infer_body, wait_until


def slow_body(turns: int) -> dict:
    return infer_body([turns], [1], "turns", "INT64")


def send_and_stay(server: Server, model: str, body: dict) -> socket.socket:
    """Send a request without waiting for its answer."""
    raw = json.dumps(body).encode()
    sock = server.connect()
    sock.sendall(b"POST /v2/models/%s/infer HTTP/1.1\r\nHost: h\r\n" % model.encode())
    sock.sendall(b"Content-Length: %d\r\n\r\n" % len(raw) + raw)
    return sock


def runs(server: Server, model: str) -> float:
    return server.metric("model_server_batch_rows_count", model=model)


def test_everybody_gets_their_own_answer(shared: Server) -> None:
    def ask(n: int) -> None:
        rng = np.random.default_rng(n)
        for _ in range(40):
            rows = int(rng.integers(1, 6))
            x = rng.standard_normal((rows, 3)).astype(np.float32)
            answer = shared.post("/v2/models/scale/infer", infer_body(x.tolist(), [rows, 3]))[1]
            np.testing.assert_allclose(np.reshape(answer["outputs"][0]["data"], (rows, 3)), 2 * x, rtol=1e-6)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(ask, range(12)))


def test_calls_that_arrive_together_run_together(shared: Server) -> None:
    before, rows = runs(shared, "scale"), shared.metric("model_server_batch_rows_sum", model="scale")
    request = json.dumps(infer_body([1, 2, 3], [1, 3])).encode()
    line = b"POST /v2/models/scale/infer HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(request)
    last = b"GET /v2/health/live HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    assert shared.send_raw((line + request) * 20 + last).count(b"[2.0,4.0,6.0]") == 20
    assert shared.metric("model_server_batch_rows_sum", model="scale") - rows == 20
    assert runs(shared, "scale") - before <= 5


def test_a_model_whose_rows_depend_on_each_other_is_not_batched(shared: Server) -> None:
    with ThreadPoolExecutor(8) as pool:
        bodies = [infer_body([n, n], [1, 2]) for n in range(200)]
        answers = list(pool.map(lambda body: shared.post("/v2/models/centred/infer", body)[1], bodies))
    assert all(answer["outputs"][0]["data"] == [0, 0] for answer in answers)


def test_one_bad_row_does_not_fail_its_batch(shared: Server) -> None:
    requests = b""
    for index in (1, 99, 2):
        raw = json.dumps(infer_body([index], [1], "index", "INT64")).encode()
        requests += (
            b"POST /v2/models/lookup/infer HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(raw) + raw
        )
    raw = shared.send_raw(requests + b"GET /v2 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert raw.count(b"HTTP/1.1 200") == 3
    assert raw.count(b"HTTP/1.1 500") == 1
    assert b"[10.0]" in raw
    assert b"[20.0]" in raw


def test_a_deadline_is_kept_while_the_model_is_busy(shared: Server) -> None:
    busy = send_and_stay(shared, "slow", slow_body(4000))
    began = time.monotonic()
    status, answer, _ = shared.post("/v2/models/slow/infer", slow_body(1), X_Request_Timeout="0.2")
    assert status == 504, answer
    assert 0.15 < time.monotonic() - began < 1.0
    assert busy.recv(1000).startswith(b"HTTP/1.1 200")
    busy.close()


def test_a_deadline_is_kept_in_the_middle_of_a_run(shared: Server) -> None:
    began = time.monotonic()
    status, _, _ = shared.post("/v2/models/slow/infer", slow_body(4000), X_Request_Timeout="0.2")
    assert status == 504
    assert time.monotonic() - began < 1.0
    assert shared.post("/v2/models/slow/infer", slow_body(1))[0] == 200


def test_bad_deadlines_are_refused(shared: Server) -> None:
    for bad in ("soon", "-1", "nan", "inf"):
        status, answer, _ = shared.post(
            "/v2/models/scale/infer", infer_body([1, 2, 3], [1, 3]), X_Request_Timeout=bad
        )
        assert status == 400, bad
        assert "X-Request-Timeout" in answer["error"]


def test_work_of_clients_that_left_is_not_run(shared: Server) -> None:
    before = runs(shared, "slow")
    busy = send_and_stay(shared, "slow", slow_body(2000))
    wait_until(lambda: shared.get("/v2/health/live")[0] == 200)
    gone = [send_and_stay(shared, "slow", slow_body(2000)) for _ in range(10)]
    open_now = shared.metric("model_server_http_connections")
    for sock in gone:
        sock.close()
    wait_until(lambda: shared.metric("model_server_http_connections") <= open_now - 10)
    assert busy.recv(1000).startswith(b"HTTP/1.1 200")
    busy.close()
    assert shared.post("/v2/models/slow/infer", slow_body(1))[0] == 200
    assert runs(shared, "slow") - before == 2


def test_a_full_queue_says_when_to_come_back(start: Callable[..., Server], models: Path) -> None:
    server = start(
        {"models": [{"name": "slow", "source": str(models / "slow.onnx"), "queue_size": 2}]}
    ).until_ready()
    held = [send_and_stay(server, "slow", slow_body(1000)) for _ in range(3)]
    status, answer, headers = wait_until(
        lambda: (
            (got := server.post("/v2/models/slow/infer", slow_body(1), X_Request_Timeout="0.05"))[0] == 429
            and got
        )
    )
    assert status == 429
    assert int(headers["retry-after"]) >= 1
    assert "2 requests wait" in answer["error"]
    assert server.metric("model_server_rejected_total", model="slow") >= 1
    for sock in held:
        assert sock.recv(1000).startswith(b"HTTP/1.1 200")
        sock.close()


def test_higher_priority_runs_first(shared: Server) -> None:
    busy = send_and_stay(shared, "slow", slow_body(1000))
    wait_until(lambda: shared.get("/v2/health/live")[0] == 200)
    order: list[str] = []

    def ask(name: str, priority: int) -> None:
        body = {**slow_body(100), "parameters": {"priority": priority}}
        assert shared.post("/v2/models/slow/infer", body)[0] == 200
        order.append(name)

    threads = []
    for name, priority in (("default", 0), ("second", 2), ("first", 1)):
        threads.append(threading.Thread(target=ask, args=(name, priority)))
        threads[-1].start()
        wait_until(lambda: shared.get("/v2/health/live")[0] == 200)
    for thread in threads:
        thread.join(timeout=30)
    busy.close()
    assert order == ["first", "second", "default"]


def test_a_slow_model_does_not_block_a_fast_one(shared: Server) -> None:
    busy = send_and_stay(shared, "slow", slow_body(4000))
    began = time.monotonic()
    for _ in range(50):
        assert shared.post("/v2/models/scale/infer", infer_body([1, 2, 3], [1, 3]))[0] == 200
    quick = time.monotonic() - began
    assert busy.recv(1000).startswith(b"HTTP/1.1 200")
    assert quick < time.monotonic() - began
    busy.close()


def test_a_window_gathers_company(start: Callable[..., Server], models: Path) -> None:
    model = {
        "name": "scale",
        "source": str(models / "scale.onnx"),
        "batching": {"mode": "on", "window_ms": 200},
    }
    server = start({"models": [model]}).until_ready()
    body = infer_body([1, 2, 3], [1, 3])
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: server.post("/v2/models/scale/infer", body), range(8)))
    assert runs(server, "scale") <= 3
