"""What stands between a protocol and the lane, seen over gRPC: ladder, cache, traces, the latency budget."""

from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from engine.collector import collecting
from engine.stand_ins import model, table
from grpc_calls import channel, code_of, request, stub
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from running_server import Server, wait_until
from tritonclient.grpc import service_pb2 as pb

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
TRACEPARENT = ("traceparent", f"00-{TRACE}-{PARENT}-01")
FAILS = 99

Stepped = tuple[Server, list[Span]]


@pytest.fixture(scope="module")
def stepped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stepped]:
    """Models that know 10 numbers, on ladders, with a cache; a server that traces."""
    folder = tmp_path_factory.mktemp("stepped")
    path = table(folder / "top.onnx", 10)
    settings = {
        "tracing": {"enabled": True},
        "models": [
            model("bare", path),
            model("other", table(folder / "other.onnx", 20, 100.0)),
            model("top", path, fallback={"rungs": [{"model": "other"}, {"value": {"y": -7.0}}]}),
            model("kept", path, cache={}),
        ],
    }
    with collecting() as (uri, collector):
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": uri, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        server = Server(folder, settings, **environment)
        try:
            yield server.until_ready(), collector.spans
        finally:
            server.close()


def index(number: int, name: str) -> pb.ModelInferRequest:
    return request(np.array([number], np.int64), name, "index", "INT64")


def typed_index(number: int, name: str) -> pb.ModelInferRequest:
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="index", datatype="INT64", shape=[1], contents={"int64_contents": [number]}
    )
    return pb.ModelInferRequest(model_name=name, inputs=[tensor], id="q")


def infer(
    server: Server, message: pb.ModelInferRequest, *metadata: tuple[str, str]
) -> tuple[pb.ModelInferResponse, dict[str, str]]:
    with channel(server) as link:
        answer, call = stub(link).ModelInfer.with_call(message, metadata=metadata)
        return answer, dict(call.initial_metadata())


def said(answer: pb.ModelInferResponse) -> dict[str, str]:
    return {name: value.string_param for name, value in answer.parameters.items()}


@pytest.mark.parametrize("form", [index, typed_index])
def test_a_degraded_answer_says_so(stepped: Stepped, form) -> None:
    server, _ = stepped
    for number, by, rung in ((15, "other", "model"), (FAILS, "top", "static")):
        answer, metadata = infer(server, form(number, "top"))
        assert metadata["x-degraded"] == f"{rung}; reason=failure; by={by}/1"
        assert said(answer) == {"degraded": rung, "degraded_reason": "failure"}
        assert (answer.model_name, answer.model_version) == (by, "1")
    # The same shapes again, from the model itself: nothing of the ladder sticks to them.
    answer, metadata = infer(server, form(3, "top"))
    assert "x-degraded" not in metadata
    assert (answer.model_name, said(answer)) == ("top", {})


def test_answers_of_a_stream_say_it_too(stepped: Stepped) -> None:
    server, _ = stepped
    with channel(server) as link:
        numbers = (1, 15, FAILS, 2)
        messages = [*(index(number, "top") for number in numbers), index(FAILS, "bare")]
        *answers, failed = stub(link).ModelStreamInfer(iter(messages))
    rungs = [said(answer.infer_response).get("degraded") for answer in answers]
    assert rungs == [None, "model", "static", None]
    assert "the model failed" in failed.error_message


def test_a_stream_is_answered_from_the_cache_in_its_order(stepped: Stepped) -> None:
    server, _ = stepped
    numbers = [5, 5, 6, 5, 6, 7] * 5
    with channel(server) as link:
        answers = list(stub(link).ModelStreamInfer(index(number, "kept") for number in numbers))
    got = [np.frombuffer(one.infer_response.raw_output_contents[0], np.float32)[0] for one in answers]
    assert got == [number * 10 for number in numbers]


def test_the_callers_trace_is_joined_and_its_id_logged(stepped: Stepped) -> None:
    server, spans = stepped
    with channel(server) as link:
        asked = [TRACEPARENT, ("x-request-id", "r-5")]
        code, _ = code_of(lambda: stub(link).ModelInfer(index(FAILS, "bare"), metadata=asked))
    assert code == "INTERNAL"
    wait_until(lambda: [span for span in spans if span.trace_id.hex() == TRACE])
    (root,) = [span for span in spans if span.trace_id.hex() == TRACE and span.name == "infer bare"]
    assert root.parent_span_id.hex() == PARENT
    wait_until(lambda: [line for line in server.logs if line.get("request_id") == "r-5"])
    (line,) = [line for line in server.logs if line.get("request_id") == "r-5"]
    assert line["trace_id"] == TRACE


def test_cache_and_budget_are_told_in_metadata(stepped: Stepped) -> None:
    server, _ = stepped
    assert infer(server, index(1, "kept"))[1]["x-cache"] == "miss"
    metadata = infer(server, index(1, "kept"), ("x-latency-budget", "1"))[1]
    assert metadata["x-cache"] == "hit"
    phases = [part.partition(";")[0] for part in metadata["x-latency-budget"].split(", ")]
    assert phases[:3] == ["network", "features", "queue"]
    assert "x-latency-budget" not in infer(server, index(1, "kept"))[1]


def test_an_error_has_the_metadata_too(stepped: Stepped) -> None:
    server, _ = stepped
    with channel(server) as link, pytest.raises(grpc.RpcError) as caught:
        stub(link).ModelInfer(index(FAILS, "bare"), metadata=[("x-latency-budget", "1")])
    metadata = dict((*caught.value.initial_metadata(), *caught.value.trailing_metadata()))
    assert "total;dur=" in metadata["x-latency-budget"]
