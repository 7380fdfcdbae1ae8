"""The load of `model-server bench`: connections that each ask again as soon as they are answered."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from time import monotonic, process_time
from typing import cast

import httptools

_OK = 200
_ANSWER_SECONDS = 30.0
_SAMPLE_CHARACTERS = 300
_PAUSE_SECONDS = 0.01


@dataclass
class Step:
    """What a number of clients saw in some seconds."""

    clients: int
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    """Seconds of each right answer."""
    errors: int = 0
    sample: str = ""
    """The first error."""
    client_cpu: float = 0.0
    """Share of a CPU that the load took: near 1, it measured itself."""

    def failed(self, what: str) -> None:
        """Count a request without a right answer."""
        self.errors += 1
        self.sample = self.sample or what[:_SAMPLE_CHARACTERS]


class _Client(asyncio.Protocol):
    """One connection: a request, its answer, the next request, until it is told to stop."""

    def __init__(self, requests: Sequence[bytes], first: int, step: Step) -> None:
        self._requests = requests
        self._next = first
        self._step = step
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""
        self._asked = 0.0
        self._waiting = False
        self.stopping = False
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._step.failed(f"not HTTP: {error}")
            self._waiting = False
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        if self._waiting:
            self._step.failed(f"the connection ended before the answer: {exc or 'closed by the server'}")
        if not self.ended.done():
            self.ended.set_result(None)

    def on_message_begin(self) -> None:
        """An answer's first byte."""
        self._body = b""

    def on_body(self, body: bytes) -> None:
        """Part of an answer's body."""
        self._body += body

    def on_message_complete(self) -> None:
        """The answer is whole: note it, ask again."""
        self._waiting = False
        status = self._parser.get_status_code()
        if status == _OK:
            self._step.latencies.append(monotonic() - self._asked)
        else:
            self._step.failed(f"status {status}: {self._body.decode('utf-8', 'replace')}")
        if self.stopping or not self._parser.should_keep_alive():
            self._transport.close()
        elif status == _OK:
            self._ask()
        else:
            # Refusals are quick: asking again at once would only measure how fast they come.
            asyncio.get_running_loop().call_later(_PAUSE_SECONDS, self._ask)

    def _ask(self) -> None:
        if self.stopping or self._transport.is_closing():
            self._transport.close()
            return
        request = self._requests[self._next % len(self._requests)]
        self._next += 1
        self._waiting = True
        self._asked = monotonic()
        self._transport.write(request)

    def give_up(self) -> None:
        """The answer does not come."""
        if self._waiting:
            self._step.failed(f"no answer within {_ANSWER_SECONDS:g} s of the end of the step")
            self._waiting = False
        self._transport.abort()


async def run_step(host: str, port: int, requests: Sequence[bytes], clients: int, seconds: float) -> Step:
    """Have so many clients ask for so long; the answers under way at the end are waited for and count.

    Raises OSError when the server cannot be reached.
    """
    loop = asyncio.get_running_loop()
    step = Step(clients)
    began, cpu = monotonic(), process_time()
    running: list[_Client] = []
    try:
        for number in range(clients):
            make = partial(_Client, requests, number, step)
            running.append((await loop.create_connection(make, host, port))[1])
        ends = asyncio.gather(*(client.ended for client in running))
        await asyncio.wait({ends}, timeout=seconds)
        for client in running:
            client.stopping = True
        await asyncio.wait({ends}, timeout=_ANSWER_SECONDS)
    finally:
        for client in running:
            if not client.ended.done():
                client.give_up()
    step.seconds = monotonic() - began
    step.client_cpu = (process_time() - cpu) / step.seconds
    return step
