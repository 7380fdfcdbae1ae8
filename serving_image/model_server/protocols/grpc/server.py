"""The methods of the gRPC port: which there are, and how faults of their handlers become answers."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from model_server.engine.call import log_fields
from model_server.errors import ServerError
from model_server.http2.hpack import Head, encode
from model_server.http2.stream import Receiver, Stream
from model_server.protocols.grpc.rpc import Method, Rpc
from model_server.protocols.grpc.status import OK_HEADERS, Unimplemented, error_headers
from model_server.settings import GrpcSettings
from model_server.telemetry.logs import log
from model_server.telemetry.metrics import Counter, Metrics

_UNEXPECTED = "a call failed in an unexpected way"
_INTERNAL_ERROR = "internal error; the server's log has the details"
_NOT_GRPC = encode(((b":status", b"415"), (b"content-type", b"text/plain")))
_NOT_POST = encode(((b":status", b"405"), (b"allow", b"POST")))


class GrpcServer:
    """Methods by path."""

    def __init__(self, settings: GrpcSettings, metrics: Metrics) -> None:
        self.max_message_bytes = settings.max_message_bytes
        self._metrics = metrics
        self._methods: dict[bytes, Method] = {}
        self._counters: dict[tuple[str, str], Counter] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, method: Method) -> None:
        """Serve a method."""
        self._methods[method.path.encode()] = method

    def accept(self, stream: Stream, head: Head) -> Receiver:
        """See http2.connection.Accept."""
        fields = head.fields
        method = self._methods.get(fields[b":path"])
        if method is not None and fields[b":method"] == b"POST" and _is_grpc(fields):
            stream.streaming = method.streaming
            return Rpc(self, method, stream, head)
        if fields[b":method"] != b"POST":
            return _Refusal(stream, _NOT_POST)
        if not _is_grpc(fields):
            return _Refusal(stream, _NOT_GRPC)
        error = Unimplemented(f"no such method: {fields[b':path'].decode('latin-1')!r:.200}")
        return _Refusal(stream, encode(OK_HEADERS + error_headers(error)))

    def guard(self, rpc: Rpc, work: Callable[..., Any], *arguments: Any) -> None:
        """Run part of a call; every fault becomes an answer."""
        try:
            coroutine = work(*arguments)
            if coroutine is not None:
                self._run_task(rpc, coroutine)
        except ServerError as error:
            fail(rpc, error)
        except Exception:
            log.exception(_UNEXPECTED, extra=_about(rpc))
            rpc.fail(ServerError(_INTERNAL_ERROR))

    def count(self, method: Method, code: str) -> None:
        """Count a call that ended."""
        counter = self._counters.get((method.path, code))
        if counter is None:
            counter = self._counters[method.path, code] = self._metrics.counter(
                "model_server_grpc_calls_total",
                "Calls that ended, by method and status code.",
                {"method": method.path.rpartition("/")[2], "code": code},
            )
        counter.add()

    def _run_task(self, rpc: Rpc, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(_guarded(rpc, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        rpc.on_gone(task.cancel)


class _Refusal:
    """Reads a request that nobody serves, and answers it when it is whole."""

    def __init__(self, stream: Stream, head: bytes) -> None:
        self._stream = stream
        self._head = head

    def data(self, chunk: bytes) -> None:
        """See Receiver."""

    def end(self) -> None:
        """See Receiver."""
        self._stream.refuse(self._head)

    def late(self) -> None:
        """See Receiver."""
        self._stream.refuse(self._head)

    def lost(self) -> None:
        """See Receiver."""


def fail(rpc: Rpc, error: ServerError) -> None:
    """End a call with an error, which is logged if it is ours."""
    if error.grpc_code == "INTERNAL":
        log.error(error.message, extra={"kind": error.kind, **log_fields(rpc)})
    rpc.fail(error)


def _about(rpc: Rpc) -> dict[str, str]:
    return {**log_fields(rpc), "target": rpc.method.path}


async def _guarded(rpc: Rpc, work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except ServerError as error:
        fail(rpc, error)
    except Exception:
        log.exception(_UNEXPECTED, extra=_about(rpc))
        rpc.fail(ServerError(_INTERNAL_ERROR))


def _is_grpc(fields: dict[bytes, bytes]) -> bool:
    kind = fields.get(b"content-type", b"")
    return kind == b"application/grpc" or kind.startswith((b"application/grpc+proto", b"application/grpc;"))
