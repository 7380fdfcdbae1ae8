"""Two HTTP servers with nothing in between: what the libraries allow, not what one would run."""

import asyncio
import sys
from collections.abc import Awaitable, Callable

import httptools
import numpy as np
import onnxruntime
import orjson
import uvicorn
import uvloop

root, port, name, program = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(f"{root}/{name}/model.onnx", options)
shape = [1, *session.get_inputs()[0].shape[1:]]


def answer(path: str, body: bytes) -> bytes:
    if path == "/raw":
        (out,) = session.run(None, {"input": np.frombuffer(body, np.float32).reshape(shape)})
        return out.tobytes()
    (out,) = session.run(None, {"input": np.array(orjson.loads(body)["inputs"], np.float32)})
    return orjson.dumps({"outputs": out}, option=orjson.OPT_SERIALIZE_NUMPY)


async def asgi(
    scope: dict, receive: Callable[[], Awaitable[dict]], send: Callable[[dict], Awaitable[None]]
) -> None:
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    body = answer(scope["path"], b"".join(parts))
    length = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": body})


class Protocol(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.parts: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_body(self, body: bytes) -> None:
        self.parts.append(body)

    def on_message_complete(self) -> None:
        body = answer(self.url.decode(), b"".join(self.parts))
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


async def protocol() -> None:
    server = await asyncio.get_running_loop().create_server(Protocol, "127.0.0.1", int(port), backlog=1024)
    await server.serve_forever()


if program == "asgi":
    uvicorn.run(
        asgi,
        host="127.0.0.1",
        port=int(port),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
    )
else:
    uvloop.run(protocol())
