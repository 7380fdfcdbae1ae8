"""Whatever bytes come: no 5xx, no hang, no growth, and the server goes on."""

import contextlib
import json
import random
from pathlib import Path

from running_server import Server, infer_body

BODY = json.dumps(infer_body([1, 2, 3], [1, 3])).encode()
BINARY_HEAD = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": 12}}]}
).encode()
LINE = b"POST /v2/models/scale/infer HTTP/1.1\r\nHost: h\r\n"
SEEDS = [
    LINE + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY,
    LINE + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n",
    LINE
    + b"Inference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n"
    % (len(BINARY_HEAD), len(BINARY_HEAD) + 12)
    + BINARY_HEAD
    + bytes(12),
]
TOKENS = [
    b"\r\n",
    b"\r",
    b"\n",
    b"\x00",
    b":",
    b" ",
    b"-1",
    b"9" * 20,
    b"Content-Length: 5\r\n",
    b"[",
    b"]",
    b'"',
    b"\xff",
]


def mutate(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out))
        kind = rng.randrange(4)
        if kind == 0:
            out[at] = rng.randrange(256)
        elif kind == 1:
            del out[at : at + rng.randint(1, 8)]
        elif kind == 2:
            out[at:at] = rng.choice(TOKENS)
        else:
            out[at:at] = out[at : at + rng.randint(1, 40)]
        if not out:
            out = bytearray(b"x")
    return bytes(out)


def resident_kb(server: Server) -> int:
    return int(Path(f"/proc/{server.process.pid}/status").read_text().split("VmRSS:")[1].split()[0])


def exchange(server: Server, data: bytes) -> bytes:
    """What comes back until the server closes, or waits for more."""
    answer = b""
    with server.connect() as sock, contextlib.suppress(OSError):
        sock.settimeout(0.03)
        sock.sendall(data)
        while part := sock.recv(65536):
            answer += part
    return answer


def test_mutated_requests(shared: Server) -> None:
    rng = random.Random(20261122)
    before = 0
    answered = 0
    for n in range(2000):
        answer = exchange(shared, mutate(rng.choice(SEEDS), rng))
        assert b"HTTP/1.1 500" not in answer, answer
        answered += answer.startswith(b"HTTP/1.1 ")
        if n == 500:
            before = resident_kb(shared)
    assert answered > 1000
    assert resident_kb(shared) - before < 5000
    assert not [entry for entry in shared.logs if "unexpected" in entry["message"]]
    assert shared.post("/v2/models/scale/infer", infer_body([1, 2, 3], [1, 3]))[0] == 200


def test_mutated_bodies(shared: Server) -> None:
    rng = random.Random(7)
    for _ in range(3000):
        head = mutate(BINARY_HEAD, rng)
        body = head + bytes(12) if rng.random() < 0.5 else mutate(BODY, rng)
        headers = {"Inference-Header-Content-Length": str(len(head))} if rng.random() < 0.5 else {}
        status, answer, _ = shared.request("POST", "/v2/models/scale/infer", body, headers)
        assert status in (200, 400), answer
