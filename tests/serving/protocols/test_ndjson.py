"""Long batches as NDJSON, over raw sockets: order, errors, back-pressure, clients that leave."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from iris import CLASSES, ROWS, probabilities, record
from running_server import Server, read_all, wait_until

HEAD = (
    b"POST /predict/%s HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-ndjson\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def unchunked(sock: socket.socket) -> Iterator[bytes]:
    """The lines of a chunked answer as they come, after its head."""
    with sock.makefile("rb") as file:
        assert b" 200 " in file.readline()
        while file.readline() != b"\r\n":
            pass
        rest = b""
        while size := int(file.readline(), 16):
            *lines, rest = (rest + file.read(size)).split(b"\n")
            assert file.read(2) == b"\r\n"
            yield from lines
        assert file.readline() == b"\r\n"
        assert not rest


def stream(server: Server, path: str, body: bytes, **headers: str) -> list[dict[str, Any]]:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    status, answer, got = server.request(
        "POST", path, body, {"Content-Type": "application/x-ndjson", **headers}
    )
    assert (status, got["content-type"]) == (200, "application/x-ndjson"), answer
    return [json.loads(line) for line in answer.splitlines()]


def lines(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def test_every_row_is_answered_in_order(server: Server) -> None:
    rows = ROWS * 500
    answers = stream(server, "/predict/iris", lines([record(row) for row in rows]))
    labels = [CLASSES[at] for at in probabilities(rows).argmax(axis=1)]
    assert [answer["row"] for answer in answers] == list(range(1500))
    assert [answer["prediction"]["label"] for answer in answers] == labels


def test_a_bad_row_does_not_end_the_others(server: Server) -> None:
    good = json.dumps(record(ROWS[0])).encode()
    bad = [b"{", b"5", b"{}", json.dumps({**record(ROWS[0]), "petal width": "x"}).encode()]
    body = b"\n".join([good, bad[0], good, b"", bad[1], bad[2], b"  ", bad[3], good])
    for text in (body, body + b"\n", body.replace(b"\n", b"\r\n")):
        answers = stream(server, "/predict/iris", text)
        assert [answer["row"] for answer in answers] == [0, 1, 2, 4, 5, 7, 8]
        assert ["error" in answer for answer in answers] == [False, True, False, True, True, True, False]
        said = [answer.get("error", "") for answer in answers]
        assert said[1].startswith("not JSON")
        assert said[3] == "got 5, expected an object of features"
        assert said[4].startswith("missing 'sepal length'")
        assert said[5] == "feature 'petal width': got the string 'x', expected a number"


def test_a_row_that_the_model_fails_on_is_alone(server: Server) -> None:
    body = lines([{"index": at} for at in (1, 2, 99, 3)])
    answers = stream(server, "/predict/lookup", body)
    assert [answer.get("prediction") for answer in answers] == [{"y": 10}, {"y": 20}, None, {"y": 30}]
    assert "the model failed" in answers[2]["error"]


def test_rows_that_would_disturb_each_other_are_kept_apart(server: Server) -> None:
    """y is x less the mean of its batch: a row alone is zero."""
    answers = stream(server, "/predict/centred", lines([{"x[0]": n, "x[1]": n} for n in range(100)]))
    assert [answer["prediction"]["y"] for answer in answers] == [[0, 0]] * 100


def test_no_rows(server: Server) -> None:
    assert stream(server, "/predict/iris", b"") == stream(server, "/predict/iris", b"\n\n") == []


def test_rows_are_answered_while_the_body_is_sent(server: Server) -> None:
    with server.connect() as sock:
        sock.sendall(HEAD % b"iris")
        answers = unchunked(sock)
        for number in range(20):
            line = json.dumps(record(ROWS[number % 3])).encode() + b"\n"
            for part in (line[:9], line[9:]):
                sock.sendall(chunk(part))
            assert json.loads(next(answers))["row"] == number
        sock.sendall(b"0\r\n\r\n")
        assert list(answers) == []
        sock.sendall(LIVE)
        assert b'{"live":true}' in read_all(sock)


def test_behind_another_answer_and_before_one(server: Server) -> None:
    body = lines([record(ROWS[0])] * 3)
    keep = LIVE.replace(b"Connection: close\r\n", b"")
    raw = server.send_raw(keep + HEAD % b"iris" + chunk(body) + b"0\r\n\r\n" + keep + LIVE)
    assert raw.count(b"HTTP/1.1 200") == 4
    assert raw.index(b'"live"') < raw.index(b'"row":0') < raw.index(b'"row":2') < raw.rindex(b'"live"')


def test_http_1_0_gets_no_chunks(server: Server) -> None:
    body = lines([record(ROWS[0])] * 2)
    head = b"POST /predict/iris HTTP/1.0\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n"
    answer = server.send_raw(head % len(body) + body).partition(b"\r\n\r\n")
    assert b"chunked" not in answer[0]
    assert [json.loads(line)["row"] for line in answer[2].splitlines()] == [0, 1]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/predict/none", 404),
        ("/predict/constant", 400),
        ("/v2/models/iris/infer", 415),
        ("/invocations", 415),
    ],
)
def test_refusals_do_not_wait_for_the_body(server: Server, path: str, status: int) -> None:
    head = HEAD.replace(b"/predict/%s", path.encode())
    raw = server.send_raw(head + chunk(b"{}\n"))
    assert raw.startswith(b"HTTP/1.1 %d " % status)
    assert b'{"error":' in raw
    assert b"connection: close" in raw


def test_a_body_that_breaks_off_is_told(server: Server) -> None:
    with server.connect() as sock:
        sock.sendall(HEAD % b"iris" + chunk(lines([record(ROWS[0])] * 2)) + b"zz\r\n")
        answers = [json.loads(line) for line in unchunked(sock)]
        assert [answer.get("row") for answer in answers] == [0, 1, None]
        assert "not HTTP/1.1" in answers[-1]["error"]
        assert sock.recv(1) == b""


def test_a_client_that_stops_sending_is_cut_off(server: Server) -> None:
    with server.connect() as sock:
        sock.sendall(HEAD % b"iris" + chunk(lines([record(ROWS[0])])))
        began = time.monotonic()
        answers = [json.loads(line) for line in unchunked(sock)]
        assert 1.5 < time.monotonic() - began < 6
        assert answers[-1] == {"error": "the request took too long to arrive"}


def test_a_line_over_the_limit(server: Server) -> None:
    with server.connect() as sock:
        sock.sendall(HEAD % b"iris")
        answers = unchunked(sock)

        def send() -> None:
            try:
                for _ in range(40):
                    sock.sendall(chunk(b" " * 50_000))
            except OSError:
                pass

        sender = threading.Thread(target=send)
        sender.start()
        assert "row 0: the line is over 1000000 bytes" in json.loads(next(answers))["error"]
        sender.join()


def test_memory_is_bounded_and_nobody_waits(server: Server) -> None:
    """40 MB in and more out, with other requests answered meanwhile."""
    portion = lines([record(ROWS[0])] * 1000)
    count = 40_000_000 // len(portion)
    before = resident_mib(server.process.pid)
    most = before
    with server.connect() as sock:
        sock.sendall(HEAD % b"iris")

        def send() -> None:
            for _ in range(count):
                sock.sendall(chunk(portion))
            sock.sendall(b"0\r\n\r\n")

        sender = threading.Thread(target=send)
        sender.start()
        slowest = 0.0
        rows = 0
        for rows, _ in enumerate(unchunked(sock), 1):
            if rows % 20_000 == 0:
                most = max(most, resident_mib(server.process.pid))
                began = time.monotonic()
                assert server.get("/v2/health/live")[0] == 200
                slowest = max(slowest, time.monotonic() - began)
        sender.join()
    assert rows == count * 1000
    assert most - before < 25
    assert slowest < 1.0


def test_a_client_that_does_not_read_is_not_read_from(
    start: Callable[..., Server], declared: list[dict]
) -> None:
    iris = [model for model in declared if model["name"] == "iris"]
    server = start({"models": iris, "http": {"write_timeout_seconds": 1.5}}).until_ready()
    portion = chunk(lines([record(ROWS[0])] * 1000))
    before = resident_mib(server.process.pid)
    with server.connect() as sock:
        sock.sendall(HEAD % b"iris")
        sock.settimeout(0.5)
        sent = 0
        with pytest.raises(OSError):  # noqa: PT011, PT012 - a time-out: nobody takes more
            while sent < 200_000_000:
                sent += sock.send(portion)
        assert sent < 60_000_000
        assert resident_mib(server.process.pid) - before < 25
        # The write time-out ends it.
        wait_until(lambda: server.metric("model_server_http_connections") == 1)


def test_work_stops_when_the_client_leaves(server: Server) -> None:
    def runs() -> float:
        return server.metric("model_server_phase_seconds_count", model="slow", phase="inference")

    begun = runs()
    with closing(server.connect()) as sock:
        sock.sendall(HEAD % b"slow" + chunk(lines([{"turns": 100}] * 200)))
        wait_until(lambda: runs() > begun)
    time.sleep(0.5)
    left = runs()
    time.sleep(1.0)
    assert runs() == left < begun + 200


def test_a_reload_in_mid_stream_loses_nothing(start: Callable[..., Server], declared: list[dict]) -> None:
    server = start({"models": [model for model in declared if model["name"] == "iris"]}).until_ready()
    with server.connect() as sock:
        sock.sendall(HEAD % b"iris")
        answers = unchunked(sock)
        for number in range(30):
            sock.sendall(chunk(lines([record(ROWS[0])])))
            if number % 10 == 5:
                assert server.post("/v2/repository/models/iris/load")[0] == 200
            assert "prediction" in json.loads(next(answers))
        sock.sendall(b"0\r\n\r\n")
        assert list(answers) == []
