"""The driver, in a world in memory: what it decides, what it costs, and that no kill makes a difference."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from stacks.rollout.driver import Driver
from stacks.rollout.errors import RolloutError
from stacks.rollout.state import Phase, Result
from tests.unit.rollout.world import Behaviour, Killed, World

STEPS = [{"percent": percent} for percent in (1, 5, 25, 100)]
LIMITS = {"errors": {"max_increase": 2.0}}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def shares(world: World) -> list[int]:
    return [weights["green"] for _, weights in world.moves]


def test_a_good_version_goes_up_step_by_step(world: World):
    world.start(analysis=LIMITS)
    state = world.run()
    assert state.result is Result.PROMOTED
    assert shares(world) == [1, 5, 25, 100]
    assert world.weights == {"blue": 0, "green": 100}
    assert world.last("finished")["result"] == "promoted"


@pytest.mark.parametrize(
    ("behaviour", "named"),
    [
        (Behaviour(fails=0.10), "errors"),
        (Behaviour(fails=1.0), "errors"),
        (Behaviour(ms=60), "latency"),
    ],
    ids=["fails-now-and-then", "fails-always", "slow"],
)
def test_a_bad_version_is_rolled_back_from_its_first_step(world: World, behaviour: Behaviour, named: str):
    world.behaviours["green"] = behaviour
    world.start(analysis=LIMITS)
    state = world.run()
    assert state.result is Result.ROLLED_BACK
    assert shares(world) == [1, 0]
    bad = [
        check["name"] for check in world.last("decided")["evidence"]["checks"] if "roll" in check["verdict"]
    ]
    assert bad == [named]
    finished = world.last("finished")
    all_requests = sum(count[0] for count in world.counts.values())
    assert finished["requests"] == world.counts["green"][0] < 0.02 * all_requests
    assert finished["failures"] == world.counts["green"][1]


def test_a_version_that_only_breaks_under_load_is_caught_at_the_step_that_breaks_it(world: World):
    world.behaviours["green"] = Behaviour(failing_share=lambda weight: 0.2 if weight > 10 else 0.0)
    world.start(analysis=LIMITS)
    assert world.run().result is Result.ROLLED_BACK
    assert shares(world) == [1, 5, 25, 0]


def test_the_last_step_is_held_against_what_the_old_version_did_before(world: World):
    world.behaviours["green"] = Behaviour(failing_share=lambda weight: 0.2 if weight == 100 else 0.0)
    world.start(analysis=LIMITS)
    assert world.run().result is Result.ROLLED_BACK
    assert shares(world) == [1, 5, 25, 100, 0]


def at_zero(world: World, driver: Driver | None = None) -> float:
    """Seconds from the decision to roll back until the gateway sends nothing to green."""
    begun = next(r["at"] for r in world.journal.last() if r["event"] == "decided" and "back" in r["decision"])
    world.until(lambda _: world.weights["green"] == 0, driver)
    return world.now - begun


def test_a_roll_back_waits_neither_for_the_engine_nor_for_who_holds_the_stack(world: World):
    world.has_brake = True
    world.start(analysis=LIMITS, steps=[{"percent": 25}, {"percent": 100}])
    world.until(lambda state: state.phase is Phase.OBSERVE and state.stage_began is not None)
    world.busy, world.engine_s = True, 120.0
    world.behaviours["green"] = Behaviour(fails=0.3)
    world.until(lambda state: state.phase is Phase.END)
    assert at_zero(world) <= 2
    assert world.stack["green"] == 25
    world.until(lambda _: world.now > 1_600)
    world.busy = False
    assert world.run().result is Result.ROLLED_BACK
    assert world.stack == world.weights == {"blue": 100, "green": 0}
    assert world.braked == []


def test_what_breaks_while_the_weights_move_is_not_waited_for(world: World):
    """The share of the step before goes on failing; the run of the engine that raises it takes minutes."""
    world.has_brake = True
    world.start(analysis=LIMITS, steps=[{"percent": 25}, {"percent": 100}])
    driver = world.until(lambda state: state.phase is Phase.MOVE and state.stage == 1)
    world.engine_s = 300.0
    world.until(lambda state: state.moving_to is not None, driver)
    world.behaviours["green"] = Behaviour(fails=0.3)
    begun = world.now
    world.until(lambda state: state.phase is Phase.END, driver)
    assert at_zero(world, driver) <= 2
    assert world.now - begun < 30
    assert driver.run().result is Result.ROLLED_BACK
    assert shares(world) == [25, 100, 0], "the run that was under way asked for 100 %"
    assert world.weights == {"blue": 100, "green": 0}


def test_few_requests_are_waited_for(world: World):
    world.rate = 1
    world.start(analysis=LIMITS, steps=[{"percent": 1}, {"percent": 100}], max_time_s=1_000_000)
    world.until(lambda state: state.phase is Phase.OBSERVE and world.now > 1_500)
    assert shares(world) == [1]
    assert world.counts["green"][0] < 100


def test_what_cannot_be_shown_in_time_is_rolled_back_or_held_as_asked(world: World):
    world.rate = 1
    world.start(analysis=LIMITS, max_time_s=100)
    state = world.run()
    assert state.result is Result.ROLLED_BACK
    assert "not enough evidence" in state.why
    world.start(analysis=LIMITS, max_time_s=100, on_timeout="hold")
    world.until(lambda _: world.now > 1_500)
    assert world.weights == {"blue": 99, "green": 1}


def test_without_metrics_nothing_is_promoted_and_the_time_does_not_run(world: World):
    world.start(analysis=LIMITS, max_time_s=200, steps=[{"percent": 5}, {"percent": 100}])
    world.until(lambda state: state.phase is Phase.OBSERVE and state.totals != {})
    world.down = True
    begun = world.now
    world.until(lambda _: world.now > begun + 500)
    assert world.weights["green"] == 5
    assert world.events[-1] == "held"
    world.down = False
    assert world.run().result is Result.PROMOTED
    assert world.events.count("held") == 1


def test_a_gateway_that_begins_to_count_anew_is_noticed(world: World):
    world.start(analysis=LIMITS, steps=[{"percent": 5}, {"percent": 100}])
    world.until(lambda state: state.totals != {} and state.totals["green"].requests > 20)
    counted = world.driver().state.totals["green"].requests
    for count in world.counts.values():
        count[0], count[1], count[2] = 0, 0, [0] * len(count[2])
    world.until(lambda state: state.totals["green"].requests > counted)
    assert world.run().result is Result.PROMOTED


def test_a_busy_stack_is_waited_for(world: World):
    world.start(analysis=LIMITS)
    world.busy = True
    world.until(lambda _: world.now > 1_060)
    assert world.moves == []
    world.busy = False
    assert world.run().result is Result.PROMOTED


def test_moves_that_go_on_failing_end_in_a_roll_back(world: World):
    world.start(analysis=LIMITS)
    world.moves_fail = 7
    state = world.run()
    assert state.result is Result.ROLLED_BACK
    assert "could not be moved" in state.why
    assert world.weights["green"] == 0
    failed = [record["at"] for record in world.journal.records() if record["event"] == "move failed"]
    pauses = [later - sooner for sooner, later in pairwise(failed[:5])]
    assert pauses == sorted(pauses), "it asks ever less often"
    assert pauses[-1] > 2 * pauses[0]


def test_pause_holds_what_is_good_and_still_rolls_back_what_is_not(world: World):
    world.start(analysis=LIMITS, steps=[{"percent": 25}, {"percent": 100}])
    world.journal.append("paused")
    world.until(lambda _: world.now > 1_150)
    assert shares(world) == [25]
    world.behaviours["green"] = Behaviour(fails=0.5)
    assert world.run().result is Result.ROLLED_BACK


def test_a_person_may_promote_or_abort(world: World):
    world.rate = 2
    world.start(analysis=LIMITS, max_time_s=100_000)
    world.until(lambda state: state.phase is Phase.OBSERVE)
    world.journal.append("asked", what="promote")
    world.until(lambda state: state.phase is Phase.OBSERVE and state.stage == 1)
    assert shares(world) == [1, 5]
    world.journal.append("asked", what="abort")
    state = world.run()
    assert state.result is Result.ROLLED_BACK
    assert "asked for it" in state.why
    assert world.weights["green"] == 0


def test_weights_that_somebody_else_moved_are_left_alone(world: World):
    world.start(analysis=LIMITS)
    world.until(lambda state: state.phase is Phase.OBSERVE)
    world.weights = world.stack = {"blue": 50, "green": 50}
    assert world.run().result is Result.STOPPED
    assert world.weights == {"blue": 50, "green": 50}


def test_a_model_that_somebody_else_changed_is_not_promoted(world: World):
    world.rate = 20
    world.start(analysis=LIMITS)
    world.until(lambda state: state.phase is Phase.OBSERVE)
    world.models["green"] = "three"
    state = world.run()
    assert state.result is Result.ROLLED_BACK
    assert "green serves three; when the rollout began it was two" in state.why


def test_a_wrong_division_stops_it(world: World):
    world.start(analysis=LIMITS, steps=[{"percent": 10}, {"percent": 100}])
    world.until(lambda state: state.phase is Phase.OBSERVE and state.stage_began is not None)
    world.counts["green"][0] += 2_000
    state = world.run()
    assert state.result is Result.ROLLED_BACK
    assert "10 % were to" in state.why


def test_blue_green_counts_the_old_switches_at_once_and_keeps_it_warm(world: World):
    world.start(strategy="blue-green", keep_warm_s=120, analysis=LIMITS)
    state = world.run()
    assert state.result is Result.PROMOTED
    assert shares(world) == [100]
    assert world.now - world.moves[0][0] >= 120


def test_blue_green_switches_back(world: World):
    world.behaviours["green"] = Behaviour(fails=0.3)
    world.start(strategy="blue-green", keep_warm_s=120, analysis=LIMITS)
    assert world.run().result is Result.ROLLED_BACK
    assert shares(world) == [100, 0]
    assert world.moves[1][0] - world.moves[0][0] < 10


def test_a_b_finds_the_better_outcome(world: World, tmp_path: Path):
    outcome = {"file": "outcomes.jsonl"}
    (tmp_path / "outcomes.jsonl").write_text("")
    world.start(strategy="a/b", analysis={**LIMITS, "outcome": outcome}, max_time_s=100_000)
    world.until(lambda state: state.phase is Phase.OBSERVE)
    with (tmp_path / "outcomes.jsonl").open("a") as file:
        for _ in range(4_000):
            for variant, share in (("blue", 0.3), ("green", 0.4)):
                value = float(world.random.random() < share)
                file.write(json.dumps({"variant": variant, "value": value}) + "\n")
    state = world.run()
    assert state.result is Result.PROMOTED
    assert "effect size" in state.why
    assert shares(world) == [50, 100]


def test_a_rollout_needs_a_candidate_that_gets_nothing_yet(world: World):
    world.stack = {"blue": 90, "green": 10}
    with pytest.raises(RolloutError, match="gets all requests to one that gets none"):
        world.start()


def test_there_is_one_rollout_at_a_time(world: World):
    world.start(analysis=LIMITS)
    with pytest.raises(RolloutError, match="is not over"):
        world.start(analysis=LIMITS)


BAD, GOOD = Behaviour(fails=0.3), Behaviour()

LIVES: dict[str, tuple[dict[str, Any], Behaviour, Result, list[int]]] = {
    "canary, good": ({"steps": [{"percent": 10}, {"percent": 100}]}, GOOD, Result.PROMOTED, [10, 100]),
    "canary, bad": ({"steps": [{"percent": 10}, {"percent": 100}]}, BAD, Result.ROLLED_BACK, [10, 0]),
    "blue-green, good": ({"strategy": "blue-green", "keep_warm_s": 5}, GOOD, Result.PROMOTED, [100]),
    "blue-green, bad": ({"strategy": "blue-green", "keep_warm_s": 5}, BAD, Result.ROLLED_BACK, [100, 0]),
    "shadow, good": ({"strategy": "shadow"}, GOOD, Result.PROMOTED, []),
    "shadow, bad": ({"strategy": "shadow"}, BAD, Result.ROLLED_BACK, []),
    "a/b, good": ({"strategy": "a/b"}, GOOD, Result.PROMOTED, [50, 100]),
    "a/b, bad": ({"strategy": "a/b"}, BAD, Result.ROLLED_BACK, [50, 0]),
}


def life(folder: Path, rollout: dict[str, Any], behaviour: Behaviour) -> World:
    """A world in which a rollout has begun that goes the same way every time."""
    world = World(folder, behaviours={"green": behaviour}, rate=800)
    world.has_brake = True
    world.copies = rollout.get("strategy") == "shadow"
    analysis: dict[str, Any] = dict(LIMITS)
    if rollout.get("strategy") == "a/b":
        analysis["outcome"] = {"file": "outcomes.jsonl"}
        lines = [
            f'{{"variant": "{name}", "value": {value}}}\n' for name, value in (("green", 1), ("blue", 0))
        ]
        (folder / "outcomes.jsonl").write_text("".join(lines) * 100)
    world.start(analysis=analysis, **rollout)
    return world


@pytest.mark.parametrize("name", LIVES)
def test_a_driver_that_is_killed_at_any_step_makes_no_difference(tmp_path: Path, name: str):
    rollout, behaviour, expected, wanted = LIVES[name]
    moment = 0
    while True:
        moment += 1
        (tmp_path / str(moment)).mkdir()
        world = life(tmp_path / str(moment), rollout, behaviour)
        world.kill_at = moment
        try:
            world.run()
        except Killed:
            state = world.run()
        else:
            break
        assert state.result is expected, moment
        assert world.stack == world.weights
        assert world.braked == []
        path = [share for index, share in enumerate(shares(world)) if [0, *shares(world)][index] != share]
        assert path == wanted, moment
        finished = world.last("finished")
        if expected is Result.ROLLED_BACK:
            assert finished["requests"] == world.counts["green"][0]
        assert world.events.count("finished") == 1
    assert moment > 10


def test_a_driver_that_is_killed_again_and_again_gets_there(world: World):
    world.start(analysis=LIMITS)
    deaths = 0
    while True:
        world.kill_at = world.steps + world.random.randrange(1, 6)
        try:
            state = world.run()
            break
        except Killed:
            deaths += 1
            assert deaths < 2_000
    assert state.result is Result.PROMOTED
    assert deaths > 20
