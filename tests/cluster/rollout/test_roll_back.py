"""Versions that break only once they have requests: how soon they have none, and what that cost."""

import itertools
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from components.spec import validate
from components.spec.rollout import Analysis
from stacks.rollout.cluster.opened import opened, source_of
from stacks.rollout.judge import Verdict, Window, judge
from tests.cluster.estate.stack import NAME
from tests.cluster.estate.tiny import ENDPOINT
from tests.cluster.rollout.conftest import HOST, Rollouts
from tests.cluster.rollout.harm import QUICK, Requests, answered, assert_counted, broken
from tests.engine.local.load import Load, Request
from tests.engine.local.tiny import factor, request

pytestmark = pytest.mark.long
SECONDS = 10
"""From the evidence being there to no request for the candidate."""


@pytest.fixture
def requests() -> Requests:
    return Requests()


@pytest.fixture
def load(gateway: str, requests: Requests) -> Load:
    """Clients that ask all the time."""
    return Load(gateway, requests, kept=4, new=1, pause=0.02)


class Watch(threading.Thread):
    """Weighs the numbers by itself, to learn when evidence was there, and when the route followed."""

    def __init__(self, rollouts: Rollouts, candidate: str, stable: str) -> None:
        super().__init__(daemon=True)
        self._rollouts, self._names = rollouts, [candidate, stable]
        records = rollouts.records()
        self._analysis = validate(Analysis, records[0]["rollout"]["analysis"])
        stack, _ = opened(rollouts.stack.folder, NAME, ENDPOINT, rollouts.stack.home)
        self._source = source_of(stack, None, None)
        # Since when it counts is not known; what it counts from now on is added to what the driver knows.
        self._zero = self._source.read(ENDPOINT, self._names)
        self.evidence = self.zero = 0.0

    def run(self) -> None:
        while not self.zero:
            if not self.evidence:
                now = self._source.read(ENDPOINT, self._names)
                ours, theirs = (now.variants[n].since(self._zero.variants[n]) for n in self._names)
                window = Window(ours, theirs, now.edges, share=None)
                if judge(self._analysis, window, 0.05, 3, 1).verdict is Verdict.ROLL_BACK:
                    self.evidence = time.time()
            if self._names[0] not in self._rollouts.routed():
                self.zero = time.time()


@pytest.fixture
def in_process(rollouts: Rollouts, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process asks the engine and the cluster of the tests, as the driver does."""
    import kubernetes.config.kube_config

    for name, value in rollouts.stack.env.items():
        monkeypatch.setenv(name, value)
    where = rollouts.stack.env["KUBECONFIG"]
    monkeypatch.setattr(kubernetes.config.kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", where)


@pytest.fixture
def held(rollouts: Rollouts) -> Iterator["subprocess.Popen[str]"]:
    """Somebody's `pulumi up` that hangs, and holds the stack."""
    stack = rollouts.stack
    running = subprocess.Popen(
        ["pulumi", "--non-interactive", "up", "--yes", "--skip-preview", "--stack", NAME],
        cwd=stack.folder,
        env=stack.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )
    rollouts.wait_for(lambda: list((stack.home / "backend").rglob("locks/**/*.json")), "a run that holds it")
    os.killpg(running.pid, signal.SIGSTOP)
    yield running
    if running.poll() is None:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        stack.pulumi("cancel", "--yes", "--stack", NAME)


@pytest.mark.usefixtures("in_process")
def test_a_roll_back_waits_for_nobody_who_holds_the_stack(
    rollouts: Rollouts, load: Load, requests: Requests, request: pytest.FixtureRequest
) -> None:
    """The candidate begins to fail while somebody's run hangs: the routes give it nothing 10 s later."""
    steps = [{"percent": 25, "min_samples": 1_000_000}, {"percent": 100}]
    rollouts.configure("blue", "good", "brittle", steps=steps, analysis=QUICK)
    rollouts.stack.up()
    (stable,) = rollouts.weights()
    with load:
        driver = rollouts.start("brittle", "observed")
        other = request.getfixturevalue("held")
        watch = Watch(rollouts, "brittle", stable)
        requests.are_harmless = False
        watch.start()
        rollouts.wait_for(lambda: watch.zero, "no requests for the candidate", 60)
        at_zero = time.monotonic()
        rollouts.wait_for(lambda: answered(load, at_zero + 1), "answers")
        assert rollouts.records()[-1]["event"] != "finished", "the stack has not followed yet"
        os.killpg(other.pid, signal.SIGCONT)
        said, _ = other.communicate(timeout=300)
        assert other.returncode == 0, said
        assert driver.wait(timeout=180) == 3
        rollouts.stack.up("--expect-no-changes")
    took = watch.zero - watch.evidence
    load.report("a candidate that begins to fail while somebody holds the stack")
    print(f"[rollout] at 0 % {took:.2f} s after the evidence")
    assert watch.evidence > 0
    assert took < SECONDS
    late = [answer for answer in load.answers if answer.sent > at_zero + 1]
    assert {answer.variant for answer in late} == {stable}, "neither run gave it any again"
    assert {answer.variant for answer in broken(load)} == {"brittle"}, "nothing else was lost"
    assert_counted(rollouts, broken(load))
    assert rollouts.weights() == {stable: 100}
    assert [*rollouts.routed()] == [stable]


def test_a_version_that_leaks_until_the_kernel_kills_it_is_rolled_back(
    rollouts: Rollouts, gateway: str
) -> None:
    """Each request takes a little more than the one before; the limit of its container is all there is."""
    steps = [{"percent": 20, "min_samples": 1_000_000}, {"percent": 100}]
    rollouts.configure("blue", "good", "leaking", steps=steps, analysis=QUICK)
    rollouts.stack.up()
    (stable,) = rollouts.weights()
    number = itertools.count(1)
    load = Load(gateway, lambda: numbered(next(number)), kept=4, new=1, pause=0.02)
    with load:
        rollouts.run("start", "--to", "leaking", code=3)
        back = time.monotonic()
        rollouts.wait_for(lambda: answered(load, back), "answers")
    load.report("a version that leaks")
    (pod,) = rollouts.stack.pods(f"{ENDPOINT}-leaking")
    (container,) = pod["status"]["containerStatuses"]
    ended = container["lastState"].get("terminated") or container["state"]["terminated"]
    assert ended["reason"] == "OOMKilled"
    failed = broken(load)
    assert {answer.variant for answer in failed} <= {"leaking", ""}
    assert 0 < len(failed) < 0.2 * len(load.answers), "it never had more than a fifth"
    assert_counted(rollouts, failed)
    assert {answer.variant for answer in load.answers if answer.sent > back} == {stable}
    assert rollouts.weights() == {stable: 100}


def numbered(number: int) -> Request:
    """The n-th request: its first number grows, and so does what the version takes for it."""
    one = request({"host": HOST})
    x = [number, random.randint(1, 1000), random.randint(1, 1000)]
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": x}]}).encode()
    return Request(one.path, body, lambda answer: factor(x, answer), one.headers)
