"""What the gRPC tests share: stubs, tensors, and bare HTTP/2."""

import contextlib
import socket
import time
from collections.abc import Iterator

import grpc
import h2.config
import h2.connection
import h2.events
import numpy as np
from running_server import Server
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

X = np.arange(6, dtype=np.float32).reshape(2, 3)
SERVICE = "/inference.GRPCInferenceService/"


def grpc_port(server: Server) -> int:
    return int(server.log("listening")["grpc_port"])


def url(server: Server) -> str:
    return f"127.0.0.1:{grpc_port(server)}"


def channel(server: Server, **options: object) -> grpc.Channel:
    given = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    return grpc.insecure_channel(url(server), [*given, *options.items()])


def stub(link: grpc.Channel) -> service_pb2_grpc.GRPCInferenceServiceStub:
    return service_pb2_grpc.GRPCInferenceServiceStub(link)


def request(
    x: np.ndarray = X, model: str = "scale", name: str = "x", datatype: str = "FP32", **more: object
) -> pb.ModelInferRequest:
    tensor = pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=x.shape)
    return pb.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[x.tobytes()], **more)


def slow(turns: int) -> pb.ModelInferRequest:
    """Takes about half a millisecond a turn."""
    return request(np.array([turns], np.int64), "slow", "turns", "INT64")


def array(answer: pb.ModelInferResponse, index: int = 0) -> np.ndarray:
    return np.frombuffer(answer.raw_output_contents[index], np.float32).reshape(answer.outputs[index].shape)


def code_of(work: object) -> tuple[str, str]:
    """Status and text of a call that fails."""
    try:
        work()  # type: ignore[operator]
    except grpc.RpcError as error:
        return error.code().name, error.details()
    return "OK", ""


class Http2:
    """A client that sends what the test says, and no more."""

    def __init__(self, server: Server, greet: bool = True) -> None:
        self.sock = socket.create_connection(("127.0.0.1", grpc_port(server)), timeout=10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = h2.config.H2Configuration(
            client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.h2 = h2.connection.H2Connection(config)
        if greet:
            self.h2.initiate_connection()
            self.flush()

    def flush(self) -> None:
        self.sock.sendall(self.h2.data_to_send())

    def headers(self, method: str, **more: str) -> list[tuple[str, str]]:
        return [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", SERVICE + method),
            (":authority", "h"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *((name.replace("_", "-"), value) for name, value in more.items()),
        ]

    def call(self, method: str, message: bytes, end: bool = True, **more: str) -> int:
        """Start a call; return its stream."""
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, self.headers(method, **more))
        body = prefixed(message)
        for at in range(0, len(body), 16_000):
            self.h2.send_data(stream, body[at : at + 16_000], end_stream=end and at + 16_000 >= len(body))
            self.flush()
        return stream

    def raw(self, data: bytes) -> None:
        self.sock.sendall(data)

    def events(self, seconds: float = 5.0) -> Iterator[h2.events.Event]:
        """What comes until the server closes, or time is over."""
        limit = time.monotonic() + seconds
        while (left := limit - time.monotonic()) > 0:
            self.sock.settimeout(left)
            try:
                data = self.sock.recv(65536)
            except TimeoutError:
                return
            except ConnectionResetError:
                data = b""
            if not data:
                return
            yield from self.h2.receive_data(data)
            self.flush_quietly()

    def flush_quietly(self) -> None:
        with contextlib.suppress(OSError):
            self.flush()

    def until(self, kind: type, stream: int | None = None, seconds: float = 5.0) -> h2.events.Event:
        """The next event of a kind (and stream)."""
        seen = []
        for event in self.events(seconds):
            seen.append(event)
            if isinstance(event, kind) and (stream is None or getattr(event, "stream_id", None) == stream):
                return event
        raise AssertionError(f"no {kind.__name__}; got {seen}")

    def status(self, stream: int, seconds: float = 5.0) -> tuple[str, str]:
        """grpc-status and grpc-message of a call's end."""
        fields: dict = {}
        for event in self.events(seconds):
            if getattr(event, "stream_id", None) != stream:
                continue
            if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                fields.update({_text(k): _text(v) for k, v in event.headers})
            if isinstance(event, h2.events.StreamReset):
                return f"reset {event.error_code}", ""
            if isinstance(event, h2.events.StreamEnded):
                return fields.get("grpc-status", ""), fields.get("grpc-message", "")
        raise AssertionError(f"the call did not end; got {fields}")

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> "Http2":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def prefixed(message: bytes) -> bytes:
    return b"\x00" + len(message).to_bytes(4, "big") + message


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload
