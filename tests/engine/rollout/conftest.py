"""One stack with a good version beside several bad ones; each test begins with all requests at `blue`."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.local.load import Load, Request
from tests.engine.local.stack import LocalStack
from tests.engine.local.tiny import ENDPOINT, request
from tests.engine.rollout import faults
from tests.engine.rollout.driven import Driven, last_of

ROLLOUT: dict[str, Any] = {
    "steps": [{"percent": 25}, {"percent": 100}],
    "min_samples": 100,
    "max_time_s": 900,
    "analysis": {
        "errors": {"max_increase": 0.5},
        # Of a machine that does other things as well.
        "latency": {"quantile": 0.9, "max_ratio": 3.0, "slack_ms": 150},
        "golden": "golden.json",
    },
}


class Estate(Driven):
    """A stack, and `estate rollout` on it."""

    def __init__(
        self, versions: Callable[[Path], dict[str, str]] | None = None, endpoint: dict[str, Any] | None = None
    ) -> None:
        """`versions`: makes the models of the variants in a folder; `endpoint`: fields of its block."""
        super().__init__(LocalStack().init())
        self.endpoint = endpoint or {}
        self.models = (versions or _versions)(self.stack.home / "models")

    def configure(self, *variants: str, endpoint: dict[str, Any] | None = None, **rollout: Any) -> None:
        """Write the stack file; `endpoint`: fields of the endpoint beside the usual ones."""
        block = {
            **self.endpoint,
            **(endpoint or {}),
            "variants": {name: {"model": self.models[name]} for name in variants or self.models},
            "traffic": {"blue": 100},
            "rollout": {**ROLLOUT, **rollout},
        }
        self.stack.configure(endpoints={ENDPOINT: block})

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.run("status", "--json")))

    def records(self) -> list[dict[str, Any]]:
        files = list((self.stack.state / "serving-estate" / "rollouts").glob("*/*/journal.jsonl"))
        if not files:
            return []
        lines = files[0].read_text().splitlines(keepends=True)
        return last_of([json.loads(line) for line in lines if line.endswith("\n")])

    def load(self, make: Callable[[], Request] = request) -> Load:
        return Load(self.stack.url(ENDPOINT), make, kept=6, new=2, pause=0.025)


def _versions(models: Path) -> dict[str, str]:
    return {
        "blue": faults.times(models, 2),
        "good": faults.times(models / "again", 2),
        "wrong": faults.times(models, 3),
        "slow": faults.slow(models, 3000),
        "failing": faults.failing(models, 981),  # requests have numbers up to 1000
    }


@pytest.fixture(scope="session")
def estate_session() -> Iterator[Estate]:
    """The stack with all versions."""
    estate = Estate()
    try:
        estate.configure()
        estate.stack.up()
        yield estate
    finally:
        estate.end()
        estate.stack.remove()


@pytest.fixture
def estate(estate_session: Estate) -> Iterator[Estate]:
    """The stack as each test finds it: `blue` has all requests, and no rollout is under way."""
    if estate_session.records() and estate_session.records()[-1]["event"] != "finished":
        estate_session.run("abort")
    if estate_session.weights() != {"blue": 100}:
        estate_session.configure(weights={"blue": 100})
        estate_session.stack.up()
    estate_session.configure()
    yield estate_session
    estate_session.end()
