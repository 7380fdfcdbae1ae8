"""Requests that go on while something is changed, and what became of each."""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.cluster.estate.tiny import ENDPOINT, ask

HOST = f"{ENDPOINT}.models.internal"


@contextmanager
def load(gateway: str, clients: int = 2, pause: float = 0.01) -> Iterator[Counter[Any]]:
    """Clients that ask again and again: what they were answered, by factor and variant, or by fault."""
    answers: Counter[Any] = Counter()
    over = threading.Event()

    def client() -> None:
        link = http.client.HTTPConnection(gateway, timeout=30)
        while not over.is_set():
            try:
                answers[ask(gateway, HOST, connection=link)] += 1
            except (AssertionError, OSError, http.client.HTTPException) as fault:
                answers[f"{type(fault).__name__}: {fault}"] += 1
                link.close()
            time.sleep(pause)  # bounds the load; nothing is waited for

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join()


def faults(answers: Counter[Any]) -> list[Any]:
    """Requests that were not answered rightly, with their number."""
    return [(what, count) for what, count in answers.items() if isinstance(what, str)]


def until(holds: Callable[[], bool], seconds: float = 120, seen: Callable[[], object] = str) -> None:
    """Wait for a condition, and say at the end what was seen instead."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:g} s; seen last: {seen()}"
        time.sleep(0.1)


def until_answered(answers: Counter[Any], factor: int, times: int = 100) -> None:
    """Wait until one factor was answered so often more, or a request was lost."""

    def found() -> int:
        return sum(count for what, count in answers.items() if what[0] == factor)

    wanted = found() + times
    until(lambda: found() >= wanted or bool(faults(answers)), seen=lambda: answers)
