"""Answers of both variants: pair by pair, and taken together."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.spec import validate
from components.spec.rollout import Analysis
from stacks.rollout.compared import Compared, Comparison
from stacks.rollout.evidence.shares import largest_shift
from stacks.rollout.judge import Verdict, Window, judge
from stacks.rollout.outcomes import OutcomeFiles
from stacks.rollout.readings import Reading


def answer(key: object, *data: Any, kind: str = "FP32", **more: Any) -> dict[str, Any]:
    outputs = [{"name": "y", "datatype": kind, "shape": [1, len(data)], "data": list(data)}]
    return {"id": str(key), "ms": 1.0, "outputs": outputs, **more}


def analysis(**parts: Any) -> Analysis:
    return validate(Analysis, parts)


def verdict(looks_at: Analysis, compared: Compared, pairs: bool) -> tuple[Verdict, str]:
    fine = Reading(5000, 0, [5000, 0])
    window = Window(fine, fine, [1.0, math.inf], None, compared=compared, has_pairs=pairs)
    found = judge(looks_at, window, 0.05, 2, 100)
    return found.verdict, found.why


def test_halves_of_pairs_meet_in_whichever_order_and_slices_tell_where_they_disagree():
    looks_at = analysis(agreement={"min_percent": 95, "slice_header": "x-region"})
    comparison = Comparison(looks_at, True, Compared())
    for number in range(400):
        part = "south" if number % 4 == 0 else "north"
        wrong = 1.0 if part == "south" else 0.0
        comparison.add([answer(number, 2.0 + wrong, slice=part)], [])
        comparison.add([], [answer(number - 3, 2.0), answer(f"only-{number}", 1.0)])
    found = comparison.compared
    assert found.agreement.pairs == 397
    assert found.agreement.slices == {"south": [0, 100], "north": [297, 297]}
    what, why = verdict(looks_at, found, pairs=True)
    assert what is Verdict.ROLL_BACK
    assert "least in slices south (0 of 100)" in why
    assert Compared.of(json.loads(json.dumps(found.record()))) == found


def test_a_copy_that_fails_alone_disagrees_and_tolerances_are_by_output():
    looks_at = analysis(agreement={"tolerance": {"y": 0.1}})
    comparison = Comparison(looks_at, True, Compared())
    comparison.add([answer(1, 2.1), {"id": "2", "ms": 1.0, "error": "model_failed"}], [])
    comparison.add([], [answer(1, 2.0), answer(2, 2.0)])
    assert comparison.compared.agreement.agreed == 1
    assert comparison.compared.agreement.reasons == {"only the candidate failed": 1}


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (
            lambda r: answer(0, *r.dirichlet([1, 1, 1])),
            lambda r: answer(0, *r.dirichlet([1, 1, 1])),
            "promote",
        ),
        (
            lambda r: answer(0, *r.dirichlet([4, 1, 1])),
            lambda r: answer(0, *r.dirichlet([1, 1, 1])),
            "roll back",
        ),
        (lambda r: answer(0, r.normal()), lambda r: answer(0, r.normal()), "promote"),
        (lambda r: answer(0, r.normal() + 1), lambda r: answer(0, r.normal()), "roll back"),
        (lambda r: answer(0, "cat", kind="BYTES"), lambda r: answer(0, "dog", kind="BYTES"), "roll back"),
    ],
    ids=["scores", "other-scores", "numbers", "other-numbers", "labels"],
)
def test_predictions_are_compared_whatever_they_are(ours: Any, theirs: Any, expected: str):
    looks_at, random = analysis(predictions={"max_shift": 20}), np.random.default_rng(7)
    comparison = Comparison(looks_at, False, Compared())
    for _ in range(2000):
        comparison.add([ours(random)], [theirs(random)])
    assert verdict(looks_at, comparison.compared, pairs=False)[0].value == expected


def test_a_shift_within_the_limit_is_hardly_ever_called_a_breach():
    """100 runs in which the true shift is the limit itself, looked at again and again."""
    random, wrong = np.random.default_rng(11), 0
    for _ in range(100):
        ours, theirs = random.random(2000) < 0.4, random.random(2000) < 0.3
        for count in range(200, 2001, 200):
            one, other = int(ours[:count].sum()), int(theirs[:count].sum())
            shares = {"1": one, "0": count - one}, {"1": other, "0": count - other}
            if largest_shift(*shares, 0.05, 3, is_ordered=False).low > 0.1:
                wrong += 1
                break
    assert wrong <= 0.05 * 100


def test_numbers_far_apart_and_infinite_ones_have_a_place():
    comparison = Comparison(analysis(predictions={}), False, Compared())
    comparison.add(
        [answer(0, value) for value in (-1e30, -5.0, 0.0, 1e-9, 3e6, 1e30, float("inf"), None)], []
    )
    counts = comparison.compared.predictions.candidate
    assert counts.total() == 8
    assert len(counts) == 5
    assert isinstance(counts, Counter)


def test_labels_that_come_later_are_joined_once_and_users_counted(tmp_path: Path):
    outcomes, given = tmp_path / "outcomes.jsonl", tmp_path / "given.jsonl"

    def append(file: Path, *lines: Any) -> None:
        with file.open("a") as out:
            out.writelines(json.dumps(line) + "\n" for line in lines)

    append(given, {"id": "before", "variant": "green"})
    start = given.stat().st_size
    files = OutcomeFiles(outcomes, given, "green", "blue")
    append(
        outcomes, {"id": "early", "value": 1}, {"id": "before", "value": 1}, {"id": "stranger", "value": 1}
    )
    assert files.read(0, start).values == {"candidate": [], "stable": []}
    append(
        given, {"id": "early", "variant": "green"}, {"id": 7, "variant": "blue"}, {"id": 8, "variant": "red"}
    )
    append(outcomes, {"id": 7, "value": 0.5}, {"id": 7, "value": 0.9}, ["nonsense"], {"id": 9})
    with outcomes.open("a") as out:
        out.write('{"id": "early", "val')
    found = files.read(0, start)
    assert found.values == {"candidate": [1.0], "stable": [0.5]}
    assert found.users == (1, 1)
    with outcomes.open("a") as out:
        out.write('ue": 3}\n')
    assert files.read(0, start).values["candidate"] == [1.0], "the first label of an id counts"


def test_before_anything_was_counted_there_is_no_estimate():
    """A nought that nobody has counted would be drawn in the report as if it were one."""
    all_of_it = {"errors": {}, "latency": {}, "outcome": {"file": "o"}, "predictions": {"output": "y"}}
    looks_at = analysis(**all_of_it, agreement={})
    nothing = Reading(0, 0, [0, 0])
    window = Window(nothing, nothing, [1.0, math.inf], 0.25, compared=Compared(), has_pairs=True)
    found = judge(looks_at, window, 0.05, 2, 100)
    assert found.verdict is Verdict.WAIT
    checks = found.record()["checks"]
    assert len(checks) == 6
    assert [check["name"] for check in checks if "estimate" in check] == []
    assert "none yet of the requests went to the candidate" in checks[-1]["text"]
