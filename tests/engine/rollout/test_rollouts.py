"""Rollouts with the real engine, gateway and servers, under load: right decisions, counted damage."""

import json
import time
from typing import Any

import pytest

from tests.engine.local.load import Load
from tests.engine.local.stack import LocalStack
from tests.engine.local.tiny import ENDPOINT
from tests.engine.rollout import labels
from tests.engine.rollout.conftest import Estate
from tests.engine.rollout.driven import kill


def failures(load: Load) -> list[Any]:
    return [answer for answer in load.answers if answer.failure]


def rolled_back(estate: Estate) -> None:
    """The gateway sends nothing any more at once, and the stack has followed."""
    took = float(estate.record("braked")["at"] - estate.record("decided")["at"])
    print(f"[rollout] back at 0 % in {took:.2f} s")
    assert took < 10
    assert estate.weights() == {"blue": 100}


def test_a_version_that_answers_wrongly_gets_no_request(estate: Estate):
    with estate.load() as load:
        said = estate.run("start", "--to", "wrong", code=3)
    assert "golden request 0" in said
    assert "beyond the tolerance" in said
    assert failures(load) == []
    assert set(load.values()) == {"2"}
    assert estate.record("finished")["requests"] == 0


def test_a_version_that_fails_two_per_cent_is_rolled_back_and_its_damage_is_counted(estate: Estate):
    with estate.load() as load:
        said = estate.run("start", "--to", "failing", code=3)
    load.report("a version that fails 2 % of the requests")
    assert "rolled back" in said
    broken, finished = failures(load), estate.record("finished")
    assert {answer.variant for answer in broken} == {"failing"}, "nothing else was lost"
    assert len(broken) == finished["failures"]
    answered = sum(answer.variant == "failing" for answer in load.answers)
    assert answered == finished["requests"]
    assert answered < 0.35 * len(load.answers), "the step allowed for a quarter"
    print(f"[rollout] {answered} requests of {len(load.answers)} affected, {len(broken)} failed")
    rolled_back(estate)


def test_a_slow_version_is_rolled_back(estate: Estate):
    # Small limits: it must not depend on how fast the machine is, and a wrong alarm would be right here.
    estate.configure(analysis={"latency": {"quantile": 0.5, "max_ratio": 1.5, "slack_ms": 10}})
    with estate.load() as load:
        said = estate.run("start", "--to", "slow", code=3)
    load.report("a slow version")
    assert "quantile" in said
    assert failures(load) == []
    rolled_back(estate)


def test_a_driver_that_is_killed_again_and_again_is_replaced(estate: Estate):
    """And a good version gets there, whatever happens on the way."""
    estate.configure(min_samples=800)  # steps long enough to be interrupted
    moments = ["checked", "moving", "moved", "counting", "observed", "decided", "moving", "counting"]
    with estate.load() as load:
        for number, event in enumerate(moments):
            before = estate.records()
            process = estate.begin(*(["start", "--to", "good"] if number == 0 else ["resume"]))

            def seen(before: Any = before, event: str = event) -> bool:
                records = estate.records()
                same = before and records[0] == before[0]
                new = records[len(before) if same else 0 :]
                return any(record["event"] in (event, "finished") for record in new)

            if number == 0:
                begun = before[0] if before else None
                estate.wait_for(lambda begun=begun: estate.records()[:1] not in ([], [begun]), "its start")
            estate.wait_for(seen, f"record `{event}`")
            kill(process, group=bool(number % 2))
            status = estate.status()
            assert status["driver"] is None
            if status["result"] is not None:
                break  # the last step was over before the kill
        assert number >= 3
        if status["phase"] == "ending":
            estate.run("resume")
        elif status["result"] is None:
            assert "NOBODY drives it" in estate.run("status")
            process = estate.begin("resume")
            held = estate.wait_for(lambda: estate.status()["driver"], "a driver")
            assert held["pid"] == process.pid
            if estate.status()["result"] is None:
                assert "drives this rollout" in estate.run("start", "--to", "good", code=1)
            assert process.wait(timeout=300) == 0, (estate.stack.home / "estate.log").read_text()
    load.report(f"a good version, its driver killed {number + 1} times")
    assert failures(load) == []
    assert set(load.values()) == {"2"}
    assert estate.record("finished")["result"] == "promoted"
    assert estate.weights() == {"good": 100}


