"""The other strategies, versions that die, and how long a roll back takes: real parts, under load."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.spec import validate
from components.spec.rollout import Analysis
from stacks.rollout.judge import Verdict, Window, judge
from stacks.rollout.readings import Reading
from stacks.rollout.sources.envoy import EnvoyStatistics
from tests.engine.local import tiny
from tests.engine.local.load import Load, Request
from tests.engine.local.stack import get
from tests.engine.local.tiny import ENDPOINT
from tests.engine.rollout import faults
from tests.engine.rollout.conftest import Estate

SECONDS = 10
"""From the evidence being there to no request for the candidate."""


def versions(models: Path) -> dict[str, str]:
    return {
        "blue": faults.times(models, 2),
        "good": faults.times(models / "again", 2),
        "brittle": faults.failing(models, 501),  # fails for half of the numbers
    }


class Requests:
    """What clients send: at first only what every version can answer."""

    def __init__(self) -> None:
        self.are_harmless = True

    def __call__(self) -> Request:
        return tiny.request(up_to=500 if self.are_harmless else 1000)


@pytest.fixture(scope="module")
def estate_module() -> Iterator[Estate]:
    estate = Estate(versions)
    try:
        estate.configure()
        estate.stack.up()
        yield estate
    finally:
        estate.end()
        estate.stack.remove()


@pytest.fixture
def estate(estate_module: Estate) -> Iterator[Estate]:
    """The stack as each test finds it: `blue` has all requests, and no rollout is under way."""
    yield estate_module
    estate_module.end()
    if estate_module.journal() and estate_module.journal()[-1]["event"] != "finished":
        estate_module.run("abort")


def weights_in_use(admin: str) -> dict[str, int]:
    """The weights that the gateway itself says it uses."""
    _, text = get(f"{admin}/config_dump?resource=dynamic_route_configs")
    (route,) = [one["route_config"] for one in json.loads(text)["configs"]]
    clusters = route["virtual_hosts"][0]["routes"][-1]["route"]["weighted_clusters"]["clusters"]
    return {one["name"].split("/")[1]: one.get("weight", 0) for one in clusters}


class Watch(threading.Thread):
    """Weighs the gateway's numbers by itself, to learn when evidence was there and acted on."""

    def __init__(self, estate: Estate, admin: str, candidate: str, stable: str) -> None:
        super().__init__(daemon=True)
        self.admin, self.names = admin, [candidate, stable]
        self.begun = estate.record("counting")
        self.analysis = validate(Analysis, estate.journal()[0]["rollout"]["analysis"])
        self.end = threading.Event()
        self.evidence = self.zero = 0.0

    def run(self) -> None:
        candidate, _ = self.names
        source, raw = EnvoyStatistics(self.admin), self.begun["raw"]
        while not self.end.wait(0.1) and not self.zero:
            if not self.evidence:
                now = source.read(ENDPOINT, self.names)
                ours, theirs = (now.variants[n].since(Reading.of(raw[n])) for n in self.names)
                window = Window(ours, theirs, now.edges, share=None)
                if judge(self.analysis, window, 0.05, 3, 1).verdict is Verdict.ROLL_BACK:
                    self.evidence = time.time()
            if weights_in_use(self.admin)[candidate] == 0:
                self.zero = time.time()


def broken(load: Load) -> list[Any]:
    return [answer for answer in load.answers if answer.failure]


def test_a_roll_back_waits_for_nobody_who_holds_the_stack(estate: Estate):
    """Somebody's `pulumi up` hangs, and the candidate begins to fail: it has no request 10 s later."""
    requests = Requests()
    estate.configure(steps=[{"percent": 25, "min_samples": 1_000_000}, {"percent": 100}])
    admin = str(estate.stack.outputs()["gateway"])
    with estate.load(requests) as load:
        driver = estate.begin("start", "--to", "brittle")
        estate.wait_for(lambda: [r for r in estate.journal() if r["event"] == "observed"], "evidence")
        watch = Watch(estate, admin, "brittle", "blue")
        other = estate.stack.start("up")
        backend = estate.stack.home / "project.backend"
        estate.wait_for(lambda: list(backend.rglob("locks/**/*.json")), "a run that holds the stack")
        os.killpg(other.pid, signal.SIGSTOP)
        requests.are_harmless = False
        watch.start()
        estate.wait_for(lambda: watch.zero, "no requests for the candidate", 60)
        at_zero = time.monotonic()
        os.killpg(other.pid, signal.SIGCONT)
        assert other.wait(timeout=300) == 0
        assert driver.wait(timeout=300) == 3
    took = watch.zero - watch.evidence
    load.report("a candidate that begins to fail while somebody holds the stack")
    print(f"[rollout] back at 0 % {took:.2f} s after the evidence, the stack followed")
    assert watch.evidence > 0
    assert took < SECONDS
    assert {answer.variant for answer in broken(load)} == {"brittle"}, "nothing else was lost"
    late = [answer for answer in load.answers if answer.sent > at_zero + 1]
    assert late
    assert {answer.variant for answer in late} == {"blue"}
    assert len(broken(load)) == estate.record("finished")["failures"]
    assert estate.weights() == {"blue": 100}
    events = [record["event"] for record in estate.journal()]
    assert events.index("braked") < len(events) - 1 - events[::-1].index("moved")
