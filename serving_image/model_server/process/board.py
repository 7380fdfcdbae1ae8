"""What the processes of one server know of each other: a few numbers a worker, in shared memory."""

import mmap
from enum import IntEnum
from time import monotonic

_FIELDS = 2
_STATE, _HEARTBEAT = range(_FIELDS)
_DOUBLE_BYTES = 8
_SILENT_SECONDS = 2.0


class WorkerState(IntEnum):
    """Life of a worker."""

    STARTING = 0
    READY = 1
    NOT_READY = 2
    """Running, but a declared model cannot answer."""
    STOPPING = 3
    DEAD = 4
    """Written by the master."""


class Board:
    """One row a worker; each worker writes its own, the master may write any."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._rows = memoryview(mmap.mmap(-1, workers * _FIELDS * _DOUBLE_BYTES)).cast("d")

    def state(self, worker: int) -> WorkerState:
        """The worker's state as last written."""
        return WorkerState(int(self._rows[worker * _FIELDS + _STATE]))

    def set_state(self, worker: int, state: WorkerState) -> None:
        """Write a worker's state, which is a sign of life too."""
        self._rows[worker * _FIELDS + _STATE] = float(state)
        self.beat(worker)

    def beat(self, worker: int) -> None:
        """Write that a worker's event loop turns."""
        self._rows[worker * _FIELDS + _HEARTBEAT] = monotonic()

    def silent_seconds(self, worker: int) -> float:
        """Time since the last heartbeat."""
        return monotonic() - self._rows[worker * _FIELDS + _HEARTBEAT]

    def not_ready(self, besides: int) -> list[str]:
        """What is wrong with the workers other than `besides`; empty when all can answer."""
        reasons: list[str] = []
        for worker in range(self.workers):
            state = self.state(worker)
            if worker == besides:
                continue
            if state is not WorkerState.READY:
                reasons.append(f"worker {worker} is {state.name.lower().replace('_', ' ')}")
            elif self.silent_seconds(worker) > _SILENT_SECONDS:
                reasons.append(f"worker {worker} does not respond")
        return reasons
