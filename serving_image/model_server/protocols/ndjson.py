"""Long batches as NDJSON: a row a line in, an answer a line out, in the same order.

    {"sepal length": 5.1, …}     →   {"row": 0, "prediction": {…}}
    {"sepal length": "x", …}     →   {"row": 1, "error": "feature 'sepal length': got …"}

A row that fails does not end the others. Memory is bounded: rows that arrive together run together, a few
runs are under way at a time, and nobody reads on while answers wait for the client. Blank lines are skipped,
and counted. If the body breaks off, the last line is `{"error": …}` without a row, and the connection ends.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import orjson

from model_server.engine.service import InferenceService
from model_server.errors import (
    BreakerOpen,
    InvalidRequest,
    ModelFailed,
    NotReady,
    QueueFull,
    ServerError,
    UnsupportedMediaType,
)
from model_server.http.exchange import Exchange
from model_server.http.incoming import STREAMED
from model_server.models.repository import Served
from model_server.protocols.columns import columns_of
from model_server.protocols.common import deadline_of
from model_server.protocols.outputs import class_labels, records
from model_server.tensors import named

ROWS_PER_RUN = 64
"""Rows that are decoded and run together at most."""
RUNS_UNDER_WAY = 4
"""Runs of one stream at a time: enough to keep the model busy while answers are written."""

_RETRY_SECONDS = 0.02

Numbered = tuple[int, bytes]
"""A row's number, from 0, and its line."""


class RowStream:
    """One request whose rows are answered as they are done."""

    def __init__(
        self, service: InferenceService, exchange: Exchange, served: Served, max_line_bytes: int
    ) -> None:
        assert exchange.incoming is not None
        self._service = service
        self._served = served
        self._exchange = exchange
        self._incoming = exchange.incoming
        self._deadline = deadline_of(exchange)
        self._max_line_bytes = max_line_bytes
        self._columns = columns_of(served)
        self._labels = class_labels(served)
        self._runs: deque[asyncio.Task[bytes]] = deque()
        self._next_row = 0

    async def run(self) -> None:
        """Answer the whole stream. Raises InvalidRequest, UnsupportedMediaType."""
        if b"content-encoding" in self._exchange.headers:
            raise UnsupportedMediaType("Content-Encoding: NDJSON streams are read uncompressed only")
        self._columns.check_has_rows()
        self._answer = self._exchange.stream(200, STREAMED)
        try:
            await self._answer_all()
        finally:
            for run in self._runs:
                run.cancel()

    async def _answer_all(self) -> None:
        fault: str | None = None
        try:
            async for lines in self._lines():
                for rows in self._numbered(lines):
                    await self._begin(rows)
        except InvalidRequest as error:
            fault = error.message
        while self._runs:
            await self._write_oldest()
        if fault is not None:
            self._served.lane.meters.failed(InvalidRequest.kind)
            await self._answer.write(_line({"error": fault}))
            # What is left of the body is not read: the connection cannot be used again.
            self._exchange.keep_alive = False
        await self._answer.end()

    async def _lines(self) -> AsyncIterator[list[bytes]]:
        """The body's lines as they become complete. Raises InvalidRequest if it breaks off."""
        begun: list[bytes] = []
        size = 0
        while data := await self._next_data():
            head, newline, rest = data.partition(b"\n")
            begun.append(head)
            size += len(head)
            if size > self._max_line_bytes:
                raise InvalidRequest(f"row {self._next_row}: the line is over {self._max_line_bytes} bytes")
            if newline:
                *lines, last = rest.split(b"\n")
                yield [b"".join(begun), *lines]
                begun, size = [last], len(last)
        yield [b"".join(begun)]

    async def _next_data(self) -> bytes:
        """More of the body; answers that are done meanwhile are written."""
        reading = asyncio.ensure_future(self._incoming.read())
        try:
            while not reading.done() and self._runs:
                await asyncio.wait((reading, self._runs[0]), return_when=asyncio.FIRST_COMPLETED)
                while self._runs and self._runs[0].done():
                    await self._write_oldest()
            return await reading
        finally:
            reading.cancel()

    def _numbered(self, lines: list[bytes]) -> Iterator[list[Numbered]]:
        """Lines with their row numbers, in portions that run together."""
        # Rows of a model that must not, or need not, be stacked run one by one.
        size = max(1, min(ROWS_PER_RUN, self._served.batch_rows))
        for start in range(0, len(lines), size):
            portion = lines[start : start + size]
            rows = [(self._next_row + at, line) for at, line in enumerate(portion) if line.strip()]
            self._next_row += len(portion)
            if rows:
                yield rows

    async def _begin(self, rows: list[Numbered]) -> None:
        while len(self._runs) >= RUNS_UNDER_WAY:
            await self._write_oldest()
        self._runs.append(asyncio.get_running_loop().create_task(self._run(rows)))

    async def _write_oldest(self) -> None:
        answer = await self._runs[0]
        self._runs.popleft()
        await self._answer.write(answer)

    async def _run(self, rows: list[Numbered]) -> bytes:
        """The answers of these rows, a line each."""
        try:
            answers = await self._infer([(number, self._parse(line)) for number, line in rows])
        except (InvalidRequest, ModelFailed):
            # One row may have failed the run for all: each gets what it would have got alone.
            answers = [await self._alone(number, line) for number, line in rows]
        except ServerError as error:
            answers = [self._failed(number, error) for number, _ in rows]
        return b"".join(answers)

    async def _alone(self, number: int, line: bytes) -> bytes:
        try:
            (answer,) = await self._infer([(number, self._parse(line))])
        except ServerError as error:
            return self._failed(number, error)
        return answer

    def _parse(self, line: bytes) -> Sequence[Any]:
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise InvalidRequest(f"not JSON: {error}") from None
        if type(record) is not dict:
            raise InvalidRequest(f"got {named(record)}, expected an object of features")
        return self._columns.row_of(record, "")

    async def _infer(self, rows: list[tuple[int, Sequence[Any]]]) -> list[bytes]:
        inputs = self._columns.tensors([row for _, row in rows], _feature)
        while True:
            try:
                call = await self._service.infer(
                    self._served, inputs, deadline=self._deadline, caller=self._exchange
                )
                break
            except BreakerOpen:
                # Waiting is for the model to become free; this one is to be left alone.
                raise
            except (QueueFull, NotReady) as error:
                if isinstance(error, NotReady):
                    self._follow_reload()
                # A stream can wait where a single request could not: hold back the client instead.
                await asyncio.sleep(_RETRY_SECONDS)
        found = records(self._served.lane.signature, call.results, len(rows), self._labels)
        # The answer's headers have left: what the degradation ladder has to say is said of each row.
        degraded = {} if call.degraded is None else call.degraded.parameters()
        return [
            _line({"row": number, "prediction": prediction, **degraded})
            for (number, _), prediction in zip(rows, found, strict=True)
        ]

    def _follow_reload(self) -> None:
        """The version was unloaded while the stream ran: go on with its successor if it looks the same.

        Raises NotReady, NotFound, ModelFailed.
        """
        successor = self._service.repository.get(self._served.name)
        if successor.lane is self._served.lane:
            return
        if successor.lane.signature != self._served.lane.signature:
            raise ModelFailed("the model was replaced by one with another signature; send the rest again")
        self._served = successor

    def _failed(self, number: int, error: ServerError) -> bytes:
        self._served.lane.meters.failed(error.kind)
        return _line({"row": number, "error": error.message})


def _feature(_: int, name: str) -> str:
    return f"feature {name!r}"


def _line(document: object) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)
