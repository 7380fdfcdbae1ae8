"""The bounds hold however often one looks, what is usual instead does not; in full: benchmarks/rollout."""

import math

import numpy as np
import pytest

from benchmarks.rollout.simulate import (
    WAYS,
    ever,
    mean_misses,
    quantile_misses,
    ratio_alarms,
    runs,
    samples,
)
from stacks.rollout.evidence.counts import log_distributions_differ, log_sample_ratio
from stacks.rollout.evidence.means import mean, mean_difference
from stacks.rollout.evidence.pairs import Agreement, Tolerance, disagreement
from stacks.rollout.evidence.proportions import difference, interval, log_martingale
from stacks.rollout.evidence.quantiles import of_histogram, of_values

ALPHA = 0.05


@pytest.mark.parametrize("ratio", [1, 19])
def test_equal_variants_are_almost_never_told_apart_however_often_one_looks(ratio: int):
    data = runs(seed=1, count=400, rates=(0.02, 0.02), requests=4000, looks=100, ratio=ratio)
    back, on = ever(data, WAYS["always valid"], 0, ALPHA)
    assert max(back, on) <= ALPHA
    for usual in ("repeated z test", "fixed threshold"):
        assert max(ever(data, WAYS[usual], 0, ALPHA)) > 3 * ALPHA, usual


def test_a_version_that_is_as_bad_as_can_be_tolerated_is_hardly_ever_promoted():
    data = runs(seed=2, count=400, rates=(0.01, 0.005), requests=4000, looks=100, ratio=9)
    assert ever(data, WAYS["always valid"], 0.005, ALPHA)[1] <= ALPHA
    assert ever(data, WAYS["repeated z test"], 0.005, ALPHA)[1] > 3 * ALPHA


def test_what_is_clear_is_decided_in_reasonable_time():
    bad = runs(seed=3, count=200, rates=(0.02, 0.001), requests=4000, looks=200, ratio=9)
    assert np.median(samples(bad, WAYS["always valid"], 0.005, ALPHA, promote=False)) < 1500
    good = runs(seed=4, count=200, rates=(0.001, 0.001), requests=4000, looks=200, ratio=9)
    assert np.median(samples(good, WAYS["always valid"], 0.005, ALPHA, promote=True)) < 2500


def test_without_requests_nothing_is_known_and_every_failure_counts():
    assert interval(0, 0, ALPHA) == (0, 1)
    low, high = interval([0, 5, 100], [100, 100, 100], ALPHA)
    assert (np.diff(low) >= 0).all()
    assert (np.diff(high) >= 0).all()
    assert low[0] == 0
    assert high[2] == 1
    gap = difference((0, 0), (3, 1000), ALPHA)
    assert gap.low < 0 < gap.high


def test_the_martingale_is_one():
    """Its mean over all outcomes of n trials is 1 under the share that it is asked about."""
    n, p = 40, 0.07
    outcomes = np.arange(n + 1)
    chances = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in outcomes]
    assert np.dot(chances, np.exp(log_martingale(p, outcomes, n))) == pytest.approx(1)


def test_quantiles_hold_at_every_look():
    assert quantile_misses(seed=5, count=500, q=0.95, requests=3000, looks=150, alpha=ALPHA) <= ALPHA


def test_a_histogram_bounds_a_quantile_as_its_values_do_but_for_the_buckets():
    values = np.random.default_rng(6).lognormal(3, 0.5, 4000)
    edges = np.append(np.geomspace(1, 1000, 60), np.inf)
    counts, _ = np.histogram(values, [0, *edges])
    exact, binned = of_values(values, 0.95, ALPHA), of_histogram(counts, edges, 0.95, ALPHA)
    step = edges[1] / edges[0]
    assert exact.low / step <= binned.low <= exact.low
    assert exact.high <= binned.high <= exact.high * step
    assert binned.estimate == pytest.approx(exact.estimate, rel=step - 1)
    assert binned.low < np.exp(3 + 0.5 * 1.6449) < binned.high


