"""Business outcomes: the mean of anything with known bounds, e.g. revenue, or whether it was bought.

The predictable plug-in empirical-Bernstein confidence sequence: values x in [0, 1], with bets lambda that
only look back,

    lambda_t = min(sqrt(2 log(2/alpha) / (var_{t-1} t log(1 + t))), 1/2)
    centre   = sum lambda_i x_i / sum lambda_i
    radius   = (log(2/alpha) + sum 4 (x_i - mean_{i-1})^2 psi(lambda_i)) / sum lambda_i
    psi(l)   = (-log(1 - l) - l) / 4

I. Waudby-Smith, A. Ramdas: Estimating means of bounded random variables by betting. J. R. Stat. Soc. B 86
(2024), theorem 2. It adapts to the variance; no distribution is assumed, and the values may come late, as
long as being late does not depend on the value.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .proportions import CANDIDATE_PART

Numbers = npt.NDArray[np.float64]

_LARGEST_BET = 0.5


@dataclass(frozen=True)
class Mean:
    """Estimates and intervals after each value, along the last axis."""

    estimate: Numbers
    low: Numbers
    high: Numbers


def mean(values: npt.ArrayLike, alpha: float, lowest: float = 0.0, highest: float = 1.0) -> Mean:
    """The mean after each of the values, with an interval that holds at all times.

    Args:
        values: in the order in which they came, along the last axis, at least one; all within the bounds.
        alpha: the probability that the true mean is ever outside.
        lowest: the least value that there can be.
        highest: the greatest value that there can be.

    Raises:
        ValueError: a value is outside of the bounds, without which the interval would not hold.
    """
    raw = np.asarray(values, np.float64)
    if raw.size and (raw.min() < lowest or raw.max() > highest):
        raise ValueError(
            f"outcomes must lie between {lowest:g} and {highest:g}, got {raw.min():g} to {raw.max():g}; "
            "set the bounds of the outcome to what it can be"
        )
    x = (raw - lowest) / (highest - lowest)
    t = np.arange(1, x.shape[-1] + 1)
    averages = (0.5 + np.cumsum(x, -1)) / (t + 1)
    variances = (0.25 + np.cumsum((x - averages) ** 2, -1)) / (t + 1)
    first = np.ones((*x.shape[:-1], 1))
    mean_before = np.concatenate([0.5 * first, averages[..., :-1]], -1)
    variance_before = np.concatenate([0.25 * first, variances[..., :-1]], -1)
    bound = np.log(2 / alpha)
    bets = np.minimum(np.sqrt(2 * bound / (variance_before * t * np.log1p(t))), _LARGEST_BET)
    price = (-np.log1p(-bets) - bets) / 4
    staked = np.cumsum(bets, -1)
    centre = np.cumsum(bets * x, -1) / staked
    radius = (bound + np.cumsum(4 * (x - mean_before) ** 2 * price, -1)) / staked
    # What was once refuted stays refuted.
    low = np.maximum.accumulate(np.maximum(centre - radius, 0), -1)
    high = np.minimum.accumulate(np.minimum(centre + radius, 1), -1)
    scale = highest - lowest
    return Mean(np.cumsum(raw, -1) / t, lowest + scale * low, lowest + scale * high)


@dataclass(frozen=True)
class MeanDifference:
    """The candidate's mean less the stable variant's, and the same in the stable variant's deviations."""

    estimate: float
    low: float
    high: float
    effect_size: float
    """The difference over the pooled standard deviation (Cohen's d); nan where nothing varies."""


def mean_difference(
    candidate: npt.ArrayLike, stable: npt.ArrayLike, alpha: float, lowest: float = 0.0, highest: float = 1.0
) -> MeanDifference:
    """How much larger the candidate's mean is, after all values of both; an arm without any is unknown."""
    ours, theirs = np.asarray(candidate, np.float64), np.asarray(stable, np.float64)
    if not (ours.size and theirs.size):
        return MeanDifference(float("nan"), lowest - highest, highest - lowest, float("nan"))
    one = mean(ours, alpha * CANDIDATE_PART, lowest, highest)
    other = mean(theirs, alpha * (1 - CANDIDATE_PART), lowest, highest)
    deviation = float(np.sqrt((ours.var() + theirs.var()) / 2))
    gap = float(one.estimate[-1] - other.estimate[-1])
    return MeanDifference(
        estimate=gap,
        low=float(one.low[-1] - other.high[-1]),
        high=float(one.high[-1] - other.low[-1]),
        effect_size=gap / deviation if deviation else float("nan"),
    )
