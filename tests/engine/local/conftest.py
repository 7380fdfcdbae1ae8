"""Stacks that tests share, because bringing one up is most of a test's time."""

import random
import threading
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

from tests.engine.local import tiny as tiny_models
from tests.engine.local.kills import SEED, killed
from tests.engine.local.stack import NAME, LocalStack
from toolchain.lock import ROOT


@pytest.fixture
def new_stack() -> Iterator[LocalStack]:
    """A stack that nobody else has; whatever the test leaves is removed."""
    stack = LocalStack().init()
    yield stack
    stack.remove()


@pytest.fixture(scope="session")
def tiny_session() -> Iterator[LocalStack]:
    """The stack of tiny models, whose own end is a test too."""
    stack = LocalStack().init()
    try:
        tiny_models.configure(stack, {"blue": 2, "green": 3}, {"blue": 100})
        stack.up()
        yield stack
        stack.destroy()
        assert stack.leftovers() == []
    finally:
        stack.remove()


@pytest.fixture
def tiny(tiny_session: LocalStack) -> LocalStack:
    """The stack of tiny models as every test finds it: blue doubles and gets all, green triples."""
    if tiny_models.configure(tiny_session, {"blue": 2, "green": 3}, {"blue": 100}):
        tiny_session.up("--refresh")
    return tiny_session


class Listeners(threading.Thread):
    """Notes every address that a process of the stack listens on, for as long as the stack is watched."""

    def __init__(self, stack: LocalStack) -> None:
        super().__init__(daemon=True)
        self._stack, self._end = stack, threading.Event()
        self.seen: set[tuple[str, int]] = set()

    def run(self) -> None:
        while not self._end.wait(0.1):
            for process in self._stack.processes():
                with suppress(psutil.Error, OSError):
                    for connection in process.net_connections("inet"):
                        if connection.status == psutil.CONN_LISTEN:
                            self.seen.add(tuple(connection.laddr))

    def stop(self) -> None:
        self._end.set()
        self.join()


@pytest.fixture(scope="session")
def full_started() -> Iterator[tuple[LocalStack, set[tuple[str, int]]]]:
    """The stack that the project ships, and where it listened while it came up.

    Its first two runs are killed, at moments that a fixed seed gives.
    """
    stack = LocalStack()
    shipped = (ROOT / "stacks" / "Pulumi.local.yaml").read_text()
    (stack.folder / "config" / f"Pulumi.{NAME}.yaml").write_text(shipped)
    stack.init()
    listeners = Listeners(stack)
    listeners.start()
    try:
        moments = random.Random(SEED)
        for longest in (12, 30):
            killed(stack, "up", after=moments.uniform(2, longest), group=longest == 30)
        stack.up()
        listeners.stop()
        yield stack, listeners.seen
        stack.destroy()
        assert stack.leftovers() == []
    finally:
        listeners.stop()
        stack.remove()


@pytest.fixture
def listeners(full_started: tuple[LocalStack, set[tuple[str, int]]]) -> set[tuple[str, int]]:
    """The addresses and ports that the shipped stack listened on while it came up."""
    return full_started[1]


@pytest.fixture
def full(full_started: tuple[LocalStack, set[tuple[str, int]]]) -> LocalStack:
    """The stack that the project ships, as it ships it: a registry, two endpoints, four trained models."""
    return full_started[0]
