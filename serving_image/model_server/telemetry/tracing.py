"""OpenTelemetry traces, joined to the caller's. Needs the extra `otel`; nothing imports this while it is off.

A request is a span of kind SERVER with two children, `queue` and `inference`, made at its end. Where they
go, how many and under which name is said by the standard environment variables: OTEL_EXPORTER_OTLP_ENDPOINT,
OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME, OTEL_PROPAGATORS and their like.
"""

import importlib
import os
from collections.abc import Mapping
from time import monotonic, time

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

import model_server
from model_server.engine.call import Call
from model_server.engine.single_flight import Attempt
from model_server.errors import ClientGone, ServerError
from model_server.models.repository import Served

_NANOSECONDS = 1_000_000_000
_FLUSH_MILLISECONDS = 3000
_SERVER_FAULT = 500


class Tracing:
    """Makes the spans of this process."""

    def __init__(self) -> None:
        """Raises ImportError where the extra is missing."""
        resource = Resource.create({SERVICE_VERSION: model_server.__version__})
        if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: "model-server"}))
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(_exporter()))
        self._tracer = self._provider.get_tracer("model_server", model_server.__version__)
        self._epoch = time() - monotonic()

    def submit(self, way: Attempt, served: Served, call: Call) -> None:
        """Start a call its usual way, under a span."""
        caller = call.caller
        parent = propagate.extract(caller.headers, getter=_BYTES) if caller is not None else Context()
        span = self._tracer.start_span(
            f"infer {served.name}", parent, SpanKind.SERVER, start_time=self._nanoseconds(call.received)
        )
        context = span.get_span_context()
        if caller is not None:
            caller.trace_id = trace.format_trace_id(context.trace_id)
        if not span.is_recording():
            way(served, call)
            return
        traced = _Traced(self, span, served, call)
        try:
            way(served, traced.inner)
        except ServerError as error:
            traced.end(error)
            raise

    def close(self) -> None:
        """Send what is not sent yet. Blocks."""
        self._provider.force_flush(_FLUSH_MILLISECONDS)
        self._provider.shutdown()

    def phases(self, span: Span, call: Call) -> None:
        """The children of a request's span; none for what it never came to."""
        parent = trace.set_span_in_context(span, Context())
        for name, began, ended in (
            ("queue", call.queued, call.started),
            ("inference", call.started, call.finished),
        ):
            if began and ended >= began:
                child = self._tracer.start_span(name, parent, start_time=self._nanoseconds(began))
                if name == "inference":
                    child.set_attribute("model_server.batch_rows", call.batch_rows)
                child.end(self._nanoseconds(ended))

    def _nanoseconds(self, moment: float) -> int:
        return int((self._epoch + moment) * _NANOSECONDS)


class _Traced:
    """One request under its span. The way gets a call of its own, so that a client that leaves is noticed."""

    __slots__ = ("_outer", "_span", "_tracing", "inner")

    def __init__(self, tracing: Tracing, span: Span, served: Served, call: Call) -> None:
        self._tracing = tracing
        self._span = span
        self._outer = call
        self.inner = Call(
            call.inputs,
            call.outputs,
            self._done,
            received=call.received,
            deadline=call.deadline,
            priority=call.priority,
            caller=call.caller,
        )
        call.lane = self
        span.set_attribute("model_server.model", served.name)
        span.set_attribute("model_server.version", served.version)
        if call.caller is not None and call.caller.request_id:
            span.set_attribute("model_server.request_id", call.caller.request_id)

    def forget(self, call: Call) -> None:
        """See Holder: the client left."""
        del call
        self.inner.cancel()
        self.end(ClientGone("the client left before the answer"))

    def end(self, error: ServerError | None) -> None:
        """The request is over."""
        span, inner = self._span, self.inner
        if not span.is_recording():
            return
        self._tracing.phases(span, inner)
        if inner.degraded is not None:
            span.set_attribute("model_server.degraded", inner.degraded.rung)
            span.set_attribute("model_server.degraded_reason", inner.degraded.reason)
        if error is not None:
            span.set_attribute("error.type", error.kind)
            if error.status >= _SERVER_FAULT:
                span.set_status(Status(StatusCode.ERROR, error.message[:500]))
        span.end()

    def _done(self, inner: Call) -> None:
        outer = self._outer
        if outer.cancelled:
            return
        outer.results, outer.error, outer.degraded = inner.results, inner.error, inner.degraded
        outer.queued, outer.started, outer.finished = inner.queued, inner.started, inner.finished
        outer.batch_rows = inner.batch_rows
        try:
            outer.on_done(outer)
        finally:
            self.end(inner.error)


def _exporter() -> SpanExporter:
    """OTLP over HTTP, as the extra has it, or over gRPC if the environment asks. Raises ImportError."""
    variables = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    protocol = next((os.environ[name] for name in variables if name in os.environ), "http/protobuf")
    transport = "grpc" if protocol == "grpc" else "http"
    module = importlib.import_module(f"opentelemetry.exporter.otlp.proto.{transport}.trace_exporter")
    exporter: SpanExporter = module.OTLPSpanExporter()
    return exporter


class _BytesGetter(Getter[Mapping[bytes, bytes]]):
    """Reads our headers for OpenTelemetry's propagators."""

    def get(self, carrier: Mapping[bytes, bytes], key: str) -> list[str] | None:
        value = carrier.get(key.lower().encode())
        return None if value is None else [value.decode("latin-1")]

    def keys(self, carrier: Mapping[bytes, bytes]) -> list[str]:
        return [name.decode("latin-1") for name in carrier]


_BYTES = _BytesGetter()
