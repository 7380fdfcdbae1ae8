"""OpenTelemetry: spans in a collector stub, joined to the caller's trace, and ids in the logs."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from engine.collector import Collector, collecting
from engine.stand_ins import ask, index_body, model, table, turns_body
from grpc_calls import channel, request, stub
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from running_server import Server, wait_until
from test_engine import send_and_stay

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


@pytest.fixture
def collector() -> Iterator[tuple[str, type[Collector]]]:
    with collecting() as running:
        yield running


Traced = tuple[Server, list[Span]]


@pytest.fixture
def traced(
    start: Callable[..., Server], collector: tuple[str, type[Collector]], tmp_path: Path, models: Path
) -> Traced:
    uri, stub = collector
    path = table(tmp_path / "table.onnx", 10)
    rungs = {"rungs": [{"value": {"y": -1.0}}]}
    declared = [
        model("m", path),
        model("laddered", path, fallback=rungs),
        model("slow", models / "slow.onnx"),
    ]
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": uri, "OTEL_BSP_SCHEDULE_DELAY": "50"}
    server = start({"tracing": {"enabled": True}, "models": declared}, **environment).until_ready()
    return server, stub.spans


def attributes(span: Span) -> dict[str, str]:
    return {one.key: one.value.string_value for one in span.attributes}


def roots(spans: list[Span], name: str) -> list[Span]:
    return [span for span in spans if span.name == name]


def test_spans_join_the_callers_trace(traced: Traced, collector: tuple[str, type[Collector]]) -> None:
    server, spans = traced
    header = f"00-{TRACE}-{PARENT}-01"
    assert ask(server, "m", index_body(1), traceparent=header, X_Request_Id="r-7")[0] == 200
    wait_until(lambda: len(spans) == 3)
    (root,) = roots(spans, "infer m")
    assert root.trace_id.hex() == TRACE
    assert root.parent_span_id.hex() == PARENT
    assert root.kind == Span.SPAN_KIND_SERVER
    assert attributes(root)["model_server.request_id"] == "r-7"
    children = {span.name: span for span in spans if span is not root}
    assert set(children) == {"queue", "inference"}
    queue, inference = children["queue"], children["inference"]
    assert {span.parent_span_id for span in children.values()} == {root.span_id}
    assert root.start_time_unix_nano <= queue.start_time_unix_nano <= queue.end_time_unix_nano
    assert queue.end_time_unix_nano <= inference.start_time_unix_nano <= inference.end_time_unix_nano
    assert inference.end_time_unix_nano <= root.end_time_unix_nano
    assert collector[1].names == {"model-server"}


def test_requests_of_streams_join_it_too(traced: Traced) -> None:
    server, spans = traced
    header = f"00-{TRACE}-{PARENT}-01"
    messages = [request(np.array([number], np.int64), "m", "index", "INT64") for number in range(2)]
    with channel(server) as link:
        assert len(list(stub(link).ModelStreamInfer(iter(messages), metadata=[("traceparent", header)]))) == 2
    wait_until(lambda: len(roots(spans, "infer m")) == 2)
    rows = b'{"index": 1}\n{"index": 2}\n'
    sent = server.post("/predict/m", rows, Content_Type="application/x-ndjson", traceparent=header)
    assert sent[0] == 200
    wait_until(lambda: len(roots(spans, "infer m")) == 3)
    assert {span.trace_id.hex() for span in spans} == {TRACE}


def test_a_caller_without_a_trace_begins_one(traced: Traced) -> None:
    server, spans = traced
    ask(server, "m", index_body(1))
    ask(server, "m", index_body(2))
    wait_until(lambda: len(roots(spans, "infer m")) == 2)
    assert len({span.trace_id for span in spans}) == 2
    assert all(not root.parent_span_id for root in roots(spans, "infer m"))


def test_a_caller_that_does_not_sample_gets_no_spans(traced: Traced) -> None:
    server, spans = traced
    assert ask(server, "m", index_body(1), traceparent=f"00-{TRACE}-{PARENT}-00")[0] == 200
    assert ask(server, "m", index_body(2))[0] == 200
    wait_until(lambda: roots(spans, "infer m"))
    assert TRACE not in {span.trace_id.hex() for span in spans}


def test_failures_and_degraded_answers_are_marked(traced: Traced) -> None:
    server, spans = traced
    ask(server, "m", index_body(99), X_Request_Id="r-8")
    ask(server, "laddered", index_body(99))
    wait_until(lambda: roots(spans, "infer m") and roots(spans, "infer laddered"))
    (failed,), (degraded,) = roots(spans, "infer m"), roots(spans, "infer laddered")
    assert attributes(failed)["error.type"] == "model_failed"
    assert failed.status.code == 2
    assert attributes(degraded)["model_server.degraded"] == "static"
    assert degraded.status.code == 0
    line = server.log("the model failed")
    assert (line["trace_id"], line["request_id"]) == (failed.trace_id.hex(), "r-8")


def test_a_client_that_leaves_ends_its_span(traced: Traced) -> None:
    server, spans = traced
    sock = send_and_stay(server, "slow", turns_body(1000))
    wait_until(lambda: server.metric("model_server_http_connections") >= 2)
    sock.close()
    wait_until(lambda: roots(spans, "infer slow"))
    assert attributes(roots(spans, "infer slow")[0])["error.type"] == "client_gone"


def test_a_stop_sends_what_is_left(
    start: Callable[..., Server], collector: tuple[str, type[Collector]], models: Path
) -> None:
    uri, stub = collector
    settings = {
        "server": {"workers": 2},
        "tracing": {"enabled": True},
        "models": [model("scale", models / "lookup.onnx")],
    }
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": uri,
        "OTEL_BSP_SCHEDULE_DELAY": "60000",
        "OTEL_SERVICE_NAME": "fraud",
    }
    server = start(settings, **environment).until_ready()
    for _ in range(4):
        assert ask(server, "scale", index_body(1))[0] == 200
    assert not stub.spans
    assert server.stop() == 0
    assert len(roots(stub.spans, "infer scale")) == 4
    assert stub.names == {"fraud"}


def test_logs_join_the_callers_trace_where_this_server_makes_no_spans(shared: Server) -> None:
    body = index_body(99)
    ask(shared, "lookup", body, traceparent=f"00-{TRACE}-{PARENT}-01", X_Request_Id="r-9")
    wait_until(lambda: [line for line in shared.logs if line.get("request_id") == "r-9"])
    (line,) = [line for line in shared.logs if line.get("request_id") == "r-9"]
    assert line["trace_id"] == TRACE
