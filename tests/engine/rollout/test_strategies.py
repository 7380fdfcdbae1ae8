"""The other strategies, versions that die, and how long a roll back takes: real parts, under load."""

import contextlib
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from components.spec import validate
from components.spec.rollout import Analysis
from stacks.rollout.judge import Verdict, Window, judge
from stacks.rollout.readings import Reading
from stacks.rollout.sources.envoy import EnvoyStatistics
from stacks.rollout.sources.prometheus import Prometheus
from tests.engine.local import tiny
from tests.engine.local.load import Load, Request
from tests.engine.local.stack import get
from tests.engine.local.tiny import ENDPOINT
from tests.engine.rollout import faults, labels, shadows
from tests.engine.rollout.conftest import Estate
from tests.engine.rollout.driven import kill
from tests.engine.rollout.prometheus import needs_prometheus, prometheus

SECONDS = 10
"""From the evidence being there to no request for the candidate."""


QUICK = {
    "errors": {"max_increase": 5},
    "latency": {"quantile": 0.5, "max_ratio": 3.0, "slack_ms": 150},
}


def versions(models: Path) -> dict[str, str]:
    return {
        "blue": faults.times(models, 2),
        "good": faults.times(models / "again", 2),
        "brittle": faults.failing(models, 501),  # fails for half of the numbers
        "drifting": faults.drifting(models, 501, -2),  # the greatest output is another one then
        "growing": faults.growing(models, 501, 2**17),  # half a MiB more with each
    }


class Requests:
    """What clients send: at first only what every version can answer."""

    def __init__(self) -> None:
        self.are_harmless = True

    def __call__(self) -> Request:
        return tiny.request(up_to=500 if self.are_harmless else 1000)


@pytest.fixture(scope="module")
def estate_module() -> Iterator[Estate]:
    estate = Estate(versions, {"resources": {"memory_mib": 256}})
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
    if estate_module.records() and estate_module.records()[-1]["event"] != "finished":
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
        self.analysis = validate(Analysis, estate.records()[0]["rollout"]["analysis"])
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
        driver = estate.start("brittle", "observed")
        watch = Watch(estate, admin, "brittle", "blue")
        other = estate.stack.start("up")
        backend = estate.stack.home / "project.backend"
        estate.wait_for(lambda: list(backend.rglob("locks/**/*.json")), "a run that holds the stack")
        os.killpg(other.pid, signal.SIGSTOP)
        requests.are_harmless = False
        watch.start()
        estate.wait_for(lambda: watch.zero, "no requests for the candidate", 60)
        at_zero = time.monotonic()
        # Now its driver dies, and another one sees to it that the stack follows.
        kill(driver, group=True)
        assert estate.status()["braked"]
        os.killpg(other.pid, signal.SIGCONT)
        assert other.wait(timeout=300) == 0
        estate.run("resume", code=3)
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
    events = [record["event"] for record in estate.records()]
    assert events.index("braked") < len(events) - 1 - events[::-1].index("moved")


def runs_of_the_engine(driver: int) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(driver).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if child.name() == "pulumi" and "up" in child.cmdline():
                found.append(child)
    return found


def test_a_roll_back_does_not_wait_for_the_move_that_is_under_way(estate: Estate):
    """It begins to fail while a run of the engine that hangs is about to give it all requests."""
    requests = Requests()
    estate.configure(steps=[{"percent": 25}, {"percent": 100}], min_samples=100, analysis=QUICK)
    admin = str(estate.stack.outputs()["gateway"])
    with estate.load(requests) as load:
        driver = estate.start("brittle", "moving", stage=1)
        (run,) = estate.wait_for(lambda: runs_of_the_engine(driver.pid), "a run of the engine")
        run.suspend()
        requests.are_harmless = False
        watch = Watch(estate, admin, "brittle", "blue")
        watch.start()
        estate.wait_for(lambda: watch.zero, "no requests for the candidate", 60)
        at_zero = time.monotonic()
        run.resume()  # and asks for 100 %, as it was told
        assert driver.wait(timeout=300) == 3
    load.report("a candidate that begins to fail while its share is raised")
    print(f"[rollout] back at 0 % {watch.zero - watch.evidence:.2f} s after the evidence")
    assert watch.zero - watch.evidence < SECONDS
    assert {answer.variant for answer in load.answers if answer.sent > at_zero + 1} == {"blue"}
    assert {answer.variant for answer in broken(load)} == {"brittle"}, "nothing else was lost"
    assert len(broken(load)) == estate.record("finished")["failures"]
    assert estate.weights() == {"blue": 100}


def test_a_grpc_call_that_fails_counts_as_failed(estate: Estate):
    """Its answer has the status 200; what the client did wrong is not held against the variant."""
    outputs = estate.stack.outputs()
    source = EnvoyStatistics(str(outputs["gateway"]))
    before = source.read(ENDPOINT, ["brittle"]).variants["brittle"]
    tiny.fail_by_grpc(outputs["endpoints"][ENDPOINT]["grpc"], "brittle")
    after = source.read(ENDPOINT, ["brittle"]).variants["brittle"].since(before)
    assert (after.requests, after.failures) == (3, 1)