def test_too_few_values_bound_no_extreme_quantile():
    assert of_values([1.0, 2.0, 3.0], 0.99, ALPHA).high == math.inf
    assert of_histogram([3, 0], [10, math.inf], 0.99, ALPHA).high == math.inf
    assert math.isnan(of_histogram([0, 0], [10, math.inf], 0.99, ALPHA).estimate)


def test_means_hold_at_every_look_where_a_t_interval_does_not():
    ours, theirs = mean_misses(seed=7, count=100, requests=2000, alpha=ALPHA)
    assert ours <= ALPHA
    assert theirs > 3 * ALPHA


def test_a_better_outcome_is_found_with_its_size():
    random = np.random.default_rng(8)
    bought = [(random.random(20_000) < share).astype(float) for share in (0.12, 0.08)]
    found = mean_difference(*bought, ALPHA)
    assert 0 < found.low < 0.04 < found.high
    assert found.effect_size == pytest.approx(0.04 / 0.3, rel=0.2)


def test_an_outcome_beyond_its_bounds_is_refused():
    with pytest.raises(ValueError, match="set the bounds"):
        mean([0.5, 3.0], ALPHA)


def test_a_wrong_division_is_found_and_a_right_one_is_not():
    ours, theirs = ratio_alarms(seed=9, count=500, share=0.05, requests=10_000, looks=200, alpha=ALPHA)
    assert ours <= ALPHA
    assert theirs > 3 * ALPHA
    assert log_sample_ratio([700, 9300], [0.05, 0.95]) > math.log(1 / ALPHA)


def test_answers_that_shift_are_found():
    random = np.random.default_rng(10)
    stable = random.multinomial(9000, [0.5, 0.3, 0.2])
    alike, shifted = random.multinomial(1000, [0.5, 0.3, 0.2]), random.multinomial(1000, [0.4, 0.3, 0.3])
    assert log_distributions_differ(alike, stable, 0.1) < math.log(1 / ALPHA)
    assert log_distributions_differ(shifted, stable, 0.1) > math.log(1 / ALPHA)


def answer(data: list[float], kind: str = "FP32", name: str = "y") -> dict[str, object]:
    return {"outputs": [{"name": name, "datatype": kind, "shape": [1, len(data)], "data": data}]}


@pytest.mark.parametrize(
    ("candidate", "stable", "tolerance", "why"),
    [
        (answer([1.00001, 2]), answer([1, 2]), Tolerance(), None),
        (answer([1.01, 2]), answer([1, 2]), Tolerance(), "y: beyond the tolerance"),
        (answer([1.01, 2]), answer([1, 2]), Tolerance(relative={"y": 0.1}), None),
        (answer([1, 3], "INT64"), answer([1, 2], "INT64"), Tolerance(), "y: not equal"),
        (answer([0.4, 0.6]), answer([0.1, 0.9]), Tolerance(classes=["y"]), None),
        (answer([0.6, 0.4]), answer([0.1, 0.9]), Tolerance(classes=["y"]), "y: another class"),
        (answer([1]), answer([1, 2]), Tolerance(), "y: different shapes"),
        (answer([1], name="z"), answer([1]), Tolerance(), "different outputs: z instead of y"),
        ({"error": "no"}, answer([1]), Tolerance(), "only the candidate failed"),
        ({"error": "no"}, {"error": "not either"}, Tolerance(), None),
    ],
)
def test_answers_are_compared_as_their_types_ask(candidate, stable, tolerance, why):
    assert disagreement(candidate, stable, tolerance) == why


def test_slices_that_disagree_come_first():
    found = Agreement()
    for part, why in [("a", None), ("b", "y: not equal"), ("b", None), ("c", "y: not equal")]:
        found.add(why, part)
    assert [name for name, _, _ in found.worst_slices()] == ["c", "b"]
    assert (found.pairs, found.agreed) == (4, 2)
