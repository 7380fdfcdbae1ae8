"""From an empty cluster to right predictions through the gateway, and what must not be lost on the way."""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.cluster.estate.stack import ClusterStack
from tests.cluster.estate.tiny import ENDPOINT, ask, seed

HOST = f"{ENDPOINT}.models.internal"
FACTORS = (2, 3, 5)


def blocks(models: dict[str, int], traffic: dict[str, int], replicas: int = 1, **more: Any) -> dict[str, Any]:
    variants = {name: {"model": f"models:/{ENDPOINT}/{version}"} for name, version in models.items()}
    endpoint = {
        "variants": variants,
        "traffic": traffic,
        "scaling": {"min": replicas},
        "resources": {"cpu": 0.05, "memory_mib": 384, "cache_gib": 1},
        **more,
    }
    return {
        "registry": {"seed": seed(FACTORS), "storage_gib": 1},
        "endpoints": {ENDPOINT: endpoint},
        "kubernetes": {"startup_s": 120},
    }


@pytest.fixture(scope="module")
def gateway(stack: ClusterStack, reach: Callable[[ClusterStack], str]) -> str:
    """The gateway of an estate with two variants."""
    stack.configure(**blocks({"blue": 1, "green": 2}, {"blue": 90, "green": 10}))
    stack.up()
    return reach(stack)


@contextmanager
def load(gateway: str, clients: int = 2, pause: float = 0.01) -> Iterator[Counter[Any]]:
    """Clients that ask again and again: what they were answered, by factor, variant or fault."""
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
    return [(what, count) for what, count in answers.items() if isinstance(what, str)]


def test_the_first_up_ends_with_right_answers(stack: ClusterStack, gateway: str) -> None:
    endpoint = stack.outputs()["endpoints"][ENDPOINT]
    assert endpoint["url"] == f"http://{HOST}"
    assert {name: variant["weight"] for name, variant in endpoint["variants"].items()} == {
        "blue": 90,
        "green": 10,
    }
    assert ask(gateway, HOST) in [(2, "blue"), (3, "green")]


def test_a_second_up_changes_nothing(stack: ClusterStack, gateway: str) -> None:
    stack.up("--expect-no-changes")


def test_a_pin_leads_to_its_variant_and_a_wrong_one_to_nobody(gateway: str) -> None:
    for _ in range(10):
        assert ask(gateway, HOST, {"x-variant": "green"}) == (3, "green")
    with pytest.raises(AssertionError, match=r"404.*has no variant"):
        ask(gateway, HOST, {"x-variant": "gren"})


def test_weights_are_kept_to(gateway: str) -> None:
    asked = 1000
    link = http.client.HTTPConnection(gateway, timeout=30)
    green = sum(ask(gateway, HOST, connection=link)[0] == 3 for _ in range(asked))
    sigma = (asked * 0.1 * 0.9) ** 0.5
    assert abs(green - asked * 0.1) < 4 * sigma


def test_moving_weights_and_changing_a_version_lose_nothing(stack: ClusterStack, gateway: str) -> None:
    with load(gateway) as answers:
        stack.configure(**blocks({"blue": 1, "green": 2}, {"blue": 0, "green": 100}))
        said = stack.up()
        assert "~ 2 updated" in said.replace("    ", " "), "weights touch the two routes alone:\n" + said
        while answers[3, "green"] < 100 and not faults(answers):
            time.sleep(0.05)
        stack.configure(**blocks({"blue": 1, "green": 3}, {"blue": 0, "green": 100}))
        stack.up()
        while answers[5, "green"] < 100 and not faults(answers):
            time.sleep(0.05)
    assert faults(answers) == []
    assert sum(answers.values()) > 300


def test_a_model_that_does_not_load_never_gets_traffic(stack: ClusterStack, gateway: str) -> None:
    with load(gateway) as answers:
        broken = blocks({"blue": 1, "green": 99}, {"blue": 0, "green": 100})
        broken["kubernetes"] = {"startup_s": 30}
        stack.configure(**broken)
        said = stack.up(check=False)
    assert faults(answers) == []
    assert "99" in said
    assert "Traceback" not in said
    stack.configure(**blocks({"blue": 1, "green": 3}, {"blue": 0, "green": 100}))
    stack.up()
    assert ask(gateway, HOST) == (5, "green")
