"""Shares: of requests that failed, that were too slow, of answers that agree.

The beta-binomial mixture: for n trials with s successes and any true share p,

    M(p) = B(a + s, b + n - s) / (B(a, b) p^s (1 - p)^(n - s))

is a martingale under p, so `{p : M(p) < 1/alpha}` contains the true share at all times with probability
1 - alpha. It depends on the two counts only, not on the order in which they came: that is what makes a driver
able to go on from its journal.

H. Robbins: Statistical methods related to the law of the iterated logarithm. Ann. Math. Stat. 41 (1970).
S. R. Howard, A. Ramdas, J. McAuliffe, J. Sekhon: Time-uniform, nonparametric, nonasymptotic confidence
sequences. Ann. Stat. 49 (2021), section 3 and proposition 7.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betaln, xlog1py, xlogy

Numbers = npt.NDArray[np.float64]

RARE = (0.5, 50.0)
"""Parameters (a, b) of the mixture for shares that are expected to be small: any pair is valid, and this one
is tight where a per cent or less fails."""

EVEN = (0.5, 0.5)
"""For shares of which nothing is known."""

_STEPS = 48
"""Halvings of the unit interval: finer than any share of a countable number of requests."""

CANDIDATE_PART = 0.75
"""Of alpha, what goes to the candidate's interval in a difference: it has the fewer requests."""


def log_martingale(
    share: npt.ArrayLike, hits: npt.ArrayLike, total: npt.ArrayLike, mixture: tuple[float, float] = RARE
) -> Numbers:
    """The logarithm of M(share) above; a value of log(1/alpha) or more refutes the share at level alpha."""
    p, s, n = (np.asarray(value, np.float64) for value in (share, hits, total))
    return _evidence(s, n, mixture) - _log_likelihood(p, s, n)


def _evidence(s: Numbers, n: Numbers, mixture: tuple[float, float]) -> Numbers:
    a, b = mixture
    return np.asarray(betaln(a + s, b + n - s) - betaln(a, b), np.float64)


def _log_likelihood(p: Numbers, s: Numbers, n: Numbers) -> Numbers:
    with np.errstate(divide="ignore"):
        return np.asarray(xlogy(s, p) + xlog1py(n - s, -p), np.float64)


def interval(
    hits: npt.ArrayLike, total: npt.ArrayLike, alpha: float, mixture: tuple[float, float] = RARE
) -> tuple[Numbers, Numbers]:
    """The shares that are still possible, at all times with probability 1 - alpha.

    Args:
        hits: how many of the trials were hits.
        total: how many trials there were; with none, everything is possible.
        alpha: the probability that the true share is ever outside, between 0 and 1.
        mixture: the parameters of the mixture, see `RARE`.

    Returns:
        The lower and the upper end, each rounded outwards by less than 1e-12.
    """
    s, n = np.broadcast_arrays(np.asarray(hits, np.float64), np.asarray(total, np.float64))
    centre = np.where(n > 0, s / np.maximum(n, 1), 0.5)
    least = _evidence(s, n, mixture) - np.log(1 / alpha)

    # M is convex in p with its least value at s/n, so each side holds one crossing: both are halved at once.
    near = np.stack([centre, centre])
    far = np.stack([np.zeros_like(centre), np.ones_like(centre)])
    for _ in range(_STEPS):
        middle = (near + far) / 2
        out = _log_likelihood(middle, s, n) <= least
        far, near = np.where(out, middle, far), np.where(out, near, middle)
    return far[0], far[1]


@dataclass(frozen=True)
class Difference:
    """The candidate's share less the stable variant's: the estimate, and an interval at all times."""

    estimate: Numbers
    """nan before both have any trials."""
    low: Numbers
    high: Numbers


def difference(
    candidate: tuple[npt.ArrayLike, npt.ArrayLike],
    stable: tuple[npt.ArrayLike, npt.ArrayLike],
    alpha: float,
    mixture: tuple[float, float] = RARE,
) -> Difference:
    """How much larger the candidate's share is.

    Each arm has an interval of its own, at parts of alpha that add up to it. That is valid however the
    requests are divided, and when the division changes on the way.

    Args:
        candidate: its hits and its trials.
        stable: those of the variant it is compared with.
        alpha: the probability that the true difference is ever outside.
        mixture: the parameters of the mixture.
    """
    low, high = interval(*candidate, alpha * CANDIDATE_PART, mixture)
    other_low, other_high = interval(*stable, alpha * (1 - CANDIDATE_PART), mixture)
    estimate = _rate(*candidate) - _rate(*stable)
    return Difference(estimate, low - other_high, high - other_low)


def _rate(hits: npt.ArrayLike, total: npt.ArrayLike) -> Numbers:
    count = np.asarray(total, np.float64)
    return np.asarray(hits, np.float64) / np.where(count > 0, count, np.nan)
