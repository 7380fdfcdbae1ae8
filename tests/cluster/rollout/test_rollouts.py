"""Evidence moves the weights of a real gateway, and nothing is lost on the way."""

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from stacks.rollout.cluster.opened import opened, source_of
from tests.cluster.estate.stack import NAME
from tests.cluster.estate.tiny import ENDPOINT
from tests.cluster.rollout.conftest import HOST, Rollouts
from tests.cluster.rollout.harm import QUICK, Requests, answered, assert_counted, broken
from tests.engine.local.load import Load, Request
from tests.engine.local.stack import get
from tests.engine.local.tiny import MODEL_PATH, fail_by_grpc, request
from tests.engine.rollout import labels, shadows


def steps(records: list[dict[str, Any]], to: str) -> list[int]:
    return [record["weights"][to] for record in records if record["event"] == "moved"]


def test_a_good_version_takes_over_and_nothing_is_lost(rollouts: Rollouts, load: Load) -> None:
    rollouts.configure("blue", "good")
    rollouts.stack.up()
    idle = rollouts.idle()
    with load:
        said = rollouts.run("start", "--to", idle)
    load.report("canary")
    assert load.failures == []
    assert set(load.values()) == {"2"}
    records = rollouts.records()
    assert steps(records, idle) == [5, 25, 100], said
    assert rollouts.weights() == {idle: 100}
    assert load.answers[-1].variant == idle
    # What the driver counted is what clients saw, but for what came while nobody looked.
    end = records[-1]
    saw = sum(answer.variant == idle for answer in load.answers)
    assert 0.5 * saw <= end["requests"] <= saw
    assert end["failures"] == 0


def test_a_run_by_somebody_else_leaves_the_weights_alone(rollouts: Rollouts) -> None:
    before = rollouts.weights()
    said = rollouts.stack.up()
    assert rollouts.weights() == before, said
    rollouts.stack.up("--expect-no-changes")


def test_blue_green_switches_at_once_and_back_at_once(rollouts: Rollouts, gateway: str) -> None:
    requests = Requests()
    load = Load(gateway, requests, kept=4, new=1, pause=0.02)
    blue_green: dict[str, Any] = {"strategy": "blue-green", "steps": None, "analysis": QUICK}
    rollouts.configure("blue", "good", "brittle", **blue_green, keep_warm_s=2)
    rollouts.stack.up()
    idle = rollouts.idle()
    with load:
        said = rollouts.run("start", "--to", idle)
        assert "checked before any requests: all is well" in said
        assert rollouts.weights() == {idle: 100}
        moved = [record["weights"][idle] for record in rollouts.records() if record["event"] == "moved"]
        assert moved == [0, 100], "golden requests at 0 %, then all at once"
        assert broken(load) == []

        rollouts.configure("blue", "good", "brittle", **blue_green, keep_warm_s=600)
        driver = rollouts.start("brittle", "observed", stage=1)
        requests.are_harmless = False
        assert driver.wait(timeout=180) == 3
        back = time.monotonic()
        rollouts.wait_for(lambda: answered(load, back), "answers")
    load.report("blue-green: a good version, then one that breaks after the switch")
    assert {answer.variant for answer in broken(load)} == {"brittle"}, "nothing else was lost"
    assert {answer.variant for answer in load.answers if answer.sent > back} == {idle}
    events = {record["event"]: record["at"] for record in rollouts.records()}
    assert events["braked"] - events["decided"] < 5
    assert_counted(rollouts, broken(load))
    assert rollouts.weights() == {idle: 100}


def test_what_fails_is_counted_once_over_every_protocol(
    rollouts: Rollouts, gateway: str, cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway sees and the servers see it; an answer over gRPC that failed has the status 200."""
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(cluster))
    rollouts.configure("blue", "good", "brittle")
    rollouts.stack.up()
    stack, _ = opened(rollouts.stack.folder, NAME, ENDPOINT, rollouts.stack.home)
    source = source_of(stack, None, None)
    source.read(ENDPOINT, ["brittle"])  # what was before counts for nothing
    fail_by_grpc(gateway.removeprefix("http://"), "brittle", f"{ENDPOINT}-grpc.models.internal")
    for first in (1, 999, 999):
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [first, 2, 3]}]}
        headers = {"host": HOST, "x-variant": "brittle", "content-type": "application/json"}
        status, _ = get(f"{gateway}{MODEL_PATH}/infer", headers, data=json.dumps(body).encode())
        assert status == (200 if first == 1 else 500)
    seen = source.read(ENDPOINT, ["brittle"]).variants["brittle"]
    assert (seen.requests, seen.failures) == (6, 3)


def _by_somebody() -> Request:
    return request({"host": HOST, "x-user": random.choice(labels.USERS)})


@pytest.mark.long
def test_later_labels_decide_between_users_who_stay_and_nothing_is_lost(
    rollouts: Rollouts, gateway: str
) -> None:
    analysis = {**QUICK, "outcome": labels.OUTCOME}
    rollouts.configure(
        "blue", "good", strategy="a/b", steps=None, users={"header": "x-user"}, analysis=analysis
    )
    rollouts.stack.up()
    idle = rollouts.idle()
    load = Load(gateway, _by_somebody, kept=4, new=1, pause=0.02)
    labels.decide_by_labels(rollouts, idle, load, gateway, {"host": HOST})
    assert broken(load) == []
    assert rollouts.weights() == {idle: 100}


def test_a_shadow_is_judged_by_its_answers_to_copies_and_no_client_sees_them(
    rollouts: Rollouts, gateway: str
) -> None:
    idle = rollouts.idle()
    analysis = {**QUICK, "golden": None, "agreement": shadows.AGREEMENT}

    def watch(variant: str) -> None:
        shadow = {"variant": variant, "percent": 100}
        rollouts.configure(
            *("blue", "good", "drifting"), shadow=shadow, strategy="shadow", steps=None, analysis=analysis
        )
        rollouts.stack.up()

    load = Load(gateway, lambda: shadows.regional({"host": HOST}), kept=4, new=1, pause=0.02)
    shadows.judge_both(rollouts, idle, watch, load)


@pytest.mark.long
def test_a_bad_version_is_rolled_back_and_its_damage_is_bounded(rollouts: Rollouts, load: Load) -> None:
    rollouts.configure("blue", "good", "failing")
    rollouts.stack.up()
    before = rollouts.weights()
    (stable,) = before
    with load:
        said = rollouts.run("start", "--to", "failing", code=3)
    load.report("rolled back")
    assert rollouts.weights() == before, said
    failed = len([answer for answer in load.answers if answer.failure])
    end = rollouts.records()[-1]
    assert end["result"] == "rolled back"
    assert 0 < failed < 0.1 * len(load.answers), "it had one request in twenty"
    assert {answer.variant for answer in load.answers if answer.failure} <= {"failing"}
    assert load.answers[-1].variant == stable
