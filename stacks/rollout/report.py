"""A rollout as one HTML file: weights, evidence and intervals over time, without anything from elsewhere."""

import html
import time
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from .chart import STYLE, Chart, Points
from .compared import Compared
from .errors import RolloutError
from .journal import Record
from .notify import sentence
from .state import State, fold

_STYLE = (
    """
:root{color-scheme:light dark;--text:#1d2733;--page:#fff;--rule:#e3e8ee;--field:#f6f8fa;--faint:#5b6876;
--line:#2b6cb0;--band:#c9dcf1;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--text:#dbe2ea;--page:#12171d;--rule:#2b343e;--field:#1a2129;
--faint:#93a1b0;--line:#6fb0f0;--band:#24405e;--bad:#f2756b}}
body{font:15px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:var(--text);
background:var(--page);overflow-wrap:break-word}
h1{font-size:1.5rem;line-height:1.3}h2{font-size:1.1rem;margin:2rem 0 0}p{margin:.3rem 0}
table{border-collapse:collapse;width:100%;margin-top:.5rem}tr{border-bottom:1px solid var(--rule)}
td,th{text-align:left;padding:.25rem 1rem .25rem 0;vertical-align:top}th{font-weight:600;max-width:18rem}
th.short{white-space:nowrap;width:1%}td{overflow-wrap:anywhere}td:last-child{padding-right:0}.faint{color:var(--faint)}
.result{display:inline-block;font-size:1rem;padding:.1rem .7rem;border-radius:1rem;color:#fff;
background:#8a6d00;vertical-align:middle}
.result.promoted{background:#1a7f4b}.result.rolled-back{background:#b3261e}
@media(max-width:30rem){body{margin:1rem auto}th.short{white-space:normal}
td,th{padding-right:.6rem}}
"""
    + STYLE
)

_UNITS = {
    "errors": "points more of the requests failed than of the stable variant's",
    "latency": "milliseconds, at the quantile that is looked at",
    "outcome": "the candidate's mean outcome less the stable variant's",
    "predictions": "points by which the share of a kind of answer differs at most",
    "agreement": "per cent of the pairs of answers agree",
    "sample ratio": "per cent of the requests went to the candidate",
}


def report(records: Sequence[Record]) -> str:
    """The report of one rollout.

    Raises:
        RolloutError: there was none yet.
    """
    state = fold(records)
    if state is None:
        raise RolloutError("there is no rollout to report on; begin one with `estate rollout start`")
    result = state.result.value if state.result else state.phase.value
    began, ended = float(records[0]["at"]), float(records[-1]["at"])
    facts = {
        "candidate": f"{state.candidate}: {state.models[state.candidate]}",
        "stable variant": f"{state.stable}: {state.models[state.stable]}",
        "began": f"{time.strftime('%Y-%m-%d %H:%M:%S %Z', time.localtime(began))}, by {records[0]['who']}",
        "took": f"{ended - began:.0f} s",
        "why": state.why or "it is not over",
        "affected": f"{state.affected.requests} requests of the candidate, {state.affected.failures} failed",
        "alpha": f"{state.rollout.alpha or 0.05:g}, always valid",
    }
    finished = [record for record in records if record["event"] == "finished"]
    if finished:
        facts["affected"] = (
            f"{finished[-1]['requests']} requests of the candidate, {finished[-1]['failures']} failed"
        )
    parts = [
        f"<h1>{_text(state.endpoint)}: {_text(state.rollout.kind.value)} rollout {_text(state.id)} "
        f'<span class="result {_text(result).replace(" ", "-")}">{_text(result)}</span></h1>',
        _table(facts.items(), "short"),
        *_weights(records, state.candidate, began, ended),
        *_evidence(records, began, ended),
        *_agreement(records),
        *_answers(records),
        "<h2>What happened</h2>",
        _table(_happened(records, state), "short"),
    ]
    title = _text(f"Rollout {state.id}")
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style>"
    )
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def _text(value: object) -> str:
    return html.escape(str(value))


def _happened(records: Sequence[Record], state: State) -> Iterable[tuple[str, str]]:
    for record in records:
        if text := sentence(record, state):
            at = float(record["at"])
            when = time.strftime("%H:%M:%S", time.localtime(at)) + f".{int(at * 1000) % 1000:03d}"
            yield when, text.removeprefix(f"{state.endpoint}: ")


def _table(rows: Iterable[tuple[str, str]], style: str = "") -> str:
    lines = [f'<tr><th class="{style}">{_text(key)}</th><td>{_text(value)}</td></tr>' for key, value in rows]
    return f"<table>{''.join(lines)}</table>"


