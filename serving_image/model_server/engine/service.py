"""The one way from a protocol to a model: what every protocol calls, and where cross-cutting steps attach.

Fallbacks, response cache, circuit breaker, tracing and payload capture belong here, between `submit` and the
lane, so that each protocol has them without knowing.
"""

import asyncio
from collections.abc import Mapping

from model_server.engine.call import Call
from model_server.models.repository import Repository, Served
from model_server.tensors import Array


class InferenceService:
    """Takes calls for models by name and version."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository

    def submit(self, served: Served, call: Call) -> None:
        """Start a call; `call.on_done` gets the outcome.

        Raises QueueFull, NotReady, DeadlineExceeded.
        """
        served.lane.submit(call)

    async def infer(
        self,
        served: Served,
        inputs: Mapping[str, Array],
        outputs: tuple[str, ...] | None = None,
        *,
        deadline: float | None = None,
        priority: int = 0,
    ) -> Call:
        """Run a call and return it finished; for protocols written with coroutines.

        `deadline` is in seconds of the monotonic clock. A cancelled task cancels the call.
        Raises ServerError.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def finish(_: Call) -> None:
            if not done.done():
                done.set_result(None)

        names = served.lane.signature.output_names if outputs is None else outputs
        call = Call(inputs, names, finish, deadline=deadline, priority=priority)
        self.submit(served, call)
        try:
            await done
        except asyncio.CancelledError:
            call.cancel()
            raise
        if call.error is not None:
            raise call.error
        return call
