"""Work beside the driver's look-out: a run of the engine takes its time, and evidence does not wait."""

import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Task(Protocol[T_co]):
    """Work that was begun."""

    def wait(self, seconds: float) -> bool:
        """Wait until it is over, for so many seconds at most; whether it is."""
        ...

    def result(self) -> T_co:
        """What it returned, or raise what it raised; only when it is over."""
        ...


class Background(Protocol):
    """Begins work."""

    def __call__(self, work: Callable[[], T]) -> Task[T]:
        """Begin it."""
        ...


class Thread(Generic[T]):
    """Work in a thread that nobody waits for when the process ends."""

    def __init__(self, work: Callable[[], T]) -> None:
        """Begin."""
        self._over = threading.Event()
        self._returned: list[T] = []
        self._raised: BaseException | None = None
        threading.Thread(target=self._run, args=(work,), daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Wait until it is over, for so many seconds at most; whether it is."""
        return self._over.wait(seconds)

    def result(self) -> T:
        """What it returned, or raise what it raised."""
        if self._raised is not None:
            raise self._raised
        return self._returned[0]

    def _run(self, work: Callable[[], T]) -> None:
        try:
            self._returned.append(work())
        except BaseException as error:  # noqa: BLE001  it is raised where the result is asked for
            self._raised = error
        finally:
            self._over.set()
