"""Answers in parts, over a real socket."""

import asyncio
import contextlib

import pytest
from model_server.errors import ClientGone
from model_server.http.exchange import Exchange
from model_server.http.listener import Listener
from model_server.http.router import Router
from model_server.process.sockets import bind
from model_server.settings import HttpSettings
from model_server.telemetry.metrics import Metrics

ASK = b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n"


async def talk(request: bytes, parts: list[bytes], read: bool = True) -> tuple[bytes, list[str]]:
    """What comes back, and what became of the handler."""
    fate: list[str] = []

    async def handler(exchange: Exchange) -> None:
        stream = exchange.stream(content_type=b"application/x-ndjson")
        try:
            for part in parts:
                if part == b"break":
                    fate.append("broken")
                    raise RuntimeError
                await stream.write(part)
            await stream.end()
            fate.append("ended")
        except (ClientGone, asyncio.CancelledError):
            fate.append("gone")
            raise

    router = Router()
    router.add("GET", "/stream", handler)
    router.add("GET", "/quick", lambda exchange: exchange.respond(200, b"quick"))
    listener = Listener(HttpSettings(), router.dispatch, Metrics())
    (sock,) = bind("127.0.0.1", 0)
    await listener.start(sock)
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    writer.write(request)
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while part := await asyncio.wait_for(reader.read(1000), 10):
            answer += part
            if not read:
                break
    writer.close()
    for _ in range(500):
        if fate:
            break
        await asyncio.sleep(0.01)
    listener.stop_accepting()
    listener.abort()
    return answer, fate


def test_parts_are_chunks_and_later_answers_wait() -> None:
    quick = b"GET /quick HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    answer, fate = asyncio.run(talk(ASK + quick, [b"one\n", b"", b"two\n"]))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    assert body.startswith(b"4\r\none\n\r\n4\r\ntwo\n\r\n0\r\n\r\nHTTP/1.1 200 OK")
    assert body.endswith(b"quick")
    assert fate == ["ended"]


def test_http_1_0_gets_plain_bytes_until_the_end() -> None:
    answer, _ = asyncio.run(talk(b"GET /stream HTTP/1.0\r\n\r\n", [b"one\n", b"two\n"]))
    assert answer.endswith(b"\r\n\r\none\ntwo\n")
    assert b"chunked" not in answer


@pytest.mark.parametrize("size", [10_000])
def test_a_client_that_leaves_stops_the_making(size: int) -> None:
    _, fate = asyncio.run(talk(ASK, [b"x" * size] * 100_000, read=False))
    assert fate == ["gone"]


def test_a_handler_that_breaks_cuts_the_answer_off() -> None:
    answer, fate = asyncio.run(talk(ASK, [b"one\n", b"break"]))
    assert b"one" in answer
    assert not answer.endswith(b"0\r\n\r\n")
    assert fate == ["broken"]