@needs_prometheus
def test_a_prometheus_tells_the_same_as_the_gateway(estate: Estate, tmp_path: Path):
    outputs = estate.stack.outputs()
    source = EnvoyStatistics(str(outputs["gateway"]))
    tiny.fail_by_grpc(outputs["endpoints"][ENDPOINT]["grpc"], "brittle")
    assert source.read(ENDPOINT, ["brittle"]).variants["brittle"].failures
    job = {
        "job_name": "gateway",
        "metrics_path": "/stats/prometheus",
        "static_configs": [{"targets": [outputs["gateway"].removeprefix("http://")]}],
    }
    both = ["blue", "brittle"]
    with prometheus([job], tmp_path, "up == 1") as url:
        # Times come to the gateway's statistics some seconds later than counts.
        estate.wait_for(
            lambda: Prometheus(url).read(ENDPOINT, both) == source.read(ENDPOINT, both), "the same counters"
        )


def test_blue_green_switches_at_once_and_back_at_once(estate: Estate):
    requests = Requests()
    estate.configure(
        strategy="blue-green", steps=None, keep_warm_s=3, analysis={**QUICK, "golden": "golden.json"}
    )
    with estate.load(requests) as load:
        said = estate.run("start", "--to", "good")
        assert "checked before any requests: all is well" in said
        assert estate.weights() == {"good": 100}
        moved = [record["weights"] for record in estate.records() if record["event"] == "moved"]
        assert [shares["good"] for shares in moved] == [0, 100], "golden requests at 0 %, then all at once"
        assert broken(load) == []

        estate.configure(
            strategy="blue-green", steps=None, keep_warm_s=600, analysis={**QUICK, "golden": "golden.json"}
        )
        driver = estate.start("brittle", "observed", stage=1)
        requests.are_harmless = False
        assert driver.wait(timeout=300) == 3
        back = time.monotonic()
        estate.wait_for(lambda: sum(load.values(since=back).values()) > 100, "answers")
    load.report("blue-green: a good version, then one that breaks after the switch")
    assert {answer.variant for answer in broken(load)} == {"brittle"}, "nothing else was lost"
    assert {answer.variant for answer in load.answers if answer.sent > back} == {"good"}
    events = {record["event"]: record["at"] for record in estate.records()}
    assert events["braked"] - events["decided"] < 2
    assert len(broken(load)) == estate.record("finished")["failures"]
    assert estate.weights() == {"good": 100}


def test_a_shadow_is_judged_by_its_answers_to_copies_and_no_client_sees_them(estate: Estate):
    def watch(variant: str) -> None:
        estate.configure(
            endpoint={"shadow": {"variant": variant, "percent": 100}},
            strategy="shadow",
            steps=None,
            analysis={**QUICK, "agreement": shadows.AGREEMENT},
            weights={"blue": 100},
        )
        estate.stack.up()

    shadows.judge_both(estate, "good", watch, estate.load(shadows.regional))
    last = estate.run("history").splitlines()[-1]
    assert "blue -> drifting" in last
    assert "rolled back" in last
    assert "begun by" in estate.run("history", "--id", "last")
    estate.run("report", "--output", str(estate.stack.home / "shadow.html"))
    assert "slice south" in (estate.stack.home / "shadow.html").read_text()


def test_a_version_whose_predictions_drift_is_rolled_back(estate: Estate):
    """It answers every request, and quickly; only what it says is another thing than before."""
    analysis = {**QUICK, "predictions": {"max_shift": 5, "output": "y"}}
    estate.configure(steps=[{"percent": 50}, {"percent": 100}], analysis=analysis)
    with estate.load() as load:
        said = estate.run("start", "--to", "drifting", code=3)
    load.report("a version that predicts otherwise")
    assert "shares differ by" in said
    assert broken(load) == []
    assert estate.weights() == {"blue": 100}


def test_a_b_joins_labels_that_come_later_and_says_which_is_better(estate: Estate):
    analysis = {**QUICK, "outcome": labels.OUTCOME}
    estate.configure(strategy="a/b", steps=None, users={"header": "x-user"}, analysis=analysis)
    load = estate.load(lambda: tiny.request({"x-user": random.choice(labels.USERS)}))
    labels.decide_by_labels(estate, "good", load, estate.stack.url(ENDPOINT), {})
    assert broken(load) == []
    assert estate.weights() == {"good": 100}


def test_a_version_that_takes_ever_more_memory_is_killed_and_rolled_back(estate: Estate):
    """Each time that it has come back it grows again; then one day it does not come back."""
    requests = Requests()
    patient = {"latency": {"quantile": 0.5, "max_ratio": 3.0, "slack_ms": 5000}}
    estate.configure(
        steps=[{"percent": 25, "min_samples": 1_000_000}, {"percent": 100}],
        analysis={**QUICK, **patient, "golden": "golden.json"},
    )
    with estate.load(requests) as load:
        driver = estate.start("growing", "observed")
        first = estate.stack.process("tiny-growing.0")
        requests.are_harmless = False
        assert driver.wait(timeout=300) == 3
        again = estate.stack.process("tiny-growing.0")
        killed = (estate.stack.host() / "logs" / "memory.log").read_text().splitlines()
        Path(estate.models["growing"]).write_bytes(b"not a model")
        again.kill()
        said = estate.run("start", "--to", "growing", code=3)
    load.report(f"a version that takes ever more memory, killed {len(killed)} times")
    assert again.pid != first.pid
    assert killed
    assert all("tiny-growing" in line and "may hold 256 MiB" in line for line in killed), killed
    assert "golden request 0" in said
    assert estate.record("finished")["requests"] == 0
    assert {answer.variant for answer in broken(load)} == {"growing"}, "nothing else was lost"
    assert len(broken(load)) < 0.3 * len(load.answers)
