"""A stop under load: whoever got a connection gets an answer."""

import asyncio
import json
import random
import select
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop
from model_server.http.port import Port
from running_server import Server, infer_body

BODY = json.dumps(infer_body([1, 2, 3], [1, 3])).encode()
REQUEST = b"POST /v2/models/scale/infer HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
RIGHT = b"[2.0,4.0,6.0]"
KINDS = {"new": 12, "kept": 6, "pausing": 12}
AFTER_TERM_SECONDS = 20


class Load:
    """Clients that go on until their connection is refused: then, and only then, the server is gone."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.right = 0
        self.lost: list[str] = []

    async def client(self, kind: str) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except ConnectionRefusedError:
                return
            except OSError as error:
                self.lost.append(f"{kind}: connecting: {error!r}")
                continue
            try:
                await self.converse(kind, reader, writer)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.lost.append(f"{kind}: {error!r}")
            finally:
                writer.close()

    async def converse(self, kind: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(REQUEST)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(length)
            if RIGHT in body:
                self.right += 1
            else:
                self.lost.append(f"{kind}: {body!r}")
            if kind == "new" or b"connection: close" in head:
                return
            if kind == "pausing":
                await asyncio.sleep(random.uniform(0.01, 0.1))


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_stop_under_load_loses_no_request(start: Callable[..., Server], models: Path, workers: int) -> None:
    declared = [{"name": "scale", "source": str(models / "scale.onnx")}]
    server = start({"server": {"workers": workers}, "grpc": {"enabled": False}, "models": declared})
    server.until_ready()

    async def run() -> Load:
        load = Load(server.port)
        clients = [
            asyncio.create_task(load.client(kind)) for kind, count in KINDS.items() for _ in range(count)
        ]
        await asyncio.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        done, waiting = await asyncio.wait(clients, timeout=AFTER_TERM_SECONDS)
        assert not waiting
        for task in done:
            task.result()
        return load

    load = asyncio.run(run())
    assert load.right > 100
    assert load.lost == []
    assert server.process.wait(timeout=30) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="other systems close with a gap of microseconds")
def test_a_closing_port_accepts_who_got_through_and_turns_the_others_away() -> None:
    accepted: list[asyncio.Protocol] = []

    class Connection(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            accepted.append(self)

    async def run() -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        address = listening.getsockname()
        port = Port(listening, Connection)
        await port.open()
        # The loop does not turn: these wait in the kernel, connected.
        early = [socket.create_connection(address) for _ in range(5)]
        closed = asyncio.Event()
        port.close(closed.set)
        with socket.socket() as late:
            late.setblocking(False)
            late.connect_ex(address)
            waiting = select.poll()
            waiting.register(late, select.POLLOUT)
            assert waiting.poll(20) == [], "a handshake that the port would have to cut"
            await asyncio.wait_for(closed.wait(), 5)
        assert len(accepted) == len(early)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        for sock in early:
            sock.close()

    uvloop.run(run())
