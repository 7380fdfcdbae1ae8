"""The HTTP protocol of our own: its duties towards well-behaved, odd, slow and hostile clients."""

import json
import re
import socket
import threading
import time
from collections.abc import Callable

import pytest
from running_server import Server, infer_body, read_all, wait_until

BODY = json.dumps(infer_body([1, 2, 3], [1, 3])).encode()
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
LINE = b"POST /v2/models/scale/infer HTTP/1.1\r\n"
HOST = b"Host: h\r\n"
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: h\r\n"
CLOSE = b"Connection: close\r\n"


def statuses(raw: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", raw)]


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def cut_after(do: Callable[[], object]) -> float:
    """Seconds until the server ends the connection that `do` writes to."""
    began = time.monotonic()
    while time.monotonic() - began < 20:
        try:
            do()
        except OSError:
            break
    return time.monotonic() - began


@pytest.mark.parametrize(
    "request_",
    [
        LINE + HOST + CLOSE + LENGTH + b"\r\n" + BODY,
        LINE + HOST + CLOSE + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(BODY[:7], BODY[7:]),
        LINE
        + HOST
        + CLOSE
        + b"TRANSFER-ENCODING: Chunked\r\n\r\n"
        + chunked(BODY)[:-2]
        + b"X-Trailer: 1\r\n\r\n",
        LINE.replace(b"1.1", b"1.0") + LENGTH + b"\r\n" + BODY,
        b"\r\n" + LINE + HOST + CLOSE + LENGTH + b"\r\n" + BODY,
        LINE + HOST + CLOSE + b"Content-Type: application/json; charset=utf-8\r\n" + LENGTH + b"\r\n" + BODY,
    ],
    ids=["length", "chunked", "trailers", "http-1.0", "empty-line-first", "content-type"],
)
def test_good_forms_are_answered(shared: Server, request_: bytes) -> None:
    raw = shared.send_raw(request_)
    assert statuses(raw) == [200]
    assert raw.endswith(b'"data":[2.0,4.0,6.0]}]}')


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (LINE + HOST + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(BODY), 400),
        (LINE + HOST + b"Transfer-Encoding: chunked\r\n" + LENGTH + b"\r\n" + chunked(BODY), 400),
        (LINE + HOST + LENGTH + b"Content-Length: 3\r\n\r\n" + BODY, 400),
        (LINE + HOST + LENGTH + LENGTH + b"\r\n" + BODY, 400),
        (LINE + HOST + b"Content-Length: +5\r\n\r\n" + BODY, 400),
        (LINE + HOST + b"Content-Length: 5, 5\r\n\r\n" + BODY, 400),
        (LINE + HOST + b"Content-Length: 0x10\r\n\r\n" + BODY, 400),
        (LINE + HOST + b"Content-Length: -1\r\n\r\n" + BODY, 400),
        (LINE + HOST + b"Content-Length: 99999999999999999999999\r\n\r\n", 400),
        (LINE + HOST + b"Transfer-Encoding: gzip\r\n\r\n", 501),
        (LINE + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (LINE + HOST + b"Transfer-Encoding: xchunked\r\n\r\n", 501),
        (LINE + HOST + b"Transfer-Encoding : chunked\r\n\r\n" + chunked(BODY), 400),
        (LINE + HOST + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n" + chunked(BODY), 400),
        (LINE + HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n" + chunked(BODY), 400),
        (LINE.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(BODY), 400),
        (LINE + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (LINE + HOST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", 400),
        (LINE + HOST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n", 400),
        (LINE + LENGTH + b"\r\n" + BODY, 400),
        (LINE + HOST + HOST + LENGTH + b"\r\n" + BODY, 400),
        (LINE + HOST + b"X: a\r\n folded\r\n" + LENGTH + b"\r\n" + BODY, 400),
        (LINE + HOST + b"X: a\x00b\r\n\r\n", 400),
        (LINE + HOST + b"X: a\rb\r\n\r\n", 400),
        (LINE + HOST + b"No colon here\r\n\r\n", 400),
        (b"GET /v2/health/live HTTP/3.0\r\nHost: h\r\n\r\n", 400),
        (b"GET /v2 /live HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (LIVE + b"X: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (LIVE + b"".join(b"X%d: 1\r\n" % n for n in range(200)) + b"\r\n", 431),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
        (LINE + HOST + b"Content-Length: 1000001\r\n\r\n", 413),
        (LINE + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(*[b"a" * 60_000] * 20), 413),
        (LINE + HOST + b"Expect: magic\r\n" + LENGTH + b"\r\n" + BODY, 417),
    ],
)  # fmt: skip
def test_bad_requests_are_refused_and_the_connection_ends(
    shared: Server, request_: bytes, status: int
) -> None:
    smuggled = LIVE + CLOSE + b"\r\n"
    raw = shared.send_raw(request_ + smuggled)
    assert statuses(raw) == [status], raw
    assert b'{"error":' in raw


def test_pipelined_requests_are_answered_in_order(shared: Server) -> None:
    parts = []
    for n in range(100):
        body = json.dumps(infer_body([n, 0, 0], [1, 3], id=str(n))).encode()
        parts.append(LINE + HOST + b"Content-Length: %d\r\n\r\n" % len(body) + body + LIVE + b"\r\n")
    raw = shared.send_raw(b"".join(parts) + LIVE + CLOSE + b"\r\n")
    assert statuses(raw) == [200] * 201
    answers = [part.split(b"\r\n\r\n")[1] for part in raw.split(b"HTTP/1.1 ")[1:]]
    assert [json.loads(a)["id"] for a in answers[:-1:2]] == [str(n) for n in range(100)]
    assert [json.loads(a)["outputs"][0]["data"][0] for a in answers[:-1:2]] == [2 * n for n in range(100)]


def test_a_slow_answer_holds_back_the_quick_ones_behind_it(shared: Server) -> None:
    slow = json.dumps(infer_body([100], [1], "turns", "INT64")).encode()
    first = LINE.replace(b"scale", b"slow") + HOST + b"Content-Length: %d\r\n\r\n" % len(slow) + slow
    raw = shared.send_raw(first + LIVE + b"\r\n" + LIVE + CLOSE + b"\r\n")
    assert statuses(raw) == [200, 200, 200]
    assert raw.index(b'"model_name":"slow"') < raw.index(b'"live"')


def test_bytes_may_come_one_by_one(shared: Server) -> None:
    with shared.connect() as sock:
        for byte in LINE + HOST + CLOSE + LENGTH + b"\r\n" + BODY:
            sock.send(bytes([byte]))
        assert statuses(read_all(sock)) == [200]


def test_expect_100_continue(shared: Server) -> None:
    with shared.connect() as sock:
        sock.sendall(LINE + HOST + CLOSE + LENGTH + b"Expect: 100-continue\r\n\r\n")
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(BODY)
        assert statuses(read_all(sock)) == [200]


def test_head_has_headers_only(shared: Server) -> None:
    raw = shared.send_raw(LIVE.replace(b"GET", b"HEAD") + CLOSE + b"\r\n")
    assert statuses(raw) == [200]
    assert raw.endswith(b"\r\n\r\n")
    assert b"content-length: 13" in raw


def test_an_upgrade_is_declined_by_an_answer(shared: Server) -> None:
    offer = (
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
    )
    raw = shared.send_raw(
        (LIVE + offer + b"\r\n")
        + (LINE + HOST + offer + LENGTH + b"\r\n" + BODY)
        + (LINE + HOST + offer + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(BODY))
        + (LIVE + CLOSE + b"\r\n")
    )
    assert statuses(raw) == [200, 200, 200, 200]
    assert raw.count(b'"data":[2.0,4.0,6.0]') == 2
    assert statuses(shared.send_raw(b"CONNECT a:80 HTTP/1.1\r\nHost: h\r\n\r\n")) == [405]


@pytest.mark.parametrize(
    "part",
    [b"", b"POST", LINE + HOST, LINE + HOST + LENGTH + b"\r\n" + BODY[:5]],
    ids=["nothing", "method", "headers", "body"],
)
def test_a_stalled_client_is_let_go(shared: Server, part: bytes) -> None:
    with shared.connect() as sock:
        sock.sendall(part)
        began = time.monotonic()
        raw = read_all(sock)
        assert time.monotonic() - began < 5
    assert statuses(raw) == ([408] if part else [])


def test_a_dripping_client_is_let_go(shared: Server) -> None:
    with shared.connect() as sock:
        sock.sendall(LINE + HOST)
        assert cut_after(lambda: (sock.sendall(b"X: y\r\n"), time.sleep(0.05))) < 5


def test_a_client_that_does_not_read_is_not_read_from(start: Callable[..., Server]) -> None:
    server = start({"http": {"write_timeout_seconds": 0.5}}).until_ready()
    sent: list[int] = []
    with server.connect() as sock:
        ask = LIVE.replace(b"/v2/health/live", b"/metrics") + b"\r\n"
        assert cut_after(lambda: sent.append(sock.send(ask))) < 15
    assert sum(sent) < 50_000_000
    assert server.get("/v2/health/live")[0] == 200


def test_connections_are_limited(start: Callable[..., Server]) -> None:
    server = start({"http": {"max_connections": 3}}).until_ready()
    wait_until(lambda: server.metric("model_server_http_connections") == 1)
    held = [server.connect() for _ in range(3)]
    for sock in held:
        sock.sendall(LIVE + b"\r\n")
        assert sock.recv(1000).startswith(b"HTTP/1.1 200")
    with server.connect() as extra:
        assert read_all(extra) == b""
    for sock in held:
        sock.close()
    assert wait_until(lambda: server.get("/v2/health/live")[0] == 200)


def test_clients_gone_in_the_middle_of_a_batch_hurt_nobody(shared: Server) -> None:
    wrong: list[object] = []

    def ask(n: int) -> None:
        for k in range(30):
            value = n * 100 + k
            answer = shared.post("/v2/models/scale/infer", infer_body([value, 0, 0], [1, 3]))[1]
            if answer["outputs"][0]["data"][0] != 2 * value:
                wrong.append(answer)

    def leave() -> None:
        for _ in range(150):
            sock = shared.connect()
            sock.sendall(LINE + HOST + LENGTH + b"\r\n" + BODY)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            sock.close()

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(6)]
    threads += [threading.Thread(target=leave) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert wrong == []
    wait_until(lambda: shared.metric("model_server_http_connections") <= 1)


def test_request_id_comes_back(shared: Server) -> None:
    assert shared.request("GET", "/v2", headers={"X-Request-Id": "r-1"})[2]["x-request-id"] == "r-1"
