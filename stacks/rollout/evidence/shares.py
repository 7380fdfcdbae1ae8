"""What is predicted, taken together: classes by their shares, numbers by the share up to each value.

The shares of each kind have the always-valid intervals of `proportions`, and alpha is divided by the number
of kinds that there can be, so the largest shift is bounded whichever kind it is. For numbers the kinds are
thresholds, and the largest shift is the Kolmogorov-Smirnov distance on a fixed grid. That is less sharp than
a test of "exactly alike" (`counts.log_distributions_differ`), which no new model passes for long: it tells
whether two models differ by more than somebody allows.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .proportions import CANDIDATE_PART, EVEN, interval

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Shift:
    """The largest difference between shares: the estimate, an interval at all times, and where it is."""

    estimate: float
    low: float
    high: float
    where: str


def largest_shift(
    candidate: Mapping[str, int], stable: Mapping[str, int], alpha: float, kinds: int, is_ordered: bool
) -> Shift:
    """How far apart the shares of any kind of answer are.

    Args:
        candidate: its answers of each kind.
        stable: those of the variant it is compared with.
        alpha: the probability that the true largest shift is ever outside.
        kinds: how many kinds there can be, fixed before anything was counted.
        is_ordered: the kinds are whole numbers, and shares are those of answers up to each of them.
    """
    names = sorted(candidate.keys() | stable.keys(), key=int if is_ordered else str)
    totals = sum(candidate.values()), sum(stable.values())
    if not names or not all(totals):
        return Shift(float("nan"), 0.0, 1.0, "")
    # Kinds that were not seen yet are one more, of which there were none.
    ours = np.array([*(candidate.get(name, 0) for name in names), 0], np.float64)
    theirs = np.array([*(stable.get(name, 0) for name in names), 0], np.float64)
    if is_ordered:
        ours, theirs = np.cumsum(ours), np.cumsum(theirs)
        ours[-1] = theirs[-1] = 0.0
    low, high = bounds((ours, np.array(totals[0])), (theirs, np.array(totals[1])), alpha, kinds)
    gaps = np.abs(ours / totals[0] - theirs / totals[1])
    worst = int(np.argmax(gaps))
    where = names[worst] if worst < len(names) else ""
    return Shift(float(gaps[worst]), float(low), float(high), where)


def bounds(
    candidate: tuple[Numbers, Numbers], stable: tuple[Numbers, Numbers], alpha: float, kinds: int
) -> tuple[Numbers, Numbers]:
    """The least and the greatest that the largest shift can be, at all times with probability 1 - alpha.

    Args:
        candidate: its answers of each kind, along the last axis, and all of its answers, without that axis.
        stable: those of the variant it is compared with.
        alpha: the probability that the true largest shift is ever outside.
        kinds: how many kinds there can be.
    """
    (ours, total), (theirs, other_total) = candidate, stable
    low, high = interval(ours, total[..., None], alpha * CANDIDATE_PART / kinds, EVEN)
    other_low, other_high = interval(
        theirs, other_total[..., None], alpha * (1 - CANDIDATE_PART) / kinds, EVEN
    )
    least = np.maximum(np.maximum(low - other_high, other_low - high), 0)
    most = np.maximum(np.abs(high - other_low), np.abs(other_high - low))
    return np.asarray(least.max(-1), np.float64), np.asarray(most.max(-1), np.float64)
