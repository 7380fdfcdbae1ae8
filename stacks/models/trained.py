"""What training hands over to registration; loads neither scikit-learn nor MLflow."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Trained:
    """A version of an example, ready to be registered."""

    name: str
    version: int
    estimator: str
    rows: int
    """How many it was trained on."""
    onnx: bytes
    metrics: Mapping[str, float]
    """On held-out rows."""
    sample: NDArray[np.float32]
    """A few held-out rows."""
    answers: Mapping[str, NDArray[Any]]
    """What scikit-learn says to them."""


def train_all() -> list[Trained]:
    """Every version of every example, the first one first. This is what loads scikit-learn."""
    from stacks.models.catalog import EXAMPLES
    from stacks.models.training import train

    return [
        train(name, example, version)
        for name, example in EXAMPLES.items()
        for version in range(1, len(example.versions) + 1)
    ]
