"""Our HTTP/2: flow control, limits, odd and hostile clients."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h2.events
import h2.settings
import numpy as np
import pytest
from grpc_calls import Http2, array, channel, frame, grpc_port, prefixed, request, stub
from running_server import Server, read_all, wait_until

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
MESSAGE = request().SerializeToString()
CALM = 11


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    limits = {
        "header_timeout_seconds": 0.5,
        "body_timeout_seconds": 0.7,
        "write_timeout_seconds": 1.0,
        "keepalive_seconds": 2.0,
        "keepalive_timeout_seconds": 0.5,
        "max_header_bytes": 4096,
        "max_concurrent_calls": 20,
        "max_resets_per_second": 400,
        "max_control_frames_per_second": 2000,
        "max_message_bytes": 8_000_000,
    }
    scale = [{"name": name, "source": str(models / f"{name}.onnx")} for name in ("scale", "slow")]
    running = Server(tmp_path_factory.mktemp("h2"), {"models": scale, "grpc": limits})
    yield running.until_ready()
    assert running.process.poll() is None
    with channel(running) as link:
        assert array(stub(link).ModelInfer(request())).shape == (2, 3)
    unexpected = [entry for entry in running.logs if "unexpected" in entry["message"]]
    assert unexpected == []
    running.close()


def goaway(client: Http2) -> int:
    return int(client.until(h2.events.ConnectionTerminated).error_code)


def test_a_small_window_is_respected(server: Server) -> None:
    """The answer comes in pieces as the client makes room, between those of another stream."""
    x = np.random.default_rng(0).standard_normal((2000, 3)).astype(np.float32)
    with Http2(server, greet=False) as client:
        client.h2.local_settings = h2.settings.Settings(
            client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1000}
        )
        client.h2.initiate_connection()
        client.flush()
        streams = [client.call("ModelInfer", request(x).SerializeToString()) for _ in range(2)]
        bodies = dict.fromkeys(streams, b"")
        order: list[int] = []
        ended = 0
        for event in client.events(10):
            if isinstance(event, h2.events.DataReceived):
                assert len(event.data) <= 1000
                bodies[event.stream_id] += event.data
                order.append(event.stream_id)
                client.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                client.flush()
            ended += isinstance(event, h2.events.StreamEnded)
            if ended == 2:
                break
    assert bodies[streams[0]] == bodies[streams[1]]
    assert bodies[streams[0]].endswith((x * 2).tobytes()[-4000:])
    assert len({*order[:10]}) == 2


def test_a_client_that_makes_no_room_is_let_go(server: Server) -> None:
    x = np.zeros((100_000, 3), np.float32)
    with Http2(server) as client:
        stream = client.call("ModelInfer", b"")  # a small one first: the connection is good
        client.status(stream)
        number = client.call("ModelInfer", request(x).SerializeToString())
        reset = client.until(h2.events.StreamReset, number, seconds=6)
        assert reset.error_code == 8


def test_a_client_that_does_not_read_is_let_go(server: Server) -> None:
    with Http2(server) as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sock.settimeout(4)
        ping = frame(PING, 0, 0, b"12345678") * 1000
        sent = 0
        with pytest.raises(OSError):  # noqa: PT011, PT012 - the server cuts the connection after the write timeout
            while sent < 500_000_000:
                sent += client.sock.send(ping)
    assert sent < 100_000_000


def test_slow_headers_body_and_silence(server: Server) -> None:
    began = time.monotonic()
    with Http2(server, greet=False) as client:
        client.raw(b"PRI * HTTP/2.0\r\n")
        list(client.events(4))
        assert time.monotonic() - began < 2.5
    with Http2(server) as client:
        stream = client.call("ModelInfer", MESSAGE, end=False)
        assert client.status(stream)[0] == "4"
    with Http2(server) as client:
        client.raw(frame(HEADERS, 0, 1, b"\x83"))
        assert [e for e in client.events(3) if isinstance(e, h2.events.StreamEnded)] == []
    with Http2(server) as client:
        began = time.monotonic()
        seen: list = []
        client.flush_quietly = lambda: None  # type: ignore[method-assign]  # pings are not answered
        seen += client.events(6)
        assert any(isinstance(event, h2.events.PingReceived) for event in seen)
        assert 2 < time.monotonic() - began < 5


def test_one_that_answers_pings_may_be_silent(server: Server) -> None:
    with Http2(server) as client:
        list(client.events(4))
        assert client.status(client.call("ModelInfer", MESSAGE))[0] == "0"


def test_other_protocols_are_told(server: Server) -> None:
    with Http2(server, greet=False) as client:
        client.raw(b"GET /v2/health/live HTTP/1.1\r\nHost: h\r\n\r\n")
        assert b"This port speaks gRPC" in read_all(client.sock)
    with Http2(server, greet=False) as client:
        client.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        settings = read_all(client.sock)
        assert b"HTTP" not in settings


def test_too_many_calls_at_once_are_refused(server: Server) -> None:
    with Http2(server) as client:
        streams = []
        for _ in range(25):
            stream = client.h2.get_next_available_stream_id()
            streams.append(stream)
            client.h2.send_headers(stream, client.headers("ModelInfer"))
        client.flush()
        reset = client.until(h2.events.StreamReset)
        assert reset.error_code == 7
        assert reset.stream_id == streams[20]
        client.h2.send_data(streams[0], prefixed(MESSAGE), end_stream=True)
        client.flush()
        assert client.status(streams[0])[0] == "0"


def header_block(client: Http2, **more: str) -> bytes:
    return bytes(client.h2.encoder.encode(client.headers("ModelInfer", **more)))


def test_continuation(server: Server) -> None:
    with Http2(server) as client:
        block = header_block(client)
        client.raw(frame(HEADERS, 0, 1, block[:5]))
        client.raw(frame(CONTINUATION, 0, 1, block[5:9]) + frame(CONTINUATION, 4, 1, block[9:]))
        client.raw(frame(DATA, 1, 1, prefixed(MESSAGE)))
        client.sock.settimeout(5)
        got = b""
        while b"grpc-status" not in got:
            got += client.sock.recv(65536)
        assert b"grpc-status\x010" in got


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (frame(HEADERS, 0, 1, b"\x83") + frame(CONTINUATION, 0, 1, b"") * 100, CALM),
        (
            frame(HEADERS, 0, 1, b"\x83")
            + frame(CONTINUATION, 0, 1, b"\x00\x01a\x7f\x81\x1e" + b"v" * 4000) * 2,
            CALM,
        ),
        (frame(HEADERS, 4, 1, b"\x00\x01a\x7f\x81\x1e" + b"v" * 6000), CALM),
        (frame(SETTINGS, 0, 0) * 3000, CALM),
        (frame(PRIORITY, 0, 1, b"\0\0\0\0\0") * 3000, CALM),
        (b"".join(frame(HEADERS, 5, n, b"\x80") for n in (1, 3)), 9),
        (frame(HEADERS, 0, 1, b"\x83") + frame(PING, 0, 0, b"12345678"), 1),
        (frame(CONTINUATION, 4, 1, b""), 1),
        (frame(DATA, 0, 1, b"x"), 1),
        (frame(DATA, 0, 0, b"x"), 1),
        (frame(HEADERS, 5, 2, b"\x83"), 1),
        (frame(PUSH, 4, 1, b"\0\0\0\2"), 1),
        (frame(WINDOW, 0, 0, b"\0\0\0\0"), 1),
        (frame(WINDOW, 0, 0, b"\x7f\xff\xff\xff"), 3),
        (frame(WINDOW, 0, 0, b"\0\0\1"), 6),
        (frame(RST_STREAM, 0, 1, b"\0\0\0\0"), 1),
        (frame(PING, 0, 0, b"123"), 6),
        (frame(SETTINGS, 1, 0, b"123456"), 6),
        (frame(SETTINGS, 0, 0, b"\0\4\xff\xff\xff\xff"), 3),
        (frame(SETTINGS, 0, 0, b"\0\5\0\0\0\1"), 1),
        (b"\xff\xff\xff\0\0\0\0\0\1", 6),
    ],
)
def test_what_breaks_http2_ends_the_connection(server: Server, frames: bytes, code: int) -> None:
    with Http2(server) as client:
        client.raw(frames)
        assert goaway(client) == code


def test_the_reason_arrives_while_the_client_still_sends(server: Server) -> None:
    with Http2(server) as client:
        client.raw(frame(DATA, 0, 0, b"x"))
        for _ in range(100):
            client.raw(frame(DATA, 0, 0, b"x" * 10_000))
        assert goaway(client) == 1


def test_empty_data_in_a_flood(server: Server) -> None:
    with Http2(server) as client:
        client.call("ModelInfer", MESSAGE[:3], end=False)
        client.raw(frame(DATA, 0, 1) * 3000)
        assert goaway(client) == CALM


def test_rapid_reset_ends_the_connection(server: Server) -> None:
    with Http2(server) as client:
        header_block(client)
        block = bytes(client.h2.encoder.encode(client.headers("ModelInfer")))
        body = prefixed(MESSAGE)
        flood = b"".join(
            frame(HEADERS, 4, n, block) + frame(DATA, 1, n, body) + frame(RST_STREAM, 0, n, b"\0\0\0\x08")
            for n in range(1, 1001, 2)
        )
        client.raw(flood)
        client.sock.settimeout(5)
        assert read_all(client.sock)[:0] == b""
    wait_until(lambda: server.metric("model_server_grpc_refused_total", code="enhance_your_calm") > 0)


@pytest.mark.parametrize(
    "change",
    [
        {":method": None},
        {":path": ""},
        {"te": "gzip"},
        {"connection": "close"},
        {"X-Upper": "1"},
        {":odd": "1"},
        {"content-length": "3"},
        {"content-length": "abc"},
    ],
)
def test_malformed_requests_are_reset(server: Server, change: dict) -> None:
    with Http2(server) as client:
        headers = [
            (k, change.get(k, v)) for k, v in client.headers("ModelInfer") if change.get(k, v) is not None
        ]
        known = {k for k, _ in headers}
        headers += [(k, v) for k, v in change.items() if v is not None and k not in known]
        client.raw(frame(HEADERS, 4, 1, bytes(client.h2.encoder.encode(headers))))
        client.raw(frame(DATA, 1, 1, prefixed(MESSAGE)))
        client.sock.settimeout(5)
        got = b""
        while b"\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x01" not in got:
            part = client.sock.recv(65536)
            assert part, got
            got += part


def test_pieces_of_every_size_are_read(server: Server) -> None:
    x = np.random.default_rng(2).standard_normal((300, 3)).astype(np.float32)
    for size in (1, 2, 7, 1000):
        with Http2(server, greet=False) as client:
            client.h2.initiate_connection()
            number = client.h2.get_next_available_stream_id()
            client.h2.send_headers(number, client.headers("ModelInfer"))
            body = prefixed(request(x).SerializeToString())
            client.h2.send_data(number, body[:1000], pad_length=9)
            client.h2.send_data(number, body[1000:], end_stream=True)
            data = client.h2.data_to_send()
            for at in range(0, min(len(data), 400), size):
                client.raw(data[at : min(at + size, 400)])
            client.raw(data[400:])
            assert client.status(number)[0] == "0"


def test_connections_are_limited(start: Callable[..., Server], models: Path) -> None:
    scale = [{"name": "scale", "source": str(models / "scale.onnx")}]
    small = start({"grpc": {"max_connections": 2}, "models": scale}).until_ready()
    held = [Http2(small) for _ in range(2)]
    for client in held:
        assert client.status(client.call("ModelInfer", MESSAGE))[0] == "0"
    with socket.create_connection(("127.0.0.1", grpc_port(small)), timeout=5) as extra:
        assert read_all(extra) == b""
    for client in held:
        client.close()
