"""Mutated messages and frames on the gRPC port: no unexpected error, no hang, no growth of memory."""

import random
from collections.abc import Callable
from pathlib import Path

import grpc
import h2.events
import numpy as np
import pytest
from grpc_calls import SERVICE, Http2, array, channel, frame, prefixed, request, stub
from onnx_models import ELEMENT_TYPES
from running_server import Server
from tritonclient.grpc import service_pb2 as pb

ROUNDS = 6000
CONNECTIONS = 400
FAULTS_OF_THE_CLIENT = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
METHODS = {
    "ModelInfer": [],
    "ModelMetadata": [pb.ModelMetadataRequest(name="scale", version="1")],
    "ModelReady": [pb.ModelReadyRequest(name="scale")],
    "ModelConfig": [pb.ModelConfigRequest(name="scale")],
    "ModelStatistics": [pb.ModelStatisticsRequest(name="scale")],
    "RepositoryIndex": [pb.RepositoryIndexRequest(ready=True)],
    "RepositoryModelLoad": [pb.RepositoryModelLoadRequest(model_name="none")],
    "RepositoryModelUnload": [pb.RepositoryModelUnloadRequest(model_name="none")],
}


def seeds() -> list[bytes]:
    """Requests to infer, of every kind."""
    Tensor = pb.ModelInferRequest.InferInputTensor  # noqa: N806
    echo = pb.ModelInferRequest(
        model_name="echo",
        inputs=[Tensor(name=f"in_{t}", datatype=t, shape=[1, 2]) for t in ELEMENT_TYPES],
        raw_input_contents=[
            b"\1\0\0\0a\0\0\0\0" if t == "BYTES" else bytes(2 * size)
            for t, size in zip(ELEMENT_TYPES, (1, 1, 2, 4, 8, 1, 2, 4, 8, 2, 4, 8, 0), strict=True)
        ],
    )
    typed = pb.ModelInferRequest(
        model_name="scale",
        inputs=[Tensor(name="x", datatype="FP32", shape=[1, 3], contents={"fp32_contents": [1, 2, 3]})],
        outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="y")],
    )
    full = request(id="7", model_version="1")
    full.parameters["timeout"].int64_param = 5_000_000
    full.parameters["priority"].uint64_param = 2
    full.inputs[0].parameters["any"].string_param = "text"
    lookup = request(np.array([3], np.int64), "centred", "x", "FP32")
    return [message.SerializeToString() for message in (echo, typed, full, request(), lookup)]


def mutate(raw: bytes, rng: random.Random) -> bytes:
    data = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 4, 12))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(6)
        if kind == 0 and data:
            data[at % len(data)] = rng.randrange(256)
        elif kind == 1 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 2:
            data[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 3:
            del data[at : at + rng.randrange(1, 20)]
        elif kind == 4:
            data[at:at] = data[max(0, at - 20) : at]
        else:
            data[at : at + 1] = rng.choice(
                (b"\xff" * 9 + b"\x01", b"\x80" * 10, b"\x00", b"\xff\xff\xff\xff\x07")
            )
    return bytes(data)


def memory_mb(server: Server) -> float:
    for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


@pytest.fixture
def server(start: Callable[..., Server], models: Path) -> Server:
    declared = [{"name": n, "source": str(models / f"{n}.onnx")} for n in ("scale", "echo", "centred")]
    return start({"models": declared, "grpc": {"body_timeout_seconds": 2}}).until_ready()


def check(server: Server) -> None:
    assert server.process.poll() is None
    with channel(server) as link:
        np.testing.assert_array_equal(array(stub(link).ModelInfer(request(), timeout=10))[1], [6, 8, 10])
    assert [entry for entry in server.logs if entry["level"] == "error"] == []


@pytest.mark.timeout(240)
def test_mutated_messages(server: Server) -> None:
    rng = random.Random(11)
    ends: dict[str, int] = {}
    with channel(server) as link:
        calls = {name: link.unary_unary(SERVICE + name, lambda raw: raw, lambda raw: raw) for name in METHODS}
        corpus = [("ModelInfer", raw) for raw in seeds()] * 4
        corpus += [(name, m.SerializeToString()) for name, some in METHODS.items() for m in some]
        before = 0.0
        for n in range(ROUNDS // 20):
            chosen = [rng.choice(corpus) for _ in range(20)]
            sent = [(name, mutate(raw, rng)) for name, raw in chosen]
            running = [calls[name].future(raw, timeout=20) for name, raw in sent]
            for (name, raw), call in zip(sent, running, strict=True):
                code = call.code().name
                ends[code] = ends.get(code, 0) + 1
                assert code in FAULTS_OF_THE_CLIENT, (name, raw, call.details())
            if n == ROUNDS // 60:
                before = memory_mb(server)
    assert ends["OK"] > 100
    assert ends["INVALID_ARGUMENT"] > ROUNDS / 4
    assert ends.get("DEADLINE_EXCEEDED", 0) < 5
    assert memory_mb(server) < before + 15
    check(server)


@pytest.mark.timeout(240)
def test_mutated_streams_of_messages(server: Server) -> None:
    rng = random.Random(12)
    with channel(server) as link:
        ask = link.stream_stream(
            f"{SERVICE}ModelStreamInfer", lambda raw: raw, pb.ModelStreamInferResponse.FromString
        )
        for _ in range(100):
            sent = [mutate(raw, rng) if rng.random() < 0.5 else raw for raw in seeds() * 2]
            try:
                answers = list(ask(iter(sent), timeout=20))
                assert len(answers) == len(sent)
            except grpc.RpcError as error:
                assert error.code().name in FAULTS_OF_THE_CLIENT - {"DEADLINE_EXCEEDED"}, error  # noqa: PT017
    check(server)


@pytest.mark.timeout(240)
def test_mutated_frames(server: Server) -> None:
    """Whole connections, bent anywhere: each is answered, ended with a code, or let go in time."""
    rng = random.Random(13)
    raws = seeds()
    before = 0.0
    for n in range(CONNECTIONS):
        with Http2(server, greet=False) as client:
            client.h2.initiate_connection()
            for _ in range(rng.randrange(1, 5)):
                stream = client.h2.get_next_available_stream_id()
                client.h2.send_headers(stream, client.headers("ModelInfer"))
                client.h2.send_data(stream, prefixed(rng.choice(raws)), end_stream=True)
            data = client.h2.data_to_send()
            preface, rest = data[:24], data[24:]
            if rng.random() < 0.3:
                odd = frame(
                    rng.randrange(12), rng.randrange(256), rng.randrange(8), rng.randbytes(rng.randrange(20))
                )
                rest += odd
            try:
                client.raw(preface + mutate(rest, rng))
                client.sock.shutdown(1)
                client.sock.settimeout(8)
                while client.sock.recv(65536):
                    pass
            except ConnectionError:
                pass
        if n == CONNECTIONS // 3:
            before = memory_mb(server)
    assert memory_mb(server) < before + 15
    check(server)
    assert h2.events is not None
