"""The lane by itself: what its queue holds, and when a window ends."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from time import monotonic

import numpy as np
import pytest
from model_server.engine.call import Call
from model_server.engine.cost import Cost
from model_server.engine.lane import Lane
from model_server.engine.warmup import Learned
from model_server.models.format import Model
from model_server.settings import BatchingSettings, ModelSettings
from model_server.telemetry.metrics import Metrics
from model_server.telemetry.model_meters import ModelMeters
from model_server.tensors import Array, Signature, TensorSpec


class Held(Model):
    """Gives its input back, once it is let go."""

    platform = "test"
    steady = False

    def __init__(self) -> None:
        spec = (TensorSpec("x", "FP32", (-1, 2)),)
        self.signature = Signature(spec, (TensorSpec("y", "FP32", (-1, 2)),))
        self.go = threading.Event()
        self.batches: list[int] = []

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        self.go.wait(10)
        self.batches.append(len(inputs["x"]))
        return [inputs["x"]]

    def close(self) -> None:
        pass


@contextmanager
def lane_of(model: Model, max_rows: int = 4, **batching: float) -> Iterator[Lane]:
    settings = ModelSettings(name="m", source="/m", queue_size=100_000, batching=BatchingSettings(**batching))
    with ThreadPoolExecutor(1) as pool:
        meters = ModelMeters(Metrics(), "m", "1")
        yield Lane(model, settings, meters, pool, Learned(Cost(), max_rows), inline_seconds=0.002)


def call(done: Callable[[Call], None], deadline: float | None = None) -> Call:
    return Call({"x": np.ones((1, 2), np.float32)}, ("y",), done, deadline=deadline)


async def answers(calls: Sequence[Call], seconds: float = 5) -> None:
    limit = monotonic() + seconds
    while not all(each.finished for each in calls):
        assert monotonic() < limit
        await asyncio.sleep(0.001)


def test_a_flood_of_cancelled_calls_does_not_stay_in_the_queue() -> None:
    async def run() -> None:
        model = Held()
        with lane_of(model) as lane:
            kept = [call(lambda _: None) for _ in range(3)]
            lane.submit(kept[0])
            await asyncio.sleep(0.01)
            most = 0
            for number in range(5000):
                if number in (1000, 2000):
                    lane.submit(kept[number // 1000])
                gone = call(lambda _: None)
                lane.submit(gone)
                gone.cancel()
                most = max(most, len(lane._queue))
            assert lane.waiting == 2
            assert most < 10
            model.go.set()
            await answers(kept)
            assert model.batches == [1, 2]
            await lane.close()

    asyncio.run(run())


def test_expired_calls_do_not_stay_in_the_queue_and_may_cancel_others() -> None:
    async def run() -> None:
        model = Held()
        with lane_of(model) as lane:
            first = call(lambda _: None)
            lane.submit(first)
            await asyncio.sleep(0.01)
            others = [call(lambda _: None) for _ in range(50)]
            soon = monotonic() + 0.05
            faults: list[dict] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
            lane.submit(call(lambda _: [other.cancel() for other in others[:40]] and None, soon))
            for other in others:
                lane.submit(other)
            await asyncio.sleep(0.15)
            assert faults == []
            assert lane.waiting == 10
            assert len(lane._queue) <= 20
            model.go.set()
            await answers([first, *others[40:]])
            await lane.close()

    asyncio.run(run())


@pytest.mark.parametrize(("count", "waits"), [(3, True), (4, False), (9, False)])
def test_a_window_ends_when_the_batch_is_full(count: int, waits: bool) -> None:
    async def run() -> None:
        model = Held()
        model.go.set()
        with lane_of(model, window_ms=300) as lane:
            calls = [call(lambda _: None) for _ in range(count)]
            began = monotonic()
            for each in calls:
                lane.submit(each)
                await asyncio.sleep(0)
            await answers(calls[: count // 4 * 4] or calls)
            assert (monotonic() - began >= 0.29) is waits
            assert model.batches[0] == min(count, 4)
            await answers(calls)
            await lane.close()

    asyncio.run(run())


def test_a_window_does_not_outlast_a_deadline() -> None:
    async def run() -> None:
        model = Held()
        model.go.set()
        with lane_of(model, window_ms=300) as lane:
            calls = [call(lambda _: None), call(lambda _: None, monotonic() + 0.2)]
            for each in calls:
                lane.submit(each)
            await answers(calls)
            assert [each.error for each in calls] == [None, None]
            assert model.batches == [2]
            await lane.close()

    asyncio.run(run())


def test_a_call_that_is_cancelled_while_its_batch_is_made_counts_once() -> None:
    async def run() -> None:
        model = Held()
        with lane_of(model) as lane:
            first = call(lambda _: None)
            lane.submit(first)
            await asyncio.sleep(0.01)
            taken = call(lambda _: None)
            lane.submit(taken)
            lane.submit(call(lambda _: taken.cancel(), monotonic() + 0.02))
            model.go.set()
            # The loop does not turn: the deadline passes, and the batch is made before it is noticed.
            threading.Event().wait(0.05)
            await answers([first])
            await asyncio.sleep(0.05)
            assert lane.waiting == 0
            await asyncio.wait_for(lane.close(), 1)

    asyncio.run(run())
