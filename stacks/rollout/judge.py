"""The verdict on a candidate: what was counted, held against what its rollout allows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from components.spec.rollout import (
    AgreementAnalysis,
    Analysis,
    ErrorAnalysis,
    LatencyAnalysis,
    OutcomeAnalysis,
    PredictionAnalysis,
)

from .compared import Compared
from .evidence.counts import log_sample_ratio
from .evidence.means import mean_difference
from .evidence.proportions import CANDIDATE_PART, EVEN, difference, interval
from .evidence.quantiles import of_histogram
from .evidence.shares import Shift, largest_shift
from .readings import Reading

DIVISION = "sample ratio"
"""The name of the check that requests are divided as they were to be."""


class Verdict(Enum):
    """What the evidence says, of one check or of all."""

    PROMOTE = "promote"
    ROLL_BACK = "roll back"
    WAIT = "not enough evidence"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    verdict: Verdict
    estimate: float
    """nan before there is anything to tell it from."""
    low: float
    """The least that it can be, but for the probability that the rollout allows for a wrong roll back."""
    high: float
    """The greatest that it can be, but for the probability allowed for a wrong promotion."""
    limit: float
    """What it may be."""
    text: str
    """The same in words."""


@dataclass(frozen=True)
class Evidence:
    """All that was looked at, and what follows from it."""

    verdict: Verdict
    checks: Sequence[Check]
    samples: int
    """Requests of the candidate that it rests on."""

    @property
    def why(self) -> str:
        """The checks that the verdict rests on, in words."""
        told = [check.text for check in self.checks if check.verdict is self.verdict] or [
            check.text for check in self.checks
        ]
        return "; ".join(told) or "nothing is looked at"

    def record(self) -> dict[str, Any]:
        """For the journal; what is not a finite number is left out."""
        checks = [
            {
                key: value.value if isinstance(value, Verdict) else value
                for key, value in asdict(check).items()
                if not isinstance(value, float) or math.isfinite(value)
            }
            for check in self.checks
        ]
        return {"verdict": self.verdict.value, "samples": self.samples, "checks": checks}


@dataclass(frozen=True)
class Window:
    """What was counted while a step lasted."""

    candidate: Reading
    stable: Reading
    edges: Sequence[float]
    share: float | None
    """The candidate's share of the requests as it was set, between 0 and 1; None where nothing was divided:
    copies, or a stable variant that was counted before."""
    outcomes: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Of `candidate` and `stable`, in the order in which they came."""
    users: tuple[int, int] | None = None
    """How many users each variant has, where users are divided by `user_share`."""
    user_share: float = 0.5
    compared: Compared | None = None
    """The answers, where they are looked at."""
    has_pairs: bool = False
    """Both variants get the same requests, and their answers have to agree."""


def judge(analysis: Analysis, window: Window, alpha: float, steps: int, min_samples: int) -> Evidence:
    """Weigh the evidence of a step.

    A breach in any check rolls back, so the probability of a wrong one is shared out among checks and steps.
    For a promotion all of them must be good, in every step, which needs no sharing: to promote a candidate
    that is beyond one of its limits, the check of that limit would have to be wrong.

    Args:
        analysis: what is looked at, with its limits.
        window: what was counted in this step.
        alpha: the probability of a wrong decision in the whole rollout.
        steps: how many steps the rollout has.
        min_samples: requests of the candidate without which it is not promoted.
    """
    pairs = analysis.agreement if window.has_pairs else None
    parts = [analysis.errors, analysis.latency, analysis.outcome, analysis.predictions, pairs]
    # The division has its part also where there is none to look at: a window may lose it on the way.
    each = alpha / (max(steps, 1) * (sum(part is not None for part in parts) + 1))
    checks: list[Check] = []
    if analysis.errors:
        checks.append(_errors(analysis.errors, window, alpha, each))
    if analysis.latency:
        checks.append(_latency(analysis.latency, window, alpha, each))
    if analysis.outcome:
        checks.append(_outcome(analysis.outcome, window, alpha, each))
    if analysis.predictions:
        checks.append(_predictions(analysis.predictions, window, alpha, each))
    if pairs:
        checks.append(_agreement(pairs, window, alpha, each))
    if window.share is not None:
        counts = window.candidate.requests, window.stable.requests
        checks.append(_division(counts, window.share, each, "requests"))
    elif window.users:
        checks.append(_division(window.users, window.user_share, each, "users"))
    verdicts = {check.verdict for check in checks}
    enough = window.candidate.requests >= min_samples
    if Verdict.ROLL_BACK in verdicts:
        verdict = Verdict.ROLL_BACK
    elif verdicts <= {Verdict.PROMOTE} and enough:
        verdict = Verdict.PROMOTE
    else:
        verdict = Verdict.WAIT
    return Evidence(verdict, checks, window.candidate.requests)


def _verdict(is_good: bool, is_bad: bool) -> Verdict:
    return Verdict.ROLL_BACK if is_bad else Verdict.PROMOTE if is_good else Verdict.WAIT


