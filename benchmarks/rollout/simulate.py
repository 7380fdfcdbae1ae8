"""Rollouts without servers: how often each way of deciding is wrong, and how many requests it takes.

Every run is looked at again and again, as a driver does. Compared are the always-valid bounds of
`stacks.rollout.evidence`, a two-proportion z test at each look, as is usual in dashboards, and a fixed
threshold on the observed rates, as is usual in rollout controllers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from stacks.rollout.evidence.counts import log_sample_ratio
from stacks.rollout.evidence.means import mean
from stacks.rollout.evidence.proportions import difference
from stacks.rollout.evidence.quantiles import ranks
from stacks.rollout.evidence.shares import bounds

Numbers = npt.NDArray[np.float64]
LEAST = 100
"""Requests to the candidate before anything is decided, which all ways of deciding get alike."""


@dataclass(frozen=True)
class Runs:
    """Counts at each look, one row a run: requests of both arms are the same in all rows."""

    candidate: Numbers
    """Failed requests of the candidate so far."""
    candidate_total: Numbers
    stable: Numbers
    stable_total: Numbers


def runs(
    seed: int, count: int, rates: tuple[float, float], requests: int, looks: int, ratio: float = 1.0
) -> Runs:
    """`count` rollouts in which candidate and stable variant fail at `rates`.

    Args:
        seed: of the random numbers.
        count: how many rollouts.
        rates: the share of failures of the candidate and of the stable variant.
        requests: to the candidate, by the last look.
        looks: how often the counts are looked at, at equal distances.
        ratio: requests to the stable variant for each one to the candidate.
    """
    random = np.random.default_rng(seed)
    each = requests // looks
    totals = np.arange(1, looks + 1, dtype=float) * each
    candidate = random.binomial(each, rates[0], (count, looks)).cumsum(1).astype(float)
    stable = random.binomial(round(each * ratio), rates[1], (count, looks)).cumsum(1).astype(float)
    return Runs(candidate, totals, stable, totals * ratio)


Decide = Callable[[Runs, float, float], tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]
"""Whether each look says roll back, and whether it says promote, given margin and alpha."""


def always_valid(data: Runs, margin: float, alpha: float) -> tuple[npt.NDArray[np.bool_], ...]:
    """What the driver does."""
    gap = difference((data.candidate, data.candidate_total), (data.stable, data.stable_total), alpha)
    return gap.low > margin, gap.high < margin


def repeated_test(data: Runs, margin: float, alpha: float) -> tuple[npt.NDArray[np.bool_], ...]:
    """One-sided z tests for a difference from the margin, at each look as if it were the only one."""
    p, q = data.candidate / data.candidate_total, data.stable / data.stable_total
    error = np.sqrt(p * (1 - p) / data.candidate_total + q * (1 - q) / data.stable_total)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (p - q - margin) / error
    bound = stats.norm.ppf(1 - alpha)
    return z > bound, z < -bound


def fixed_threshold(data: Runs, margin: float, alpha: float) -> tuple[npt.NDArray[np.bool_], ...]:  # noqa: ARG001
    """The observed rates are believed."""
    gap = data.candidate / data.candidate_total - data.stable / data.stable_total
    return gap > margin, gap <= margin


WAYS: Mapping[str, Decide] = {
    "always valid": always_valid,  # type: ignore[dict-item]
    "repeated z test": repeated_test,  # type: ignore[dict-item]
    "fixed threshold": fixed_threshold,  # type: ignore[dict-item]
}


def ever(data: Runs, decide: Decide, margin: float, alpha: float) -> tuple[float, float]:
    """The share of runs that are ever rolled back, and the share that are ever promoted."""
    back, on = decide(data, margin, alpha)
    old_enough = data.candidate_total >= LEAST
    return float((back & old_enough).any(1).mean()), float((on & old_enough).any(1).mean())


def samples(data: Runs, decide: Decide, margin: float, alpha: float, promote: bool) -> Numbers:
    """Requests to the candidate until the decision that is asked for; infinite where it is never made."""
    said = decide(data, margin, alpha)[int(promote)] & (data.candidate_total >= LEAST)
    return np.where(said.any(1), data.candidate_total[said.argmax(1)], np.inf)


def fixed_horizon(rates: tuple[float, float], margin: float, alpha: float, power: float, ratio: float) -> int:
    """Requests to the candidate that a z test with one look, at a number fixed before, would need."""
    p, q = rates
    z = stats.norm.ppf(1 - alpha) + stats.norm.ppf(power)
    return int(np.ceil(z**2 * (p * (1 - p) + q * (1 - q) / ratio) / (p - q - margin) ** 2))


def quantile_misses(seed: int, count: int, q: float, requests: int, looks: int, alpha: float) -> float:
    """The share of runs in which the interval of a quantile ever misses the true one."""
    random = np.random.default_rng(seed)
    each = requests // looks
    below = random.binomial(each, q, (count, looks)).cumsum(1)
    bounds = np.array([ranks(q, each * look, alpha) for look in range(1, looks + 1)])
    return float(((below < bounds[:, 0]) | (below > bounds[:, 1])).any(1).mean())


def mean_misses(seed: int, count: int, requests: int, alpha: float) -> tuple[float, float]:
    """The share of runs in which an interval of a mean ever misses it: ours, and a t interval a look."""
    random = np.random.default_rng(seed)
    ours = theirs = 0
    for _ in range(count):
        values = random.beta(0.4, 3.6, requests)  # mean 0.1
        found = mean(values, alpha)
        ours += bool(((found.low > 0.1) | (found.high < 0.1)).any())
        t = np.arange(1, requests + 1)
        averages = values.cumsum() / t
        deviation = np.sqrt(np.maximum((values**2).cumsum() / t - averages**2, 0) * t / np.maximum(t - 1, 1))
        radius = stats.norm.ppf(1 - alpha / 2) * deviation / np.sqrt(t)
        theirs += bool((np.abs(averages - 0.1) > radius)[LEAST:].any())
    return ours / count, theirs / count


def shift_alarms(seed: int, count: int, requests: int, looks: int, alpha: float) -> tuple[float, float]:
    """Runs in which two arms whose predictions differ by the limit are ever said to be beyond it, or within.

    Three classes, of which one has shifted by the 10 points that are allowed; the second of the two figures
    is that of a z test at each look.
    """
    random, limit = np.random.default_rng(seed), 0.1
    each = requests // looks
    ours = random.multinomial(each, [0.5, 0.3, 0.2], (count, looks)).cumsum(1).astype(float)
    theirs = random.multinomial(each, [0.4, 0.35, 0.25], (count, looks)).cumsum(1).astype(float)
    total = np.broadcast_to(np.arange(1, looks + 1) * float(each), (count, looks))
    low, high = bounds((ours, total), (theirs, total), alpha, 4)
    p, q = ours[..., 0] / total, theirs[..., 0] / total
    z = (p - q - limit) / np.sqrt((p * (1 - p) + q * (1 - q)) / total)
    repeated = np.abs(z) > stats.norm.ppf(1 - alpha / 2)
    old_enough = total[0] >= LEAST
    wrong = (low > limit) | (high < limit)
    return float((wrong & old_enough).any(1).mean()), float((repeated & old_enough).any(1).mean())


def ratio_alarms(
    seed: int, count: int, share: float, requests: int, looks: int, alpha: float
) -> tuple[float, float]:
    """Runs that are wrongly said to be divided wrongly: ours, and a chi-squared test at each look."""
    random = np.random.default_rng(seed)
    each = requests // looks
    ours = random.binomial(each, share, (count, looks)).cumsum(1).astype(float)
    total = np.arange(1, looks + 1) * float(each)
    evidence = log_sample_ratio(np.stack([ours, total - ours], -1), [share, 1 - share])
    z = (ours - total * share) / np.sqrt(total * share * (1 - share))
    repeated = np.abs(z) > stats.norm.ppf(1 - alpha / 2)
    return float((evidence >= np.log(1 / alpha)).any(1).mean()), float(repeated.any(1).mean())
