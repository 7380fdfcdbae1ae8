"""Answers of both variants as they were given to clients: pair by pair where copies are made, and together.

It is counted here and written to the journal; only halves of pairs whose other half has not come yet are
lost with a driver.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.spec.rollout import AgreementAnalysis, Analysis

from .evidence.pairs import Agreement, Tolerance, disagreement

Answer = Mapping[str, Any]
"""`id`, `ms`, and `outputs` or `error`; perhaps `slice`."""

KINDS = 64
"""Of answers that are told apart where a model's outputs do not say how many there are."""
THRESHOLDS = 1024
"""Of numbers: the grid is fine near zero and a tenth wide, relatively, elsewhere."""

_WAITING = 20_000
"""Halves of pairs that may wait."""


@dataclass
class Predictions:
    """Answers of each kind, by variant."""

    candidate: Counter[str] = field(default_factory=Counter)
    stable: Counter[str] = field(default_factory=Counter)
    is_ordered: bool = False
    """They are numbers on the grid."""
    kinds: int = KINDS


@dataclass
class Compared:
    """All that was compared in a stage."""

    agreement: Agreement = field(default_factory=Agreement)
    predictions: Predictions = field(default_factory=Predictions)
    slower: int = 0
    """Pairs in which the candidate took longer."""
    ms: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """Time that the candidate and the stable variant took for all pairs, in milliseconds."""

    def record(self) -> dict[str, Any]:
        """For the journal."""
        return {
            "pairs": self.agreement.pairs,
            "agreed": self.agreement.agreed,
            "reasons": dict(self.agreement.reasons),
            "slices": self.agreement.slices,
            "slower": self.slower,
            "ms": [round(total, 3) for total in self.ms],
            "candidate": dict(self.predictions.candidate),
            "stable": dict(self.predictions.stable),
            "is_ordered": self.predictions.is_ordered,
            "kinds": self.predictions.kinds,
        }

    @staticmethod
    def of(record: Mapping[str, Any]) -> "Compared":
        """From the journal; an empty record is nothing yet."""
        if not record:
            return Compared()
        slices = {name: list(counts) for name, counts in record["slices"].items()}
        agreement = Agreement(record["pairs"], record["agreed"], Counter(record["reasons"]), slices)
        candidate, stable = Counter(record["candidate"]), Counter(record["stable"])
        predictions = Predictions(candidate, stable, record["is_ordered"], record["kinds"])
        return Compared(agreement, predictions, record["slower"], list(record["ms"]))


class Comparison:
    """Adds answers as they come."""

    def __init__(self, analysis: Analysis, copies: bool, compared: Compared) -> None:
        """Go on from what was compared.

        Args:
            analysis: says what is looked at.
            copies: both variants get the same requests.
            compared: what was counted up to now; it is added to.
        """
        self._agreement = analysis.agreement if copies else None
        self._predictions = analysis.predictions
        self._tolerance = tolerance(analysis.agreement) if analysis.agreement else Tolerance()
        self._waiting: dict[str, tuple[bool, Answer]] = {}
        self.compared = compared

    def add(self, candidate: Sequence[Answer], stable: Sequence[Answer]) -> None:
        """Count answers of both."""
        for is_ours, answers in ((True, candidate), (False, stable)):
            for answer in answers:
                if self._agreement:
                    self._pair(is_ours, answer)
                if self._predictions and "outputs" in answer:
                    self._count(is_ours, answer)

    def _pair(self, is_ours: bool, answer: Answer) -> None:
        found = self._waiting.pop(answer["id"], None)
        if found is None or found[0] == is_ours:
            self._waiting[answer["id"]] = (is_ours, answer)
            if len(self._waiting) > _WAITING:
                del self._waiting[next(iter(self._waiting))]
            return
        ours, theirs = (answer, found[1]) if is_ours else (found[1], answer)
        why = disagreement(ours, theirs, self._tolerance)
        part = str(ours.get("slice") or theirs.get("slice") or "")
        self.compared.agreement.add(why, part)
        self.compared.slower += ours["ms"] > theirs["ms"]
        self.compared.ms[0] += ours["ms"]
        self.compared.ms[1] += theirs["ms"]

    def _count(self, is_ours: bool, answer: Answer) -> None:
        named = self._predictions.output if self._predictions else None
        outputs = [one for one in answer["outputs"] if named in (None, one["name"])]
        kind = _kind(outputs[0]) if outputs else None
        if kind is None:
            return
        predictions = self.compared.predictions
        name, predictions.is_ordered, predictions.kinds = kind
        counts = predictions.candidate if is_ours else predictions.stable
        known = predictions.candidate.keys() | predictions.stable.keys()
        if name not in known and len(known) >= predictions.kinds - 1 and not predictions.is_ordered:
            name = "other"
        counts[name] += 1


def tolerance(limits: AgreementAnalysis) -> Tolerance:
    """How far apart answers may be, as the analysis says."""
    return Tolerance(limits.tolerance or {}, limits.classes or ())


def _kind(output: Mapping[str, Any]) -> tuple[str, bool, int] | None:
    """Which kind of answer the first row of an output is, whether kinds have an order, how many there are."""
    data, shape = output["data"], output["shape"]
    rows = int(shape[0]) if shape else 1
    if not data or not rows:
        return None
    row = data[: max(len(data) // rows, 1)]
    is_number = str(output["datatype"]).startswith(("FP", "BF"))
    if not is_number:
        return str(row[0])[:64], False, KINDS
    if any(value is None or not math.isfinite(value) for value in row):
        return ("0", True, THRESHOLDS) if len(row) == 1 else ("not a number", False, len(row) + 1)
    if len(row) > 1:
        return str(max(range(len(row)), key=row.__getitem__)), False, len(row) + 1
    # Ten steps for each factor of e above a thousandth; the ends take what is beyond.
    step = round(10 * math.asinh(1000 * float(row[0])))
    return str(max(min(step, THRESHOLDS // 2 - 1), -THRESHOLDS // 2)), True, THRESHOLDS
