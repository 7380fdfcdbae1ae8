"""The gRPC protocol: contents, errors, deadlines, limits, health, reflection."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pb2
from grpc_calls import SERVICE, Http2, X, array, channel, code_of, request, slow, stub
from model_server.protocols.grpc.messages import message
from onnx_models import ELEMENT_TYPES
from running_server import Server, infer_body, wait_until
from test_oip_rest import VALUES
from tritonclient.grpc import service_pb2 as pb

FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
Tensor = pb.ModelInferRequest.InferInputTensor


def contents(datatype: str) -> list:
    return [v.encode() if isinstance(v, str) else v for v in VALUES[datatype]]


def typed(model: str, tensors: dict[str, tuple[str, list[int], dict[str, list]]], **more: object):
    inputs = [
        Tensor(name=name, datatype=datatype, shape=shape, contents=given)
        for name, (datatype, shape, given) in tensors.items()
    ]
    return pb.ModelInferRequest(model_name=model, inputs=inputs, **more)


@pytest.fixture(scope="module")
def typed_echo(shared: Server, tmp_path_factory: pytest.TempPathFactory):
    """A model with every datatype that has typed contents."""
    import onnx_models
    from onnx import helper

    path = tmp_path_factory.mktemp("typed") / "typed.onnx"
    nodes = [helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]) for name in FIELDS]
    onnx_models.save(
        path,
        nodes,
        [onnx_models.tensor(f"in_{name}", name, ["n", 2]) for name in FIELDS],
        [onnx_models.tensor(f"out_{name}", name, ["n", 2]) for name in FIELDS],
    )
    server = Server(path.parent, {"models": [{"name": "typed", "source": str(path)}]})
    yield server.until_ready()
    server.close()


def test_typed_contents_of_every_datatype(typed_echo: Server) -> None:
    tensors = {f"in_{t}": (t, [1, 2], {field: contents(t)}) for t, field in FIELDS.items()}
    with channel(typed_echo) as link:
        answer = stub(link).ModelInfer(typed("typed", tensors, id="q"))
    assert answer.id == "q"
    assert not answer.raw_output_contents
    got = {o.name: list(getattr(o.contents, FIELDS[o.datatype])) for o in answer.outputs}
    assert got == {f"out_{t}": contents(t) for t in FIELDS}


def test_typed_in_raw_out_where_a_datatype_is_raw_only(shared: Server) -> None:
    """FP16 has no typed form, so the answer of a model that has it is raw."""
    tensors = []
    raw = []
    for name in ELEMENT_TYPES:
        tensors.append(Tensor(name=f"in_{name}", datatype=name, shape=[0, 2]))
        raw.append(b"")
    with channel(shared) as link:
        answer = stub(link).ModelInfer(
            pb.ModelInferRequest(model_name="echo", inputs=tensors, raw_input_contents=raw)
        )
        code, text = code_of(
            lambda: stub(link).ModelInfer(pb.ModelInferRequest(model_name="echo", inputs=tensors))
        )
    assert len(answer.raw_output_contents) == len(ELEMENT_TYPES)
    assert code == "INVALID_ARGUMENT"
    assert "FP16 has no typed contents; send it in raw_input_contents" in text


def x_tensor(**changes: object) -> Tensor:
    return Tensor(**{"name": "x", "datatype": "FP32", "shape": [1, 3], **changes})


GOOD = {"fp32_contents": [1, 2, 3]}


@pytest.mark.parametrize(
    ("inputs", "raw", "says"),
    [
        ([], [], "inputs: missing 'x'"),
        ([x_tensor(name="z")], [b""], "inputs[0].name: got 'z', expected one of 'x'"),
        ([x_tensor(datatype="FP64")], [b""], "inputs[0].datatype: got 'FP64', expected 'FP32'"),
        ([x_tensor(shape=[1, 4])], [b""], "dimension 1 is 4, expected 3"),
        ([x_tensor(shape=[-1, 3])], [b""], "inputs[0].shape: expected a list of integers of 0 and up"),
        ([x_tensor(shape=[2**62, 3])], [b"1"], "1 bytes of binary data, expected"),
        ([x_tensor()], [b"123"], "3 bytes of binary data, expected 12"),
        ([x_tensor()], [b"1" * 12] * 2, "raw_input_contents: 2 elements, expected one for each of the 1"),
        ([x_tensor(contents=GOOD)], [b"1" * 12], "has both contents and raw_input_contents"),
        ([x_tensor(contents={"fp64_contents": [1, 2, 3]})], [], "has fp64_contents, expected fp32_contents"),
        ([x_tensor(contents={"fp32_contents": [1, 2]})], [], "fp32_contents: 2 elements, expected 3"),
        ([x_tensor()], [], "fp32_contents: 0 elements, expected 3"),
        ([x_tensor(contents=GOOD)] * 2, [], "inputs[1]: input 'x' is given twice"),
    ],
)
def test_a_bad_request_says_what_where_and_what_was_expected(
    shared: Server, inputs: list, raw: list, says: str
) -> None:
    bad = pb.ModelInferRequest(model_name="scale", inputs=inputs, raw_input_contents=raw)
    with channel(shared) as link:
        code, text = code_of(lambda: stub(link).ModelInfer(bad))
    assert code == "INVALID_ARGUMENT"
    assert says in text


@pytest.mark.parametrize(
    ("change", "code", "rest_status", "path"),
    [
        ({"model_name": "none"}, "NOT_FOUND", 404, "/v2/models/none/infer"),
        ({"model_version": "9"}, "NOT_FOUND", 404, "/v2/models/scale/versions/9/infer"),
        ({"inputs": [x_tensor(shape=[1, 9])]}, "INVALID_ARGUMENT", 400, "/v2/models/scale/infer"),
    ],
)
def test_errors_have_the_texts_of_rest(
    shared: Server, change: dict, code: str, rest_status: int, path: str
) -> None:
    sent = pb.ModelInferRequest(**{"model_name": "scale", "inputs": [x_tensor(contents=GOOD)], **change})
    shape = [1, 9] if "inputs" in change else [1, 3]
    status, answer, _ = shared.post(path, infer_body([1, 2, 3], shape))
    assert status == rest_status
    with channel(shared) as link:
        assert code_of(lambda: stub(link).ModelInfer(sent)) == (code, answer["error"])


def test_only_the_outputs_asked_for_in_their_order(shared: Server) -> None:
    inputs = [Tensor(name=f"in_{t}", datatype=t, shape=[0, 2]) for t in ELEMENT_TYPES]
    wanted = [pb.ModelInferRequest.InferRequestedOutputTensor(name=n) for n in ("out_INT8", "out_BOOL")]
    asked = pb.ModelInferRequest(
        model_name="echo", inputs=inputs, outputs=wanted, raw_input_contents=[b""] * len(inputs)
    )
    with channel(shared) as link:
        answer = stub(link).ModelInfer(asked)
        assert [output.name for output in answer.outputs] == ["out_INT8", "out_BOOL"]
        asked.outputs.add(name="out_BOOL")
        assert code_of(lambda: stub(link).ModelInfer(asked)) == (
            "INVALID_ARGUMENT",
            "outputs[2]: output 'out_BOOL' is asked for twice",
        )


def test_a_fault_of_the_model_is_its_own(shared: Server) -> None:
    with channel(shared) as link:
        bad = request(np.array([99], np.int64), "lookup", "index", "INT64")
        code, text = code_of(lambda: stub(link).ModelInfer(bad))
        assert code == "INTERNAL"
        assert "the model failed" in text
        assert code_of(lambda: stub(link).ModelInfer(request())) == ("OK", "")


def test_a_deadline_that_passed_is_not_run(start: Callable[..., Server], models: Path) -> None:
    """The second call's time is over while the first runs: it must not run after it."""
    declared = [{"name": "slow", "source": str(models / "slow.onnx")}]
    server = start({"models": declared}).until_ready()
    with channel(server) as link:
        first = stub(link).ModelInfer.future(slow(2000))
        time.sleep(0.2)
        began = time.monotonic()
        code, _ = code_of(lambda: stub(link).ModelInfer(slow(2000), timeout=0.15))
        assert code == "DEADLINE_EXCEEDED"
        assert time.monotonic() - began < 0.6
        first.result()
        time.sleep(0.2)
        assert server.metric("model_server_phase_seconds_count", phase="inference") == 1
    with Http2(server) as client:
        assert (
            client.status(client.call("ModelInfer", slow(1).SerializeToString(), grpc_timeout="1n"))[0] == "4"
        )
        assert client.status(client.call("ModelInfer", b"", grpc_timeout="soon"))[0] == "3"


