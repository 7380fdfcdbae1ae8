"""Seeded mutations of valid binary-extension requests: no 5xx, no hang, no growth; right answers afterwards.

MODEL_SERVER_FUZZ_BINARY is their number (20,000 in CI).
"""

import json
import os
import random
import socket
import struct
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx_models import ELEMENT_TYPES
from running_server import Server
from test_ndjson import resident_mib

REQUESTS = int(os.environ.get("MODEL_SERVER_FUZZ_BINARY", "5000"))
DTYPES = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
NUMBERS = [
    0,
    1,
    -1,
    2,
    3,
    4,
    24,
    2**31 - 1,
    2**31,
    2**32,
    2**63 - 1,
    2**63,
    2**64,
    10**30,
    1.5,
    True,
    None,
    "4",
    [],
    {},
]
TEXTS = [
    "",
    "x",
    "y",
    "FP32",
    "FP64",
    "BYTES",
    "BF16",
    "fp32",
    "in_BYTES",
    "\x00",
    "x" * 5000,
    5,
    None,
    [],
    {},
]


def echo_request(rng: random.Random, rows: int) -> tuple[dict[str, Any], bytes]:
    """Valid: every datatype, some as JSON, the rest as binary data."""
    inputs, blobs = [], []
    for name in ELEMENT_TYPES:
        if name == "BYTES":
            blob = b"".join(struct.pack("<I", n) + b"z" * n for n in rng.choices(range(5), k=rows * 2))
        else:
            blob = np.zeros((rows, 2), DTYPES[name]).tobytes()
        tensor: dict[str, Any] = {"name": f"in_{name}", "datatype": name, "shape": [rows, 2]}
        inputs.append({**tensor, "parameters": {"binary_data_size": len(blob)}})
        blobs.append(blob)
    document = {"id": "a", "inputs": inputs, "parameters": {"binary_data_output": rng.random() < 0.5}}
    return document, b"".join(blobs)


def scale_request(rng: random.Random, rows: int) -> tuple[dict[str, Any], bytes]:
    blob = np.ones((rows, 3), np.float32).tobytes()
    tensor = {
        "name": "x",
        "datatype": "FP32",
        "shape": [rows, 3],
        "parameters": {"binary_data_size": len(blob)},
    }
    outputs = [{"name": "y", "parameters": {"binary_data": True}}]
    return {"inputs": [tensor], "outputs": outputs}, blob


def mutate_document(document: Any, rng: random.Random) -> None:
    """Change one thing somewhere in the JSON."""
    place = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.8:
            place = place[key]
            continue
        what = rng.random()
        if what < 0.15:
            del place[key]
        elif what < 0.3 and isinstance(place, list):
            place.append(place[key])
        else:
            place[key] = rng.choice(NUMBERS if isinstance(place[key], int | float | list) else TEXTS)
        return


def mutate_bytes(raw: bytes, rng: random.Random) -> bytes:
    """Flip, cut, repeat or insert bytes."""
    data = bytearray(raw)
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        at = rng.randrange(len(data) + 1)
        what = rng.randrange(5)
        if what == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif what == 1:
            del data[at : at + rng.choice([1, 4, 64])]
        elif what == 2:
            data[at:at] = rng.randbytes(rng.choice([1, 4, 64]))
        elif what == 3:
            data[at:at] = data[max(0, at - 16) : at]
        else:
            data[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\xff\xff\xff\x7f"])
    return bytes(data)


def requests(seed: int, count: int) -> Any:
    """Path, header and body of each mutated request."""
    rng = random.Random(seed)
    for _ in range(count):
        model, make = rng.choice([("scale", scale_request), ("echo", echo_request)])
        document, blob = make(rng, rng.choice([0, 1, 2, 7]))
        how = rng.random()
        if how < 0.5:
            for _ in range(rng.choice([1, 1, 2])):
                mutate_document(document, rng)
        head = json.dumps(document).encode()
        if 0.5 <= how < 0.65:
            head = mutate_bytes(head, rng)
        if how >= 0.6:
            blob = mutate_bytes(blob, rng)
        length: object = len(head)
        if rng.random() < 0.15:
            length = rng.choice(
                [0, -1, len(head) - 1, len(head) + 1, len(head) + len(blob), 10**20, "", "x", "1e2"]
            )
        yield model, f"Inference-Header-Content-Length: {length}\r\n".encode(), head + blob


def exchange(sock: socket.socket, model: str, header: bytes, body: bytes) -> int:
    head = b"POST /v2/models/%s/infer HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n" % (
        model.encode(),
        len(body),
    )
    sock.sendall(head + header + b"\r\n" + body)
    answer = b""
    while b"\r\n\r\n" not in answer:
        part = sock.recv(65536)
        assert part, f"the connection was closed: {body[:300]!r}"
        answer += part
    fields, _, rest = answer.partition(b"\r\n\r\n")
    size = int(fields.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(rest) < size:
        rest += sock.recv(65536)
    status = int(fields[9:12])
    if status != 200:
        assert list(json.loads(rest)) == ["error"]
    assert status < 500, (status, rest[:300], body[:2000])
    return status


@pytest.mark.timeout(600)
def test_mutated_binary_requests(start: Callable[..., Server], declared: list[dict]) -> None:
    server = start({"models": [m for m in declared if m["name"] in ("scale", "echo")]}).until_ready()
    statuses: Counter[int] = Counter()
    memory: list[float] = []
    with server.connect() as sock:
        for number, (model, header, body) in enumerate(requests(5, REQUESTS)):
            statuses[exchange(sock, model, header, body)] += 1
            if number % (REQUESTS // 10) == 0:
                memory.append(resident_mib(server.process.pid))
        memory.append(resident_mib(server.process.pid))
        document, blob = scale_request(random.Random(1), 2)
        head = json.dumps(document).encode()
        fields = b"Inference-Header-Content-Length: %d\r\n" % len(head)
        assert exchange(sock, "scale", fields, head + blob) == 200
    print(f"\n{dict(statuses)}; memory in MiB: {[round(m, 1) for m in memory]}")
    assert statuses[200] > REQUESTS * 0.03
    assert statuses[400] > REQUESTS * 0.5
    # From a fifth of the way on nothing may pile up.
    assert memory[-1] - memory[2] < 5
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}
    assert server.post("/v2/models/scale/infer", body)[1]["outputs"][0]["data"] == [2, 4, 6]
