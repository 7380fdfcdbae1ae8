"""What the example models are: the data, and the estimator of each version.

Everything is seeded, so that a test that trains again gets the very model that is served.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Example:
    """A model: its data set and the estimators of its versions, the first one first."""

    load: Callable[..., Any]
    versions: tuple[Callable[[], Any], ...]

    def data(self) -> tuple[Floats, Floats, NDArray[np.int64], NDArray[np.int64]]:
        """Training and held-out rows, then their classes; a quarter is held out."""
        rows, classes = self.load(return_X_y=True)
        split = train_test_split(
            rows.astype(np.float32), classes, test_size=0.25, random_state=7, stratify=classes
        )
        train, held_out, train_classes, held_out_classes = split
        return train, held_out, train_classes, held_out_classes

    def train(self, version: int) -> Any:
        """The fitted estimator of a version, counted from 1."""
        train, _, classes, _ = self.data()
        return self.versions[version - 1]().fit(train, classes)


def _linear() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, random_state=7))


def _boosted() -> Any:
    return GradientBoostingClassifier(n_estimators=80, max_depth=3, random_state=7)


def _mlp() -> Any:
    return make_pipeline(StandardScaler(), MLPClassifier((64,), max_iter=300, random_state=7))


EXAMPLES: Mapping[str, Example] = {
    "breast-cancer": Example(load_breast_cancer, (_linear, _boosted)),
    "digits": Example(load_digits, (_linear, _mlp)),
}
