"""Shadows that are judged by what they answer to copies."""

import json
from collections.abc import Callable, Mapping

from tests.engine.local import tiny
from tests.engine.local.load import Load, Request
from tests.engine.rollout.driven import Driven

AGREEMENT = {"min_percent": 95, "slice_header": "x-region"}


def regional(headers: Mapping[str, str] | None = None) -> Request:
    """A version that drifts from 501 on answers as the others do in the north only."""
    one = tiny.request()
    first = json.loads(one.body)["inputs"][0]["data"][0]
    part = {"x-region": "south" if first > 500 else "north"}
    return Request(one.path, one.body, one.read, {**(headers or {}), **part})


def judge_both(driven: Driven, good: str, watch: Callable[[str], None], load: Load) -> None:
    """Judge a good shadow, then one that drifts; clients see neither.

    Args:
        driven: has a version `drifting`.
        good: the variant that answers as the one with the requests does.
        watch: makes a variant the shadow of a shadow rollout by `AGREEMENT`.
        load: of `regional` requests.
    """
    before = driven.weights()
    with load:
        watch(good)
        said = driven.run("start")
        assert "pairs of answers agree" in said
        watch("drifting")
        said = driven.run("start", code=3)
    load.report("two shadows")
    assert "least in slices south (0 of " in said
    assert not [answer for answer in load.answers if answer.failure]
    assert set(load.values()) == {"2"}
    answered = {answer.variant for answer in load.answers}
    assert answered <= before.keys() | driven.weights().keys(), "what the weights said"
    slices = [record["compared"]["slices"] for record in driven.records() if record.get("compared")][-1]
    assert slices["north"][0] == slices["north"][1] > 10
