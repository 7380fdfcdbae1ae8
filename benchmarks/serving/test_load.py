"""The judge is judged first: the generator must see every kind of wrong answer and keep its schedule."""

import json
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.serving import load

COUNT = 32
Answer = Callable[[int], bytes]


def corpus(path: Path) -> Path:
    key = b'"out":'
    parts = [struct.pack("<III", COUNT, 0, len(key)), key]
    for i in range(COUNT):
        request = f"POST /{i} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()
        parts += [struct.pack("<II", len(request), 2), struct.pack("<ff", i, -i / 8), request]
    path.write_bytes(b"".join(parts))
    return path


def plain(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def chunked(body: bytes) -> bytes:
    pieces = [body[:3], body[3:], b""]
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(
        b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces
    )


def right(i: int) -> bytes:
    return json.dumps({"out": [[i, -i / 8]]}).encode()


@contextmanager
def server(answer: Answer, delay: float = 0) -> Iterator[int]:
    """An HTTP server in threads that answers request i with whatever `answer(i)` says."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while head := self.rfile.readline():
                while self.rfile.readline() != b"\r\n":
                    pass
                time.sleep(delay)
                self.wfile.write(answer(int(head.split()[1][1:])))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield listening.server_address[1]
        finally:
            listening.shutdown()
            thread.join()


def run(tmp_path: Path, answer: Answer, **options: float) -> load.Report:
    delay = options.pop("delay", 0)
    with server(answer, delay) as port:
        return load.start(0, port, corpus(tmp_path / "corpus"), 8, 0.5, **options).report()  # type: ignore[arg-type]


@pytest.mark.parametrize("wire", [plain, chunked])
def test_right_answers_count(tmp_path: Path, wire: Callable[[bytes], bytes]) -> None:
    report = run(tmp_path, lambda i: wire(right(i)), limit=64)
    assert report.clean
    assert report.right == 64


@pytest.mark.parametrize(
    "answer",
    [
        lambda i: right((i + 1) % COUNT),
        lambda i: json.dumps({"out": [[i * 1.002 + 0.01, -i / 8]]}).encode(),
        lambda i: json.dumps({"out": [[i, -i / 8, 0]]}).encode(),
        lambda i: json.dumps({"out": [[i]]}).encode(),
        lambda i: json.dumps({"out": [[i, None]]}).encode(),
        lambda _: b"{}",
    ],
    ids=["somebody else's", "inexact", "too many", "too few", "null", "empty"],
)
def test_wrong_answers_count_as_wrong(tmp_path: Path, answer: Answer) -> None:
    report = run(tmp_path, lambda i: plain(answer(i)), limit=64)
    assert (report.right, report.wrong) == (0, 64)


def test_refusals_count_as_failed(tmp_path: Path) -> None:
    report = run(tmp_path, lambda _: b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", limit=64)
    assert (report.right, report.failed) == (0, 64)
    assert "503" in report.sample


def test_open_loop_counts_from_when_a_request_was_due(tmp_path: Path) -> None:
    """Eight connections of 20 ms carry 400/s. At 800/s the wait in line must show in the latency."""
    report = run(tmp_path, lambda i: plain(right(i)), rate=800, delay=0.02)
    assert report.clean
    assert report.p99_us > 200_000


def test_open_loop_keeps_its_rate(tmp_path: Path) -> None:
    report = run(tmp_path, lambda i: plain(right(i)), rate=200)
    assert 60 < report.right < 140
