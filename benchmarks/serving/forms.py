"""How a request looks on the wire. A form turns a row into all the bytes that the load generator sends."""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.serving.models import INPUT, Array, Model

JSON_NUMBERS, RAW_FLOATS, GRPC_FLOATS = 0, 1, 2


@dataclass(frozen=True)
class Form:
    request: Callable[[Model, Array], bytes]
    """The whole request for one row."""
    answer: int = JSON_NUMBERS
    """How the numbers of the answer are found."""
    key: str = ""
    """JSON only: the numbers are the array that follows this text."""


def post(path: str, body: bytes, **headers: str) -> bytes:
    fields = {"Host": "127.0.0.1", "Content-Type": "application/json", "Content-Length": str(len(body))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def numbers(row: Array) -> object:
    """Nested lists of short decimals: inputs are rounded to four places, so float32 comes back as it was."""
    return row.astype(np.float64).round(4).tolist()


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def json_rows(path: str, field: str, key: str) -> Form:
    """`{"<field>": [[…]]}`, the form of servers that let the user choose."""

    def request(model: Model, row: Array) -> bytes:
        return post(path.format(model=model.name), compact({field: [numbers(row)]}))

    return Form(request, JSON_NUMBERS, key)


def json_row(path: str, field: str, key: str) -> Form:
    """`{"<field>": […]}`: one row a request, for servers that stack requests themselves."""

    def request(model: Model, row: Array) -> bytes:
        return post(path.format(model=model.name), compact({field: numbers(row)}))

    return Form(request, JSON_NUMBERS, key)


def raw(path: str) -> Form:
    """The floats and nothing else."""

    def request(model: Model, row: Array) -> bytes:
        body = row.astype("<f4").tobytes()
        return post(path.format(model=model.name), body, Content_Type="application/octet-stream")

    return Form(request, RAW_FLOATS)


def _tensor(model: Model) -> dict[str, object]:
    return {"name": INPUT, "shape": [1, *model.shape], "datatype": "FP32"}


def oip_json() -> Form:
    """Open Inference Protocol over REST with flat data."""

    def request(model: Model, row: Array) -> bytes:
        body = compact({"inputs": [{**_tensor(model), "data": numbers(row.ravel())}]})
        return post(f"/v2/models/{model.name}/infer", body)

    return Form(request, JSON_NUMBERS, '"data":')


def oip_binary() -> Form:
    """Open Inference Protocol over REST with its binary tensor extension, both ways."""

    def request(model: Model, row: Array) -> bytes:
        data = row.astype("<f4").tobytes()
        tensor = {**_tensor(model), "parameters": {"binary_data_size": len(data)}}
        head = compact({"inputs": [tensor], "parameters": {"binary_data_output": True}})
        path, size = f"/v2/models/{model.name}/infer", str(len(head))
        kind = "application/octet-stream"
        return post(path, head + data, Content_Type=kind, Inference_Header_Content_Length=size)

    return Form(request, RAW_FLOATS)


def oip_grpc() -> Form:
    """Open Inference Protocol over gRPC with raw contents, as tritonclient sends it."""

    def request(model: Model, row: Array) -> bytes:
        shape = b"".join(_varint(n) for n in (1, *model.shape))
        tensor = _field(1, INPUT.encode()) + _field(2, b"FP32") + _field(3, shape)
        message = _field(1, model.name.encode()) + _field(5, tensor) + _field(7, row.astype("<f4").tobytes())
        return _frame(1, 4, _GRPC_HEADERS) + _frame(0, 1, struct.pack(">BI", 0, len(message)) + message)

    return Form(request, GRPC_FLOATS)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _frame(kind: int, flags: int, payload: bytes) -> bytes:
    """An HTTP/2 frame of stream 0: the load generator writes the stream's number over it."""
    if len(payload) > 16384:
        raise ValueError("a gRPC message of this benchmark fits one HTTP/2 frame of 16 KiB")
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + bytes(4) + payload


def _header(name: bytes, value: bytes) -> bytes:
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


_GRPC_HEADERS = (
    b"\x83\x86"  # :method POST, :scheme http
    + _header(b":path", b"/inference.GRPCInferenceService/ModelInfer")
    + _header(b":authority", b"127.0.0.1")
    + _header(b"te", b"trailers")
    + _header(b"content-type", b"application/grpc")
    + _header(b"user-agent", b"serving-estate-bench")
)


def corpus(form: Form, model: Model, rows: Array, answers: Array) -> bytes:
    """The file that the load generator reads: requests, and the numbers that must come back."""
    key = form.key.encode()
    parts = [struct.pack("<III", len(rows), form.answer, len(key)), key]
    for row, answer in zip(rows, answers, strict=True):
        request, wanted = form.request(model, row), answer.astype("<f4").ravel()
        parts += [struct.pack("<II", len(request), wanted.size), wanted.tobytes(), request]
    return b"".join(parts)
