"""How a change asked of one worker reaches all: lines of JSON between the workers and the master.

worker -> master  {"ask": 7, "operation": "apply", "model": "fraud", "detail": {…}}
master -> workers {"do": 12, "operation": "apply", "model": "fraud", "detail": {…}}
workers -> master {"done": 12, "error": null}            or {"status": 500, "message": …}
master -> worker  {"answer": 7, "error": null}           the first error, if there is one
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import orjson

from model_server.errors import LoadFailed, NotFound, ServerError
from model_server.telemetry.logs import log

LINE_BYTES = 1 << 20

Operation = Callable[[str, str, dict[str, Any]], Awaitable[None]]
"""Called with an operation, the model's name and details; raises ServerError."""


class ControlChannel:
    """A worker's end."""

    def __init__(self, sock: socket.socket, operate: Operation, on_lost: Callable[[], object]) -> None:
        self._sock = sock
        self._operate = operate
        self._on_lost = on_lost
        self._asked: dict[int, asyncio.Future[None]] = {}
        self._next = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writer: asyncio.StreamWriter | None = None

    async def start(self) -> None:
        """Begin to listen to the master."""
        reader, self._writer = await asyncio.open_connection(sock=self._sock, limit=LINE_BYTES)
        self._spawn(self._read(reader))

    async def ask(self, operation: str, model: str, detail: dict[str, Any]) -> None:
        """Have every worker do it. Raises what the first that failed raised."""
        self._next += 1
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked[self._next] = answered
        self._send({"ask": self._next, "operation": operation, "model": model, "detail": detail})
        await answered

    async def _read(self, reader: asyncio.StreamReader) -> None:
        # A master that is killed with words of ours unread resets the connection instead of closing it.
        with suppress(ConnectionError):
            while line := await reader.readline():
                message = orjson.loads(line)
                if "do" in message:
                    self._spawn(self._do(message))
                else:
                    self._finish(message)
        log.error("the master process is gone; stopping")
        self._on_lost()

    async def _do(self, message: dict[str, Any]) -> None:
        error: dict[str, Any] | None = None
        try:
            await self._operate(message["operation"], message["model"], message["detail"])
        except ServerError as failure:
            error = {"status": failure.status, "message": failure.message}
        except Exception:
            log.exception("a control operation failed", extra={"operation": message["operation"]})
            error = {"status": 500, "message": "internal error; the server's log has the details"}
        self._send({"done": message["do"], "error": error})

    def _finish(self, message: dict[str, Any]) -> None:
        answered = self._asked.pop(message["answer"])
        error = message["error"]
        if answered.done():
            return
        if error is None:
            answered.set_result(None)
        else:
            kind = NotFound if error["status"] == NotFound.status else LoadFailed
            answered.set_exception(kind(error["message"]))

    def _send(self, message: dict[str, Any]) -> None:
        if self._writer is not None:
            self._writer.write(orjson.dumps(message) + b"\n")

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
