"""What is counted of predictions."""

from typing import Any

import numpy as np
import pytest
from model_server.engine.call import Degraded
from model_server.engine.observers import Observation
from model_server.telemetry.metrics import Metrics
from model_server.telemetry.predictions import KINDS, Predictions, kinds

NAME = "model_server_predictions_total"


def observation(outputs: dict[str, Any], degraded: Degraded | None = None) -> Observation:
    return Observation("m", "1", {}, outputs, None, degraded, 0.0, 0.0, "", "")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], {"1": 2, "0": 1}),
        ([0.05, 0.55, 0.59, 1.0], {"0.01 to 0.1": 1, "0.5 to 0.6": 2, "1 to 2": 1}),
        ([[-0.55], [0.0], [30_000.0]], {"-0.6 to -0.5": 1, "0 to 0.001": 1, "20000 to 50000": 1}),
        (0.25, {"0.2 to 0.3": 1}),
        ([np.nan, 0.5, np.inf], {"not a number": 2, "0.5 to 0.6": 1}),
        ([[np.nan, 1.0], [0.0, 1.0]], {"not a number": 1, "1": 1}),
        ([], {}),
    ],
    ids=["scores", "numbers", "far", "one", "not-numbers", "not-scores", "nothing"],
)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_are_of_kinds(values: Any, expected: dict[str, int], dtype: Any) -> None:
    with np.errstate(over="ignore"):
        assert kinds(np.array(values, dtype)) == expected


def test_labels_are_told_as_they_are() -> None:
    assert kinds(np.array([b"cat", b"dog", b"cat"], object)) == {"cat": 2, "dog": 1}
    assert kinds(np.array([[3], [3], [4]], np.int64)) == {"3": 2, "4": 1}


def test_many_labels_are_no_flood_of_series_and_numbers_have_all_their_intervals() -> None:
    metrics = Metrics()
    predictions = Predictions(metrics)
    predictions.observe(observation({"label": np.arange(1000), "score": np.linspace(-20, 20, 1000)}))
    text = metrics.render().decode()
    assert text.count('output="label"') == KINDS + 1
    assert f'{NAME}{{kind="other",model="m",output="label",version="1"}} {1000 - KINDS}' in text
    assert 'kind="other",model="m",output="score"' not in text
    assert metrics.totals(NAME, {"output": "score"}) == [1000]


def test_what_another_than_the_model_answered_is_not_its_prediction() -> None:
    metrics = Metrics()
    predictions = Predictions(metrics)
    static = Degraded("static", "failure", "m", "1", None)
    predictions.observe(observation({"y": np.array([1.0])}, static))
    assert metrics.totals(NAME, {}) == [0.0, 0.0]
    predictions.observe(observation({"y": np.array([1.0])}))
    assert metrics.totals(NAME, {}) == [1.0]
