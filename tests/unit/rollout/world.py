"""A stack and its gateway that exist in memory only, with a clock that jumps, and drivers that can be
killed."""

import math
import random
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stacks.rollout.begin import begin
from stacks.rollout.driver import Driver
from stacks.rollout.errors import BusyError, SourceDownError
from stacks.rollout.journal import Journal
from stacks.rollout.placement import Placement, Variant
from stacks.rollout.readings import Reading, Snapshot
from stacks.rollout.state import State

EDGES = [*(1.1**power for power in range(1, 90)), math.inf]


class Killed(BaseException):
    """The driver died here."""


@dataclass
class Behaviour:
    """How a variant does."""

    fails: float = 0.0
    ms: float = 5.0
    failing_share: Callable[[int], float] | None = None
    """The share of failures at a weight, where it depends on it."""


class Run:
    """Work that takes `world.engine_s` seconds of the world's time, as a run of the engine does."""

    def __init__(self, world: "World", work: Callable[[], Any]) -> None:
        self.world, self.work, self.until = world, work, world.now + world.engine_s
        self.found: list[Any] = []
        self.error: Exception | None = None

    def wait(self, seconds: float) -> bool:
        left = self.until - self.world.now
        if seconds and left > 0:
            self.world.sleep(min(seconds, left))
        if self.world.now < self.until - 1e-6:
            return False
        if not self.found and not self.error:
            try:
                self.found.append(self.work())
            except Exception as error:  # noqa: BLE001  it is raised in `result`
                self.error = error
        return True

    def result(self) -> Any:
        if self.error:
            raise self.error
        return self.found[0]


@dataclass
class World:
    """`rate` requests a second come in and are divided as the weights are."""

    folder: Path
    rate: int = 400
    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    seed: int = 1

    def __post_init__(self) -> None:
        self.now = 1000.0
        self.weights = {"blue": 100, "green": 0}
        self.models = {"blue": "one", "green": "two"}
        self.braked: list[dict[str, int]] = []
        self.moves: list[tuple[float, dict[str, int]]] = []
        self.down = self.busy = False
        self.engine_s = 2.0
        self.copies = False
        """Green gets copies of blue's requests."""
        self.has_brake = False
        self.stack: dict[str, int] = dict(self.weights)
        """The weights as the stack has them, which a brake is ahead of."""
        self.moves_fail = 0
        self.random = random.Random(self.seed)
        self.counts = {name: [0, 0, [0] * len(EDGES)] for name in self.weights}
        self.kill_at: int | None = None
        self.steps = 0
        self.journal = Journal(self.folder, lambda: self.now)

    # The stack

    def present(self) -> Placement:
        variants = {name: Variant(self.models[name], share, ()) for name, share in self.stack.items()}
        return Placement(variants, "")

    def move(self, weights: Mapping[str, int], why: str) -> None:
        if self.busy:
            raise BusyError("somebody else")
        if self.moves_fail:
            from stacks.rollout.errors import RolloutError

            self.moves_fail -= 1
            raise RolloutError("the engine said no")
        self.perhaps_die()
        self.stack = dict(weights)
        if dict(weights) not in self.braked:
            self.weights = dict(weights)
        self.moves.append((self.now, dict(weights)))
        self.perhaps_die()

    # The brake

    def pull(self, weights: Mapping[str, int], instead_of: Any) -> None:
        self.perhaps_die()
        self.weights, self.braked = dict(weights), [dict(one) for one in instead_of]
        self.perhaps_die()

    def release(self) -> None:
        self.braked = []

    # The gateway

    def read(self, endpoint: str, variants: Any) -> Snapshot:
        if self.down:
            raise SourceDownError("no answer")
        return Snapshot(EDGES, {name: Reading(c[0], c[1], list(c[2])) for name, c in self.counts.items()})

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for _ in range(round(self.rate * seconds)):
            name = "green" if self.random.random() * 100 < self.weights["green"] else "blue"
            if self.copies and self.random.random() < 0.5:
                name = "green"
            how = self.behaviours.get(name, Behaviour())
            share = how.failing_share(self.weights[name]) if how.failing_share else how.fails
            took = how.ms * self.random.lognormvariate(0, 0.3)
            count = self.counts[name]
            count[0] += 1
            count[1] += self.random.random() < share
            count[2][bisect_left(EDGES, took)] += 1

    # Drivers

    def check(self) -> None:
        """The lease is never lost here."""

    def perhaps_die(self) -> None:
        self.steps += 1
        if self.steps == self.kill_at:
            raise Killed

    def start(self, **rollout: Any) -> None:
        begin(self.journal, self.present(), rollout, "tiny", "green")

    def driver(self) -> Driver:
        journal = self.journal
        plain = journal.append

        def append(event: str, **details: Any) -> Any:
            self.perhaps_die()
            record = plain(event, **details)
            self.perhaps_die()
            return record

        mortal = Journal(self.folder, lambda: self.now)
        mortal.append = append  # type: ignore[method-assign]
        return Driver(
            mortal,
            self,
            self,
            self,
            self.folder,
            clock=lambda: self.now,
            sleep=self.sleep,
            brake=self if self.has_brake else None,
            background=lambda work: Run(self, work),
        )

    def run(self) -> State:
        return self.driver().run()

    def until(self, true: Callable[[State], bool], driver: Driver | None = None) -> Driver:
        """Drive up to a moment; with another driver than before, or with the one that is given."""
        driver = driver or self.driver()
        for _ in range(20_000):
            state = driver.state
            if true(state):
                return driver
            if not driver.tick(state):
                driver.rest()
        raise AssertionError("it never came")

    @property
    def events(self) -> list[str]:
        return [record["event"] for record in self.journal.last()]

    def last(self, event: str) -> dict[str, Any]:
        return [record for record in self.journal.last() if record["event"] == event][-1]
