"""Continuous load, on kept and on new connections; every answer is checked."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Request:
    """A request, and how its answer is read: `read` returns what identifies the model, or raises."""

    path: str
    body: bytes
    read: Callable[[bytes], str]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What became of a request."""

    sent: float
    done: float
    variant: str
    value: str
    failure: str = ""


class Load:
    """Sends requests for as long as the `with` block lasts, which begins with the first answer."""

    def __init__(
        self, url: str, make: Callable[[], Request], kept: int = 4, new: int = 2, pause: float = 0.02
    ) -> None:
        """`kept` and `new` connections at a time; each waits for `pause` seconds between its requests."""
        address = urlsplit(url)
        self._host, self._port = str(address.hostname), int(address.port or 80)
        self._make, self._kept, self._new, self._pause = make, kept, new, pause
        self.answers: list[Answer] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        while not self.answers:
            time.sleep(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        """End; what is under way is waited for."""
        self._stop.set()
        self._thread.join(timeout=60)

    @property
    def failures(self) -> list[str]:
        """Why requests failed, each reason with its count."""
        reasons = Counter(answer.failure for answer in self.answers if answer.failure)
        return [f"{count} x {reason}" for reason, count in reasons.most_common(20)]

    def values(self, since: float = 0) -> Counter[str]:
        """How many of the requests sent `since` then were answered by what."""
        return Counter(answer.value for answer in self.answers if answer.sent >= since)

    def report(self, what: str) -> None:
        """Say how it went, for the record of the tests."""
        failed = sum(1 for answer in self.answers if answer.failure)
        slowest = max(answer.done - answer.sent for answer in self.answers)
        print(
            f"\n[load] {what}: {len(self.answers)} requests, {failed} failed, slowest {slowest * 1000:.0f} ms"
        )

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._kept + self._new):
                tasks.create_task(self._client(keep=number < self._kept))

    async def _client(self, keep: bool) -> None:
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not self._stop.is_set():
            request, sent = self._make(), time.monotonic()
            variant = value = failure = ""
            try:
                async with asyncio.timeout(40):
                    if connection is None:
                        connection = await asyncio.open_connection(self._host, self._port)
                    status, headers, body = await _exchange(*connection, request)
                variant = headers.get("x-variant", "")
                if status == 200:
                    value = request.read(body)
                else:
                    failure = f"{status}: {body[:200].decode(errors='replace')}"
                if not keep or headers.get("connection") == "close":
                    connection[1].close()
                    connection = None
            except (OSError, EOFError, ValueError, KeyError, TimeoutError) as error:
                failure = f"{type(error).__name__}: {error}"
                if connection:
                    connection[1].close()
                connection = None
            self.answers.append(Answer(sent, time.monotonic(), variant, value, failure))
            await asyncio.sleep(self._pause)
        if connection:
            connection[1].close()


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Request
) -> tuple[int, dict[str, str], bytes]:
    lines = [f"POST {request.path} HTTP/1.1", "content-type: application/json"]
    lines += [f"{name}: {value}" for name, value in ({"host": "gateway"} | dict(request.headers)).items()]
    lines += [f"content-length: {len(request.body)}", "", ""]
    writer.write("\r\n".join(lines).encode() + request.body)
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
    }
    body = await reader.readexactly(int(headers["content-length"]))
    return int(head[0].split()[1]), headers, body