def _weights(records: Sequence[Record], candidate: str, began: float, ended: float) -> list[str]:
    share = float(records[0]["weights"].get(candidate, 0))
    points: list[tuple[float, float]] = [(began, share)]
    notes = []
    for record in records:
        if record["event"] in ("moved", "braked"):
            now = float(record["weights"].get(candidate, 0))
            points += [(record["at"], share), (record["at"], now)]
            if now != share and now:
                notes.append((record["at"], now, f"{now:g} %"))
            share = now
    points.append((ended, share))
    if not any(value for _, value in points):  # it got copies only
        return []
    lines = [("the candidate's share, per cent", "line", [points])]
    chart = Chart("the candidate's share over time", began, ended, (0, 120), lines, notes=notes)
    return ["<h2>Weights</h2>", chart.html()]


Checks = Sequence[tuple[float, dict[str, Any]]]
"""What one check said, and when."""


def _evidence(records: Sequence[Record], began: float, ended: float) -> list[str]:
    steps = [float(record["at"]) for record in records if record["event"] == "counting"]
    rows: dict[str, list[tuple[float, dict[str, Any]]]] = {}
    for record in records:
        for check in (record.get("evidence") or {}).get("checks", []):
            rows.setdefault(check["name"], []).append((record["at"], check))
    parts = []
    for name, found in rows.items():
        span = _span(found)
        if span is None:
            continue
        # Each step is an experiment of its own: nothing leads from one to the next.
        runs = [list(run) for _, run in groupby(found, lambda one: sum(step <= one[0] for step in steps))]
        lines = [
            (label, style, [points for run in runs if (points := _points(run, key))])
            for label, style, key in (("estimate", "line", "estimate"), ("allowed", "limit", "limit"))
        ]
        chart = Chart(f"{name} over time", began, ended, span, lines, _band(runs, span), steps[1:])
        parts += [
            f'<h2>Evidence: {_text(name)}</h2><p class="faint">{_text(_UNITS.get(name, ""))}</p>',
            chart.html(),
            f"<p>{_text(found[-1][1]['text'])}</p>",
        ]
    return parts


def _points(run: Checks, key: str) -> Points:
    return [(at, check[key]) for at, check in run if key in check]


def _span(found: Checks) -> tuple[float, float] | None:
    """What is worth showing: early intervals are so wide that nothing else would be seen beside them."""
    keys = ("low", "high", "estimate", "limit")
    values = sorted(check[key] for _, check in found for key in keys if key in check)
    if not values:
        return None
    last = [found[-1][1][key] for key in ("low", "estimate", "limit") if key in found[-1][1]]
    low = min(values[len(values) // 20], *last)
    high = max(values[-1 - len(values) // 20], *last)
    room = (high - low or abs(high) or 1) * 0.1
    return low - room, high + room


def _band(runs: Sequence[Checks], span: tuple[float, float]) -> list[tuple[Points, Points]]:
    """The intervals; one that is open to a side goes up to the edge."""
    return [
        (
            [(at, check.get("low", span[0])) for at, check in run],
            [(at, check.get("high", span[1])) for at, check in run],
        )
        for run in runs
        if any(check.get("low") != check.get("high") for _, check in run)
    ]


def _agreement(records: Sequence[Record]) -> list[str]:
    found = [record["agreement"] for record in records if record.get("agreement")]
    if not found:
        return []
    last = found[-1]
    rows = {
        "answers that agree": f"{last['agreed']} of {last['pairs']}; {last['wanted']} % must "
        f"({last['low']} to {last['high']} %)",
        **{why: f"{count} times" for why, count in last["reasons"].items()},
        **{f"slice {name}": f"{good} of {total} agree" for name, good, total in last["slices"]},
    }
    return ["<h2>Answers compared</h2>", _table(rows.items())]


def _answers(records: Sequence[Record]) -> list[str]:
    """What was compared of answers to clients: pairs of a shadow, and predictions taken together."""
    found = [record["compared"] for record in records if record.get("compared")]
    if not found:
        return []
    last, parts = Compared.of(found[-1]), []
    pairs = last.agreement
    if pairs.pairs:
        rows = {
            "pairs of answers that agree": f"{pairs.agreed} of {pairs.pairs}",
            "pairs in which the candidate took longer": f"{last.slower} of {pairs.pairs}",
            "mean time": f"{last.ms[0] / pairs.pairs:.3g} ms, {last.ms[1] / pairs.pairs:.3g} ms of the "
            "stable variant, within the servers",
            **{why: f"{count} times" for why, count in pairs.reasons.most_common(10)},
            **{
                f"slice {name}": f"{good} of {total} agree" for name, good, total in pairs.worst_slices()[:20]
            },
        }
        parts += ["<h2>Answers to the same requests</h2>", _table(rows.items())]
    kinds = last.predictions
    if kinds.candidate and kinds.stable and not kinds.is_ordered:
        totals = kinds.candidate.total(), kinds.stable.total()
        rows = {
            name: f"{kinds.candidate[name] / totals[0]:.1%}, of the stable variant "
            f"{kinds.stable[name] / totals[1]:.1%}"
            for name, _ in (kinds.candidate + kinds.stable).most_common(20)
        }
        parts += ["<h2>What was predicted</h2>", _table(rows.items())]
    return parts