def test_a_cancelled_call_is_not_run(start: Callable[..., Server], models: Path) -> None:
    declared = [{"name": "slow", "source": str(models / "slow.onnx")}]
    server = start({"models": declared}).until_ready()

    def until_waiting(calls: int) -> None:
        wait_until(lambda: server.metric("model_server_queue_length") == calls)

    with channel(server) as link:
        stub(link).ModelInfer(slow(500))  # the server learns that this model is for threads
        first = stub(link).ModelInfer.future(slow(6000))
        waiting = [stub(link).ModelInfer.future(slow(1500)) for _ in range(5)]
        until_waiting(5)
        for call in waiting:
            call.cancel()
        until_waiting(0)
        with Http2(server) as gone:
            gone.call("ModelInfer", slow(1500).SerializeToString())
            until_waiting(1)
        until_waiting(0)
        assert not first.done()
        first.result()
        assert stub(link).ModelInfer(slow(1)).outputs[0].name == "y"
    assert server.metric("model_server_phase_seconds_count", phase="inference") == 3
    assert server.metric("model_server_grpc_calls_total", code="CANCELLED") == 6


def test_a_full_queue_says_so(start: Callable[..., Server], models: Path) -> None:
    declared = [{"name": "slow", "source": str(models / "slow.onnx"), "queue_size": 2}]
    server = start({"models": declared}).until_ready()
    with channel(server) as link:
        calls = [stub(link).ModelInfer.future(slow(600)) for _ in range(6)]
        ends = [code_of(call.result) for call in calls]
        trailers = [dict(call.trailing_metadata()) for call in calls if call.code().name != "OK"]
    assert {code for code, _ in ends} == {"OK", "RESOURCE_EXHAUSTED"}
    assert all(fields["grpc-retry-pushback-ms"] == "1000" for fields in trailers)