def _errors(limits: ErrorAnalysis, window: Window, alpha: float, each: float) -> Check:
    limit = (0.5 if limits.max_increase is None else limits.max_increase) / 100
    counts = [(reading.failures, reading.requests) for reading in (window.candidate, window.stable)]
    gap = difference(counts[0], counts[1], alpha)
    estimate, high = float(gap.estimate), float(gap.high)
    low = float(difference(counts[0], counts[1], each).low)
    (failed, total), (stable_failed, stable_total) = counts
    return Check(
        "errors",
        _verdict(high <= limit, low > limit),
        100 * estimate,
        100 * low,
        100 * high,
        100 * limit,
        f"{failed} of {total} requests failed, {stable_failed} of {stable_total} of the stable variant: "
        f"{100 * low:+.2f} to {100 * high:+.2f} points, allowed are {100 * limit:+.2f}",
    )


def _latency(limits: LatencyAnalysis, window: Window, alpha: float, each: float) -> Check:
    q, ratio = limits.quantile or 0.95, limits.max_ratio or 1.5
    slack = 10.0 if limits.slack_ms is None else limits.slack_ms

    def bound(level: float) -> tuple[Any, Any]:
        return (
            of_histogram(window.candidate.latency, window.edges, q, level * CANDIDATE_PART),
            of_histogram(window.stable.latency, window.edges, q, level * (1 - CANDIDATE_PART)),
        )

    def allowed(stable: float) -> float:
        return max(ratio * stable, stable + slack)

    ours, theirs = bound(alpha)
    ours_each, theirs_each = bound(each)
    is_good = ours.high <= allowed(theirs.low)
    is_bad = ours_each.low > allowed(theirs_each.high)
    return Check(
        "latency",
        _verdict(is_good, is_bad),
        ours.estimate,
        ours_each.low,
        ours.high,
        allowed(theirs.estimate),
        f"the {q:g} quantile is {_ms(ours_each.low)} to {_ms(ours.high)}, that of the stable variant "
        f"{_ms(theirs.low)} to {_ms(theirs_each.high)}; allowed are {_ms(allowed(theirs.estimate))}",
    )


def _outcome(limits: OutcomeAnalysis, window: Window, alpha: float, each: float) -> Check:
    lowest, limit = limits.lowest or 0.0, 0.0 - (limits.max_decrease or 0.0)  # never -0
    highest = 1.0 if limits.highest is None else limits.highest
    ours, theirs = window.outcomes.get("candidate", []), window.outcomes.get("stable", [])
    gap = mean_difference(ours, theirs, alpha, lowest, highest)
    wide = mean_difference(ours, theirs, each, lowest, highest)
    return Check(
        "outcome",
        _verdict(gap.low >= limit, wide.high < limit),
        gap.estimate,
        gap.low,
        wide.high,
        limit,
        f"{len(ours)} outcomes, {len(theirs)} of the stable variant: {gap.low:+.4g} to {wide.high:+.4g}, "
        f"allowed are {limit:+.4g}; effect size {gap.effect_size:.3f}",
    )


def _predictions(limits: PredictionAnalysis, window: Window, alpha: float, each: float) -> Check:
    limit = (10.0 if limits.max_shift is None else limits.max_shift) / 100
    found = (window.compared or Compared()).predictions

    def shift(level: float) -> Shift:
        return largest_shift(found.candidate, found.stable, level, found.kinds, found.is_ordered)

    gap, wide = shift(alpha), shift(each)
    counts = f"{found.candidate.total()} answers, {found.stable.total()} of the stable variant"
    where = "" if found.is_ordered or not gap.where else f", most of all in {gap.where!r}"
    return Check(
        "predictions",
        _verdict(gap.high <= limit, wide.low > limit),
        100 * gap.estimate,
        100 * wide.low,
        100 * gap.high,
        100 * limit,
        f"{counts}: shares differ by {100 * wide.low:.2f} to {100 * gap.high:.2f} points{where}, "
        f"allowed are {100 * limit:.2f}",
    )


def _agreement(limits: AgreementAnalysis, window: Window, alpha: float, each: float) -> Check:
    wanted = (99.0 if limits.min_percent is None else limits.min_percent) / 100
    found = (window.compared or Compared()).agreement
    low = float(interval(found.agreed, found.pairs, alpha, EVEN)[0])
    high = float(interval(found.agreed, found.pairs, each, EVEN)[1])
    slices = [f"{name} ({good} of {total})" for name, good, total in found.worst_slices()[:3]]
    return Check(
        "agreement",
        _verdict(low >= wanted, high < wanted),
        100 * found.agreed / found.pairs if found.pairs else math.nan,
        100 * low,
        100 * high,
        100 * wanted,
        f"{found.agreed} of {found.pairs} pairs of answers agree: {100 * low:.2f} to {100 * high:.2f} %, "
        f"{100 * wanted:g} % must" + (f"; least in slices {', '.join(slices)}" if slices else ""),
    )


def _division(counts: tuple[int, int], share: float, each: float, what: str) -> Check:
    evidence = float(log_sample_ratio(counts, [share, 1 - share]))
    bound = math.log(1 / each)
    found = counts[0] / sum(counts) if any(counts) else math.nan
    went = "none yet" if math.isnan(found) else f"{100 * found:.2f} %"
    return Check(
        DIVISION,
        _verdict(is_good=evidence < bound, is_bad=evidence >= bound),
        100 * found,
        100 * found,
        100 * found,
        100 * share,
        f"{went} of the {what} went to the candidate, {100 * share:g} % were to",
    )


def _ms(value: float) -> str:
    return f"{value:.3g} ms" if math.isfinite(value) else "unknown"
