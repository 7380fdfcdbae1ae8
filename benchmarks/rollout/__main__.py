"""`python -m benchmarks.rollout`: write results/simulations.md. Takes some minutes of one core."""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.rollout.simulate import (
    WAYS,
    ever,
    fixed_horizon,
    mean_misses,
    quantile_misses,
    ratio_alarms,
    runs,
    samples,
    shift_alarms,
)

SEED = 20261122
ALPHA = 0.05
RESULT = Path(__file__).with_name("results") / "simulations.md"


def wrong_decisions(count: int) -> list[str]:
    """How often each way is ever wrong, where nothing is to be found."""
    lines = [
        "| candidate fails | stable fails | margin | requests a look, of each | wrong decision | "
        + " | ".join(WAYS)
        + " |",
        "|---|---|---|---|---|" + "---|" * len(WAYS),
    ]
    cases = [
        # Rates, margin, stable requests for each of the candidate's, what would be wrong.
        ((0.02, 0.02), 0.0, 1.0, "rolled back"),
        ((0.02, 0.02), 0.0, 1.0, "promoted"),
        ((0.02, 0.02), 0.0, 19.0, "rolled back"),
        ((0.02, 0.02), 0.0, 19.0, "promoted"),
        ((0.002, 0.002), 0.0, 19.0, "rolled back"),
        ((0.01, 0.005), 0.005, 19.0, "rolled back"),
        ((0.01, 0.005), 0.005, 19.0, "promoted"),
        ((0.005, 0.0), 0.005, 99.0, "promoted"),
    ]
    for rates, margin, ratio, wrong in cases:
        data = runs(SEED, count, rates, requests=10_000, looks=250, ratio=ratio)
        shares = [ever(data, way, margin, ALPHA)[wrong == "promoted"] for way in WAYS.values()]
        lines.append(
            f"| {rates[0]:.1%} | {rates[1]:.1%} | {margin:.1%} | 40 : {40 * ratio:g} | {wrong} | "
            + " | ".join(f"{share:.2%}" for share in shares)
            + " |"
        )
    return lines


def needed(count: int) -> list[str]:
    """Requests to the candidate until the right decision."""
    lines = [
        "| candidate fails | stable fails | share | decision | median | 80 % of runs | made by 20,000 | "
        "z test with one look, power 80 % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    cases = [
        ((0.02, 0.001), 99.0, False),
        ((0.02, 0.001), 3.0, False),
        ((0.01, 0.0), 19.0, False),
        ((0.05, 0.02), 19.0, False),
        ((1.0, 0.001), 99.0, False),
        ((0.001, 0.001), 99.0, True),
        ((0.001, 0.001), 3.0, True),
        ((0.0001, 0.0001), 19.0, True),
        ((0.01, 0.01), 19.0, True),
    ]
    for rates, ratio, promote in cases:
        data = runs(SEED, count, rates, requests=20_000, looks=1000, ratio=ratio)
        found = samples(data, WAYS["always valid"], 0.005, ALPHA, promote)
        share = 100 / (1 + ratio)
        lines.append(
            f"| {rates[0]:.2%} | {rates[1]:.2%} | {share:.0f} % | {'promote' if promote else 'roll back'} | "
            f"{np.median(found):,.0f} | {np.quantile(found, 0.8, method='lower'):,.0f} | "
            f"{np.isfinite(found).mean():.1%} | {fixed_horizon(rates, 0.005, ALPHA, 0.8, ratio):,} |"
        )
    return lines


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    count = parser.parse_args().runs
    quantile = quantile_misses(SEED, count, 0.95, 10_000, 500, ALPHA)
    means = mean_misses(SEED, count // 5, 5_000, ALPHA)
    shifts = shift_alarms(SEED, count // 5, 10_000, 250, ALPHA)
    ratios = ratio_alarms(SEED, count, 0.05, 20_000, 500, ALPHA)
    text = [
        "# Decisions in simulation",
        "",
        f"`python -m benchmarks.rollout`: {count:,} runs a row, seed {SEED}, alpha {ALPHA:.0%}, 250 looks at",
        "up to 10,000 requests of the candidate, the first at 100 or more.",
        "",
        "## How often a decision is ever wrong",
        "",
        *wrong_decisions(count),
        "",
        f"The interval of a 95 % quantile ever misses it in {quantile:.2%} of the runs (500 looks); that of",
        f"a skewed mean in {means[0]:.2%} of {count // 5:,} (5,000 looks; a t interval: {means[1]:.2%}).",
        f"Requests that are divided as asked raise the alarm of a mismatch in {ratios[0]:.2%} (500 looks;",
        f"a chi-squared test: {ratios[1]:.2%}). Predictions that differ by the limit are ever said to",
        f"be beyond or within it in {shifts[0]:.2%} of {count // 5:,} (250 looks; a z test:",
        f"{shifts[1]:.2%}).",
        "",
        "## How many requests the right decision takes",
        "",
        f"Of the candidate, at a margin of 0.5 %, looked at every 20; {count // 10:,} runs a row. The price",
        "of looking at any time shows beside the last column, whose number has to be fixed before, from",
        "rates that are not known then. (Where hardly anything fails that column is too small: the normal",
        "approximation does not hold there.)",
        "",
        *needed(count // 10),
        "",
    ]
    RESULT.write_text("\n".join(text))
    print(f"written: {RESULT.name}")


if __name__ == "__main__":
    main()