def test_a_huge_message_is_refused_before_it_is_held(start: Callable[..., Server], models: Path) -> None:
    settings = {
        "grpc": {"max_message_bytes": 100_000},
        "models": [{"name": "scale", "source": str(models / "scale.onnx")}],
    }
    server = start(settings).until_ready()
    big = request(np.zeros((10_000, 3), np.float32))
    with channel(server) as link:
        code, text = code_of(lambda: stub(link).ModelInfer(big))
        assert (code, "the limit is 100000" in text) == ("RESOURCE_EXHAUSTED", True)
        packed = code_of(lambda: stub(link).ModelInfer(big, compression=grpc.Compression.Gzip))
        assert packed[0] == "RESOURCE_EXHAUSTED"
        assert code_of(lambda: stub(link).ModelInfer(request())) == ("OK", "")


def test_odd_messages(shared: Server) -> None:
    good = request().SerializeToString()
    with Http2(shared) as client:
        for message_, flag, more, code in (
            (b"\xff\xff", 0, {}, "3"),
            (good, 1, {}, "12"),
            (good, 1, {"grpc_encoding": "snappy"}, "12"),
            (good, 1, {"grpc_encoding": "gzip"}, "3"),
            (good, 7, {"grpc_encoding": "gzip"}, "12"),
        ):
            stream = client.h2.get_next_available_stream_id()
            client.h2.send_headers(stream, client.headers("ModelInfer", **more))
            framed = bytes((flag,)) + len(message_).to_bytes(4, "big") + message_
            client.h2.send_data(stream, framed, end_stream=True)
            client.flush()
            assert client.status(stream)[0] == code
        for body in (b"", b"\x00\x00", b"\x00\x00\x00\x00\x09abc", b"\x00\x00\x00\x00\x00" * 2):
            stream = client.h2.get_next_available_stream_id()
            client.h2.send_headers(stream, client.headers("ModelInfer"))
            client.h2.send_data(stream, body, end_stream=True)
            client.flush()
            code, text = client.status(stream)
            assert code == "3"
            assert "expected one message" in text
        assert client.status(client.call("NoSuchMethod", b""))[0] == "12"
        assert client.status(client.call("ServerLive", b""))[0] == "0"


def test_request_id_comes_back(shared: Server) -> None:
    with channel(shared) as link:
        _, call = stub(link).ModelInfer.with_call(request(), metadata=[("x-request-id", "r-1")])
        assert dict(call.initial_metadata())["x-request-id"] == "r-1"


