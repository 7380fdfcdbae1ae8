"""Latency: quantiles of a distribution of which nothing is assumed, from values or from a histogram.

Whether a request is as fast as the true q-quantile is a trial with the known share q. So the number of
requests below that quantile stays within the counts that the beta-binomial martingale of `proportions` does
not refute, and the observations at those two ranks bound the quantile, at all times.

S. R. Howard, A. Ramdas: Sequential estimation of quantiles with applications to A/B testing and best-arm
identification. Bernoulli 28 (2022), section 3, with the beta-binomial bound in place of the stitched one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .proportions import log_martingale

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Quantile:
    """A quantile in the unit of what was measured: the estimate, and an interval at all times."""

    estimate: float
    low: float
    high: float


def ranks(q: float, total: int, alpha: float) -> tuple[int, int]:
    """The least and the greatest number of observations that may lie at or below the true q-quantile.

    Args:
        q: which quantile, between 0 and 1.
        total: the number of observations.
        alpha: the probability that the true number is ever outside.
    """
    # The rarer side gets the weight of half an observation, as in `proportions.RARE`.
    weight = 0.5 / min(q, 1 - q)
    mixture, bound = (q * weight, (1 - q) * weight), np.log(1 / alpha)

    def possible(count: int) -> bool:
        return bool(log_martingale(q, count, total, mixture) < bound)

    middle = min(max(round(q * total), 0), total)
    low = _edge(possible, middle, 0)
    return low, _edge(possible, middle, total)


def _edge(possible: Callable[[int], bool], inside: int, outside: int) -> int:
    """The last possible count on the way from one that is possible to the end of the range."""
    if possible(outside):
        return outside
    while abs(outside - inside) > 1:
        middle = (inside + outside) // 2
        inside, outside = (middle, outside) if possible(middle) else (inside, middle)
    return inside


def of_values(values: npt.ArrayLike, q: float, alpha: float) -> Quantile:
    """The q-quantile of values that were seen one by one; infinite ends where there are too few."""
    ordered = np.sort(np.asarray(values, np.float64))
    total = len(ordered)
    if not total:
        return Quantile(float("nan"), float("-inf"), float("inf"))
    low, high = ranks(q, total, alpha)
    return Quantile(
        estimate=float(ordered[min(max(int(np.ceil(q * total)), 1), total) - 1]),
        low=float(ordered[low - 1]) if low else float("-inf"),
        high=float(ordered[high]) if high < total else float("inf"),
    )


def of_histogram(counts: npt.ArrayLike, edges: npt.ArrayLike, q: float, alpha: float) -> Quantile:
    """The q-quantile of values of which only a histogram is known.

    Args:
        counts: how many values each bucket holds.
        edges: the upper edge of each bucket, ascending; the last may be infinite. The first begins at 0.
        q: which quantile, between 0 and 1.
        alpha: the probability that the true quantile is ever outside.

    Returns:
        The interval is as wide as the buckets make it: its ends are edges, rounded outwards. The estimate is
        interpolated within its bucket.
    """
    sizes, upper = np.asarray(counts, np.float64), np.asarray(edges, np.float64)
    below = np.cumsum(sizes)
    total = int(below[-1]) if len(below) else 0
    if not total:
        return Quantile(float("nan"), 0.0, float("inf"))
    lower = np.concatenate([[0.0], upper[:-1]])
    low, high = ranks(q, total, alpha)
    bucket = int(np.searchsorted(below, q * total))
    before = below[bucket] - sizes[bucket]
    width = upper[bucket] - lower[bucket]
    part = (q * total - before) / sizes[bucket] if np.isfinite(width) and sizes[bucket] else 0.0
    return Quantile(
        estimate=float(lower[bucket] + (width * part if np.isfinite(width) else 0.0)),
        low=float(lower[np.searchsorted(below, low)]) if low else 0.0,
        high=float(upper[np.searchsorted(below, high + 1)]) if high < total else float("inf"),
    )
