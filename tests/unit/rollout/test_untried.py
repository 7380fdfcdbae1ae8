"""What a job that runs again and again begins, and what not."""

from typing import Any

import pytest

from stacks.rollout.errors import RolloutError
from stacks.rollout.placement import Placement, Variant
from stacks.rollout.untried import untried


def placement(**variants: tuple[str, int]) -> Placement:
    return Placement({name: Variant(model, share, ()) for name, (model, share) in variants.items()}, "")


def started(candidate: str, stable: str, **models: str) -> dict[str, Any]:
    return {"event": "started", "candidate": candidate, "stable": stable, "models": models}


def test_each_version_is_tried_once_whatever_became_of_it() -> None:
    first = [started("green", "blue", blue="m/1", green="m/2"), {"event": "finished"}]
    assert untried(placement(blue=("m/1", 100), green=("m/2", 0)), []) == "green"
    assert untried(placement(blue=("m/1", 100), green=("m/2", 0)), first) is None, "it was rolled back"
    assert untried(placement(blue=("m/1", 0), green=("m/2", 100)), first) is None, "it was replaced"
    assert untried(placement(blue=("m/3", 0), green=("m/2", 100)), first) == "blue"


def test_of_several_new_versions_somebody_has_to_choose() -> None:
    with pytest.raises(RolloutError, match="green, red; say with --to"):
        untried(placement(blue=("m/1", 100), green=("m/2", 0), red=("m/3", 0)), [])