def health(link: grpc.Channel, service: str = "") -> str:
    Request = message("grpc.health.v1.HealthCheckRequest")  # noqa: N806
    Response = message("grpc.health.v1.HealthCheckResponse")  # noqa: N806
    check = link.unary_unary("/grpc.health.v1.Health/Check", Request.SerializeToString, Response.FromString)
    return Response.ServingStatus.Name(check(Request(service=service)).status)


def test_health(start: Callable[..., Server], models: Path) -> None:
    server = start({"models": [{"name": "scale", "source": str(models / "scale.onnx")}]}).until_ready()
    Request = message("grpc.health.v1.HealthCheckRequest")  # noqa: N806
    Response = message("grpc.health.v1.HealthCheckResponse")  # noqa: N806
    with channel(server) as link:
        assert [health(link, name) for name in ("", "scale", SERVICE[1:-1])] == ["SERVING"] * 3
        assert code_of(lambda: health(link, "none"))[0] == "NOT_FOUND"
        watch = link.unary_stream(
            "/grpc.health.v1.Health/Watch", Request.SerializeToString, Response.FromString
        )
        told = watch(Request(service="scale"))
        assert next(told).status == 1
        server.post("/v2/repository/models/scale/unload")
        assert next(told).status == 2
        assert health(link) == "NOT_SERVING"
        server.post("/v2/repository/models/scale/load")
        assert next(told).status == 1
        told.cancel()
        unknown = watch(Request(service="none"))
        assert next(unknown).status == 3
        unknown.cancel()


def test_reflection_tells_the_services(shared: Server) -> None:
    for package in ("grpc.reflection.v1", "grpc.reflection.v1alpha"):
        Request = message(f"{package}.ServerReflectionRequest")  # noqa: N806
        Response = message(f"{package}.ServerReflectionResponse")  # noqa: N806
        with channel(shared) as link:
            ask = link.stream_stream(
                f"/{package}.ServerReflection/ServerReflectionInfo",
                Request.SerializeToString,
                Response.FromString,
            )
            questions = [
                Request(list_services=""),
                Request(file_containing_symbol="inference.GRPCInferenceService"),
                Request(file_by_filename="none.proto"),
            ]
            services, file, missing = list(ask(iter(questions)))
        names = [service.name for service in services.list_services_response.service]
        assert "inference.GRPCInferenceService" in names
        assert "grpc.health.v1.Health" in names
        (raw,) = file.file_descriptor_response.file_descriptor_proto
        described = descriptor_pb2.FileDescriptorProto.FromString(raw)
        assert described.package == "inference"
        assert missing.error_response.error_code == 5


def test_calls_are_counted(start: Callable[..., Server], models: Path) -> None:
    server = start({"models": [{"name": "scale", "source": str(models / "scale.onnx")}]}).until_ready()
    with channel(server) as link:
        stub(link).ModelInfer(request())
        code_of(lambda: stub(link).ModelInfer(pb.ModelInferRequest(model_name="scale")))
        assert server.metric("model_server_grpc_connections") == 1
    assert server.metric("model_server_grpc_calls_total", method="ModelInfer", code="OK") == 1
    assert server.metric("model_server_grpc_calls_total", code="INVALID_ARGUMENT") == 1
    assert server.metric("model_server_request_seconds_count", model="scale") == 1
    assert server.metric("model_server_errors_total", kind="invalid_request") == 1
    wait_until(lambda: server.metric("model_server_grpc_connections") == 0)


def test_grpc_can_be_off(start: Callable[..., Server], models: Path) -> None:
    scale = [{"name": "scale", "source": str(models / "scale.onnx")}]
    server = start({"grpc": {"enabled": False}, "models": scale}).until_ready()
    assert "grpc_port" not in server.log("listening")


def test_calls_of_many_threads_get_their_own_answers(shared: Server) -> None:
    wrong: list = []

    def ask(n: int) -> None:
        with channel(shared, **{"grpc.use_local_subchannel_pool": 1}) as link:
            for k in range(40):
                x = np.full((1, 3), n * 100 + k, np.float32)
                got = array(stub(link).ModelInfer(request(x, id=f"{n}.{k}")))
                if not np.array_equal(got, x * 2):
                    wrong.append((n, k, got))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert wrong == []
    assert X.shape == (2, 3)
