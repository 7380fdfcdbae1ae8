"""Counts what a model predicts, so that a drift of its predictions can be seen.

Each row of an output is of some kind: the class with the greatest score, a label as it is, a single number by
the interval that it lies in. Prometheus compares the shares of the kinds with those of other times.
"""

from collections import Counter as Counts
from collections.abc import Mapping
from itertools import islice, pairwise
from typing import TYPE_CHECKING

import numpy as np

from model_server.telemetry.metrics import Counter, Metrics
from model_server.tensors import Array

if TYPE_CHECKING:
    from model_server.engine.observers import Observation

KINDS = 20
"""Classes or labels of one output that are told apart; the others are `other`."""
OUTPUTS = 4
"""Outputs of a model that are counted."""

_POSITIVE = [
    *(0.001, 0.01, *(tenth / 10 for tenth in range(1, 10))),
    *(part * 10.0**power for power in range(6) for part in (1, 2, 5)),
]
EDGES = np.array([*(-edge for edge in reversed(_POSITIVE)), 0.0, *_POSITIVE])
"""Between these lie the intervals of single numbers: tenths where they may be probabilities."""
_NAMES = [
    f"less than {EDGES[0]:g}",
    *(f"{low:g} to {high:g}" for low, high in pairwise(EDGES)),
    f"{EDGES[-1]:g} and more",
]
_NOT_A_NUMBER = "not a number"


class Predictions:
    """An observer that counts."""

    def __init__(self, metrics: Metrics) -> None:
        """`metrics`: where to."""
        self._metrics = metrics
        self._counters: dict[tuple[str, str, str], dict[str, Counter]] = {}

    def observe(self, observation: "Observation") -> None:
        """Count an answer; not one that another than the model has given."""
        if observation.error is not None or observation.degraded is not None:
            return
        for name, values in islice(observation.outputs.items(), OUTPUTS):
            known = self._counters.setdefault((observation.model, observation.version, name), {})
            for kind, count in kinds(values).items():
                self._counter(known, observation, name, kind).add(count)

    def close(self) -> None:
        """Nothing is left to do."""

    def _counter(
        self, known: dict[str, Counter], observation: "Observation", output: str, kind: str
    ) -> Counter:
        if kind not in known and len(known) >= KINDS and kind not in _INTERVALS:
            kind = "other"
        counter = known.get(kind)
        if counter is None:
            counter = known[kind] = self._metrics.counter(
                "model_server_predictions_total",
                "Rows of answers by what was predicted, in the share of the calls that is looked at.",
                {
                    "model": observation.model,
                    "version": observation.version,
                    "output": output,
                    "kind": kind,
                },
            )
        return counter


def kinds(values: Array) -> Mapping[str, int]:
    """How many rows of an output are of which kind."""
    if values.size == 0:
        return {}
    rows = values.reshape(values.shape[0] if values.ndim else 1, -1)
    if rows.dtype.kind != "f":
        return Counts(_label(value) for value in rows[:, 0].tolist())
    finite = rows[np.isfinite(rows).all(axis=1)].astype(np.float64)
    if rows.shape[1] > 1:
        found = Counts(str(index) for index in finite.argmax(axis=1).tolist())
    else:
        places = np.searchsorted(EDGES, finite[:, 0], side="right")
        found = Counts(_NAMES[place] for place in places.tolist())
    if len(finite) < len(rows):
        found[_NOT_A_NUMBER] = len(rows) - len(finite)
    return found


_INTERVALS = frozenset((*_NAMES, _NOT_A_NUMBER))


def _label(value: object) -> str:
    return value.decode(errors="replace")[:64] if isinstance(value, bytes) else str(value)[:64]
