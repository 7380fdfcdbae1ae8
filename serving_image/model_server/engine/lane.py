"""The lane of one model version: its queue, its batches, its runs.

Turn batching: calls that arrive in one turn of the event loop run together at the end of that turn, so an
idle server adds no wait and a busy one batches by itself. A run that is known to be short happens on the
event loop; a longer one in a thread. Everything here but `_run_in_thread` happens on the event loop.
"""

import asyncio
from collections import deque
from concurrent.futures import Executor
from time import monotonic, thread_time

import numpy as np

from model_server.engine.call import Call
from model_server.engine.warmup import Learned
from model_server.errors import DeadlineExceeded, ModelFailed, NotReady, QueueFull, ServerError
from model_server.models.format import Model
from model_server.settings import ModelSettings
from model_server.telemetry.logs import log
from model_server.telemetry.model_meters import ModelMeters
from model_server.tensors import Array

_SURPRISE = 25.0
"""Times the inline limit: far more than a wrong guess of the cost can explain."""


class Lane:
    """Where calls for one model version wait and run."""

    def __init__(
        self,
        model: Model,
        settings: ModelSettings,
        meters: ModelMeters,
        executor: Executor,
        learned: Learned,
        inline_seconds: float,
    ) -> None:
        self.meters = meters
        self.signature = model.signature
        self.settings = settings
        self._model = model
        self._executor = executor
        self._cost = learned.cost
        self._inline_seconds = inline_seconds
        self._inline_limit = inline_seconds if model.steady else 0.0
        self._max_rows = learned.max_rows
        self._window_seconds = settings.batching.window_ms / 1000
        self._fixed_tails = all(-1 not in spec.shape[1:] for spec in model.signature.inputs)
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Call] = deque()
        self._waiting = 0
        self._running: list[list[Call]] = []
        self._turn_due = False
        self._window: asyncio.TimerHandle | None = None
        self._window_rows = 0
        self._watch: asyncio.TimerHandle | None = None
        self._watch_at = 0.0
        self._closing: asyncio.Future[None] | None = None

    def submit(self, call: Call) -> None:
        """Queue a call. Raises QueueFull, NotReady, DeadlineExceeded."""
        if self._closing is not None:
            raise NotReady("the model version is being unloaded; try again")
        if self._waiting >= self.settings.queue_size:
            self.meters.rejected.add()
            raise QueueFull(f"{self._waiting} requests wait for this model already, which is its limit")
        now = monotonic()
        limit = call.received + self.settings.timeout_seconds
        if call.deadline is None or call.deadline > limit:
            call.deadline = limit
        if call.deadline <= now:
            raise DeadlineExceeded("the request's time was over when it arrived")
        call.queued = now
        call.lane = self
        if self._max_rows > 1:
            call.rows = _rows(call)
        self._insert(call)
        self._wait_for(1)
        if len(self._running) >= self.settings.concurrency:
            self._watch_until(call.deadline)
        elif not self._turn_due:
            self._turn_due = True
            if self._window_seconds and self._may_wait(call, now):
                self._window_rows = call.rows
                self._window = self._loop.call_later(self._window_seconds, self._turn)
            else:
                self._loop.call_soon(self._turn)
        elif self._window is not None:
            self._window_rows += call.rows
            if self._window_rows >= self._max_rows or not self._may_wait(call, now):
                self._window.cancel()
                self._window = None
                self._loop.call_soon(self._turn)

    def _may_wait(self, call: Call, now: float) -> bool:
        """Company may come for this call, and its deadline allows to wait for it."""
        in_time = call.deadline is None or call.deadline > now + self._window_seconds
        return 0 < call.rows < self._max_rows and in_time

    def forget(self, call: Call) -> None:
        """A waiting call was cancelled; Call.cancel tells us."""
        if not call.started:
            self._wait_for(-1)
            self._sweep()

    def _wait_for(self, calls: int) -> None:
        self._waiting += calls
        self.meters.waiting.set(self._waiting)

    def _sweep(self) -> None:
        """Drop the calls that nobody waits for once they outnumber the others.

        They would go at their turn, but behind a slow run that is far away, and each holds its inputs.
        """
        queue = self._queue
        if len(queue) > 2 * self._waiting:
            alive = [call for call in queue if not call.cancelled]
            queue.clear()
            queue.extend(alive)

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return self._waiting

    async def close(self) -> None:
        """Take no more calls, finish those taken, free the model."""
        self._closing = self._loop.create_future()
        self._closed_if_idle()
        await self._closing
        # Freeing a large model takes milliseconds, in which the event loop answers for the others.
        await self._loop.run_in_executor(None, self._model.close)

    def _insert(self, call: Call) -> None:
        queue = self._queue
        if not queue or queue[-1].priority <= call.priority:
            queue.append(call)
            return
        at = next(index for index, other in enumerate(queue) if other.priority > call.priority)
        queue.insert(at, call)

    def _turn(self) -> None:
        """Run what waits, as far as threads and this turn's time allow."""
        self._turn_due = False
        if self._window is not None:
            self._window.cancel()
            self._window = None
        spent = 0.0
        while self._queue and len(self._running) < self.settings.concurrency:
            if spent > self._inline_seconds:
                # Other connections and models get their turn before this lane goes on.
                self._turn_due = True
                self._loop.call_soon(self._turn)
                return
            batch = self._take()
            if not batch:
                break
            elements = sum(array.size for call in batch for array in call.inputs.values())
            if self._cost.expect(elements) <= self._inline_limit:
                took = self._run(batch, elements)
                spent += took
                if took > _SURPRISE * self._inline_seconds:
                    self._leave_the_loop(took)
                self._answer(batch)
            else:
                self._running.append(batch)
                self._executor.submit(self._run_in_thread, batch, elements)
        if self._running:
            self._watch_deadlines()
        self._closed_if_idle()

    def _leave_the_loop(self, took: float) -> None:
        """A run was far longer than foretold: from now on this model runs in threads only."""
        self._inline_limit = 0.0
        log.warning(
            "the model took longer than foretold; it runs in threads from now on",
            extra={"model": self.settings.name, "ms": round(took * 1000, 1)},
        )

    def _take(self) -> list[Call]:
        """The next calls that can share a run, oldest first; none if nothing alive waits."""
        batch: list[Call] = []
        apart: list[Call] = []
        rows = 0
        now = monotonic()
        queue = self._queue
        while queue:
            call = queue.popleft()
            if call.cancelled:
                continue
            if call.deadline is not None and call.deadline <= now:
                self._expire(call)
                continue
            if not batch:
                # From here on it does not wait: one that expires below may cancel it.
                call.started = now
                batch.append(call)
                rows = call.rows
                if not rows:
                    break
            elif rows + call.rows <= self._max_rows and call.rows and self._stackable(batch[0], call):
                call.started = now
                batch.append(call)
                rows += call.rows
            else:
                apart.append(call)
                if rows + call.rows > self._max_rows or len(apart) > self._max_rows:
                    break
            if rows >= self._max_rows:
                break
        queue.extendleft(reversed(apart))
        self._wait_for(-len(batch))
        for call in batch:
            call.batch_rows = rows
        return batch

    def _stackable(self, first: Call, other: Call) -> bool:
        if first.outputs != other.outputs:
            return False
        if self._fixed_tails:
            return True
        return all(first.inputs[name].shape[1:] == array.shape[1:] for name, array in other.inputs.items())

    def _run(self, batch: list[Call], elements: int) -> float:
        """Fill in results or errors; never raises. Returns this thread's CPU seconds.

        Decisions rest on CPU time: by the clock, a busy neighbour on the machine makes every model slow.
        """
        started = monotonic()
        cpu_started = thread_time()
        if len(batch) == 1:
            self._run_one(batch[0])
        else:
            try:
                self._run_stacked(batch)
            except ServerError:
                # One call's values may have broken it for all: each gets what it would have got alone.
                for call in batch:
                    self._run_one(call)
        cpu = thread_time() - cpu_started
        finished = monotonic()
        for call in batch:
            call.started = started
            call.finished = finished
        if batch[0].error is None:
            self._cost.observe(elements, cpu)
        return cpu

    def _run_one(self, call: Call) -> None:
        call.batch_rows = call.rows or 1
        try:
            call.results = self._model.run(call.inputs, call.outputs)
        except ServerError as error:
            call.error = error

    def _run_stacked(self, batch: list[Call]) -> None:
        first = batch[0]
        stacked = {name: np.concatenate([call.inputs[name] for call in batch]) for name in first.inputs}
        results = self._model.run(stacked, first.outputs)
        rows = first.batch_rows
        if any(not result.shape or result.shape[0] != rows for result in results):
            raise ModelFailed("the outputs do not have a row for each row of the inputs")
        start = 0
        for call in batch:
            end = start + call.rows
            call.results = [result[start:end] for result in results]
            start = end

    def _run_in_thread(self, batch: list[Call], elements: int) -> None:
        try:
            self._run(batch, elements)
        finally:
            self._loop.call_soon_threadsafe(self._thread_done, batch)

    def _thread_done(self, batch: list[Call]) -> None:
        self._running.remove(batch)
        self._answer(batch)
        self._turn()

    def _answer(self, batch: list[Call]) -> None:
        self.meters.observe_batch(batch)
        for call in batch:
            if call.cancelled:
                continue
            try:
                call.on_done(call)
            except Exception:
                log.exception("an answer could not be delivered")

    def _expire(self, call: Call) -> None:
        if not call.started:
            self._wait_for(-1)
        call.error = DeadlineExceeded("the request's time ran out before the model answered")
        call.cancelled = True
        call.finished = monotonic()
        self.meters.expired.add()
        try:
            call.on_done(call)
        except Exception:
            log.exception("an answer could not be delivered")

    def _watch_deadlines(self) -> None:
        """Have calls that wait, or run in a thread, answered when their time is over."""
        deadlines = [
            call.deadline
            for calls in (self._queue, *self._running)
            for call in calls
            if not call.cancelled and call.deadline is not None
        ]
        if deadlines:
            self._watch_until(min(deadlines))

    def _watch_until(self, deadline: float) -> None:
        if self._watch is not None:
            if self._watch_at <= deadline:
                return
            self._watch.cancel()
        self._watch_at = deadline
        self._watch = self._loop.call_later(max(0.001, deadline - monotonic()), self._expire_due)

    def _expire_due(self) -> None:
        self._watch = None
        now = monotonic()
        # Who is told may cancel other calls, which changes the queue: look at a copy.
        for call in [call for calls in (self._queue, *self._running) for call in calls]:
            if not call.cancelled and call.deadline is not None and call.deadline <= now:
                self._expire(call)
        self._sweep()
        self._watch_deadlines()

    def _closed_if_idle(self) -> None:
        if self._closing is not None and not self._closing.done() and not self._waiting and not self._running:
            self._closing.set_result(None)


def _rows(call: Call) -> int:
    """Rows that all inputs share along the first dimension; 0 if they do not."""
    rows = -1
    for array in call.inputs.values():
        size: Array | int = array.shape[0] if array.shape else 0
        if rows not in (-1, size):
            return 0
        rows = int(size)
    return max(rows, 0)