def test_the_gateway_is_down_and_nothing_is_promoted_and_others_may_run_the_engine(estate: Estate):
    with estate.load() as load:
        process = estate.begin("start", "--to", "good", "--prometheus", "http://127.0.0.1:1")
        estate.wait_for(lambda: [r for r in estate.records() if r["event"] == "held"], "a record `held`")
        estate.stack.up()
        assert estate.stack.changes() == {}, "somebody else's run finds nothing to do"
        assert estate.weights() == {"blue": 100}
        kill(process, group=True)
        process = estate.begin("resume")
        estate.wait_for(lambda: [r for r in estate.records() if r["event"] == "observed"], "evidence")
        estate.stack.up()
        assert estate.stack.changes() == {}, "nor does it while weights are shared"
        assert estate.weights() in ({"blue": 75, "good": 25}, {"good": 100})
        estate.run("abort")
        assert process.wait(timeout=300) == 3
    assert failures(load) == []
    assert estate.weights() == {"blue": 100}


def test_a_good_version_takes_over_and_the_old_one_is_retired(estate: Estate):
    configured = json.loads(json.dumps({"errors": {"max_increase": 10}, "golden": "golden.json"}))
    configured["latency"] = {"quantile": 0.5, "max_ratio": 3.0, "slack_ms": 150}
    # Variants without requests have left the stack file, and nobody ran `pulumi up`: they are no obstacle.
    steps = [{"percent": 1}, {"percent": 25}, {"percent": 100}]
    estate.configure("blue", "good", steps=steps, min_samples=20, analysis=configured)
    with estate.load() as load:
        estate.run("start", "--to", "good")
        assert estate.weights() == {"good": 100}
        # What is not in the stack file any more goes, and the weights stay where they are.
        estate.configure("good", "wrong", "slow", "failing")
        retire(estate.stack)
        until = time.monotonic()
        estate.wait_for(lambda: sum(load.values(since=until).values()) > 50, "answers")
    load.report("1 -> 25 -> 100 %, and the old version removed")
    assert failures(load) == []
    assert set(load.values()) == {"2"}
    assert estate.weights() == {"good": 100}
    moved = [record["weights"]["good"] for record in estate.records() if record["event"] == "moved"]
    assert moved == [1, 25, 100]
    estate.run("report", "--output", str(estate.stack.home / "report.html"))
    page = (estate.stack.home / "report.html").read_text()
    assert page.count("<svg") >= 3
    assert "http" not in page.replace("http://127.0.0.1", "")
    estate.configure()
    estate.stack.up()


def retire(stack: LocalStack) -> None:
    """Take `blue` out of the stack file, and run the engine."""
    file = stack.folder / "config" / "Pulumi.test.yaml"
    file.write_text(file.read_text().replace("blue: 100", "good: 100"))
    stack.up()
    assert stack.changes()["ModelServer tiny-blue"] == "delete"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["start", "--to", "gren"], "has no variant gren"),
        (["start"], "say which variant is to take over, with --to"),
        (["pause"], "no rollout is under way"),
        (["start", "--to", "good", "--cwd", "/"], "there is no Pulumi.yaml in / or above"),
    ],
)
def test_what_cannot_be_is_explained(estate: Estate, arguments: list[str], message: str):
    assert message in estate.run(*arguments, code=1)


def test_users_stay_with_their_variant(estate: Estate):
    analysis = {"outcome": {"file": "outcomes.jsonl"}}
    estate.configure(
        "blue",
        "good",
        strategy="a/b",
        steps=None,
        users={"header": "x-user"},
        analysis=analysis,
        weights={"blue": 50, "good": 50},
    )
    estate.stack.up()
    first, *others = (labels.variants_of(estate.stack.url(ENDPOINT), labels.USERS[:60], {}) for _ in range(5))
    assert all(other == first for other in others)
    assert {*first.values()} == {"blue", "good"}
    estate.configure(weights={"blue": 100})
    estate.stack.up()
