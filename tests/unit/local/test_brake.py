"""The brake: requests are taken away at once, and no run that knows no better brings them back."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from components.local.machine import brake, envoy
from components.local.machine.files import read_json

BEFORE = {"blue": 75, "green": 25}


def routes(weights: Mapping[str, int]) -> envoy.Json:
    return envoy.discovery(
        [envoy.route_configuration("tiny", weights, {"variant": "green", "percent": 1}, "x-variant", 30, 2)]
    )


def weights(config: Path) -> dict[str, int]:
    return envoy.weights(read_json(brake.routes_file(config, "tiny")))


def run_of_the_engine(config: Path, asked: Mapping[str, int]) -> dict[str, int]:
    brake.write_routes(config, "tiny", asked, routes)
    return weights(config)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    run_of_the_engine(tmp_path, BEFORE)
    return tmp_path


def test_only_the_weights_change_of_both_protocols_and_pins_stay(config: Path):
    brake.pull(config, "tiny", {"blue": 100, "green": 0}, [BEFORE])
    assert read_json(brake.routes_file(config, "tiny")) == routes({"blue": 100, "green": 0})


def test_a_run_that_asks_for_what_was_before_does_not_undo_it(config: Path):
    brake.pull(config, "tiny", {"blue": 100, "green": 0}, [BEFORE, {"blue": 0, "green": 100}])
    for asked in (BEFORE, {"green": 100}, {"blue": 75, "green": 25, "red": 0}):
        assert run_of_the_engine(config, asked) == {"blue": 100, "green": 0}


def test_what_somebody_asks_for_on_purpose_holds_and_ends_it(config: Path):
    brake.pull(config, "tiny", {"blue": 100, "green": 0}, [BEFORE])
    assert run_of_the_engine(config, {"blue": 50, "green": 50}) == {"blue": 50, "green": 50}
    assert run_of_the_engine(config, BEFORE) == BEFORE


def test_it_ends_when_it_is_released_and_with_its_endpoint(config: Path):
    brake.pull(config, "tiny", {"blue": 100, "green": 0}, [BEFORE])
    brake.release(config, "tiny")
    assert run_of_the_engine(config, BEFORE) == BEFORE
    brake.pull(config, "tiny", {"blue": 100, "green": 0}, [BEFORE])
    brake.forget(config, "tiny")
    assert list(config.iterdir()) == []


def test_what_the_gateway_does_not_have_is_refused(config: Path):
    with pytest.raises(ValueError, match="no variant red"):
        brake.pull(config, "tiny", {"red": 100}, [])
    with pytest.raises(FileNotFoundError, match="no endpoint other"):
        brake.pull(config, "other", {"blue": 100}, [])
    assert weights(config) == BEFORE
