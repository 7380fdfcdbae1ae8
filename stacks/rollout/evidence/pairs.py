"""Answers to the same request, compared: numbers within a tolerance, classes by what they stand for."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_TOLERANCE = {"FP16": 1e-2, "BF16": 2e-2, "FP32": 1e-4, "FP64": 1e-6}
"""The relative tolerance for each type of the Open Inference Protocol; all others must be equal."""

_ABSOLUTE = 1e-6

Answer = Mapping[str, Any]
"""An answer in the JSON form of the Open Inference Protocol; one with `error` has failed."""


@dataclass(frozen=True)
class Tolerance:
    """How far apart answers may be and still agree."""

    relative: Mapping[str, float] = field(default_factory=dict)
    """By the name of an output, where it differs from what its type allows."""

    classes: Sequence[str] = ()
    """Outputs of scores, of which only the greatest one has to be the same."""


@dataclass
class Agreement:
    """How many pairs agreed, and where the others are."""

    pairs: int = 0
    agreed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    slices: dict[str, list[int]] = field(default_factory=dict)
    """Agreed and all pairs, by the slice that a request belongs to."""

    def add(self, why: str | None, part: str = "") -> None:
        """Count a pair: `why` it disagrees, or None; `part` is the slice that its request belongs to."""
        self.pairs += 1
        self.agreed += why is None
        if why:
            self.reasons[why] += 1
        if part:
            counts = self.slices.setdefault(part, [0, 0])
            counts[0] += why is None
            counts[1] += 1

    def worst_slices(self) -> list[tuple[str, int, int]]:
        """Slices with what agreed in them and all there was, those with the least agreement first."""
        found = [(name, good, total) for name, (good, total) in self.slices.items() if good < total]
        return sorted(found, key=lambda part: part[1] / part[2])


def disagreement(candidate: Answer, stable: Answer, tolerance: Tolerance) -> str | None:
    """Why two answers to one request do not agree; None where they do."""
    if "error" in candidate or "error" in stable:
        if "error" in candidate and "error" in stable:
            return None
        return "only the candidate failed" if "error" in candidate else "only the stable variant failed"
    ours = {output["name"]: output for output in candidate.get("outputs", [])}
    theirs = {output["name"]: output for output in stable.get("outputs", [])}
    if ours.keys() != theirs.keys():
        return f"different outputs: {', '.join(sorted(ours))} instead of {', '.join(sorted(theirs))}"
    for name, output in ours.items():
        why = _apart(output, theirs[name], tolerance)
        if why:
            return f"{name}: {why}"
    return None


def _apart(ours: Mapping[str, Any], theirs: Mapping[str, Any], tolerance: Tolerance) -> str | None:
    if ours["shape"] != theirs["shape"]:
        return "different shapes"
    kind = str(theirs["datatype"])
    mine, other = _flat(ours["data"]), _flat(theirs["data"])
    if len(mine) != len(other):
        return "different sizes"
    if ours["name"] in tolerance.classes:
        rows = (int(theirs["shape"][0]), -1)
        same = np.argmax(np.reshape(mine, rows), -1) == np.argmax(np.reshape(other, rows), -1)
        return None if bool(same.all()) else "another class"
    relative = tolerance.relative.get(str(ours["name"]), _TOLERANCE.get(kind))
    if relative is None:
        return None if mine == other else "not equal"
    near = np.isclose(np.asarray(mine, float), np.asarray(other, float), relative, _ABSOLUTE, equal_nan=True)
    return None if bool(near.all()) else "beyond the tolerance"


def _flat(data: Any) -> list[Any]:
    if isinstance(data, list) and data and isinstance(data[0], list):
        return [item for part in data for item in _flat(part)]
    return list(data) if isinstance(data, list) else [data]
