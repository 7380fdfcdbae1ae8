"""Requests that break a version once that is wanted, and what came of them."""

from tests.cluster.rollout.conftest import HOST, Rollouts
from tests.engine.local.load import Answer, Load, Request
from tests.engine.local.tiny import request

QUICK = {
    "errors": {"max_increase": 5},
    "latency": {"quantile": 0.5, "max_ratio": 10, "slack_ms": 1000},
    "golden": "golden.json",
}


class Requests:
    """What clients send: at first only what every version can answer."""

    def __init__(self) -> None:
        self.are_harmless = True

    def __call__(self) -> Request:
        return request({"host": HOST}, up_to=500 if self.are_harmless else 1000)


def broken(load: Load) -> list[Answer]:
    return [answer for answer in load.answers if answer.failure]


def answered(load: Load, since: float) -> bool:
    """Whether there were enough answers to requests sent since then."""
    return sum(load.values(since=since).values()) > 50


def assert_counted(rollouts: Rollouts, failed: list[Answer]) -> None:
    """What the rollout says that it cost is what clients saw, but for what came after the last look."""
    assert 0.9 * len(failed) - 5 <= rollouts.record("finished")["failures"] <= len(failed)
