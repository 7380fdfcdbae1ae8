"""The iris model's data, and what it computes."""

from typing import Any

import numpy as np

FEATURES = ["sepal length", "sepal width", "petal length", "petal width"]
CLASSES = ["setosa", "versicolor", "virginica"]
WEIGHTS = np.array([[0.4, 0.3, -0.7], [0.9, -0.2, -0.7], [-1.6, 0.3, 1.3], [-0.9, -0.9, 1.8]], np.float32)
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.2, 2.9, 4.3, 1.3], [6.9, 3.1, 5.4, 2.1]]


def probabilities(rows: Any) -> np.ndarray:
    """What the iris model computes."""
    scores = np.asarray(rows, np.float32) @ WEIGHTS
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def record(row: list[float]) -> dict[str, float]:
    return dict(zip(FEATURES, row, strict=True))
