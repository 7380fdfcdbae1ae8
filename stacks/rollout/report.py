"""A rollout as one HTML file: weights, evidence and intervals over time, without anything from elsewhere."""

import html
import time
from collections.abc import Sequence
from typing import Any

from .compared import Compared
from .errors import RolloutError
from .journal import Record
from .notify import sentence
from .state import fold

_WIDTH, _HEIGHT, _LEFT, _TOP = 760, 180, 60, 14

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#1d2733}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse;width:100%}tr{border-bottom:1px solid #e3e8ee}
td,th{text-align:left;padding:.25rem .6rem .25rem 0;vertical-align:top}
.result{display:inline-block;padding:.1rem .6rem;border-radius:1rem;color:#fff}
svg text{font:11px system-ui,sans-serif;fill:#5b6876}
"""

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
    colour = {"promoted": "#1a7f4b", "rolled back": "#b3261e"}.get(result, "#8a6d00")
    began, ended = float(records[0]["at"]), float(records[-1]["at"])
    facts = {
        "candidate": f"{state.candidate}: {state.models[state.candidate]}",
        "stable variant": f"{state.stable}: {state.models[state.stable]}",
        "began": f"{_when(began)}, by {records[0]['who']}",
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
        f'<span class="result" style="background:{colour}">{_text(result)}</span></h1>',
        _table(facts),
        "<h2>Weights</h2>",
        _weights(records, state.candidate, began, ended),
        *_evidence(records, began, ended),
        *_agreement(records),
        *_answers(records),
        "<h2>What happened</h2>",
        _table({_when(record["at"]): text for record in records if (text := sentence(record, state))}),
    ]
    title = _text(f"Rollout {state.id}")
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def _text(value: object) -> str:
    return html.escape(str(value))


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) + f".{int(at * 1000) % 1000:03d}"


def _table(rows: dict[str, str]) -> str:
    lines = [f"<tr><th>{_text(key)}</th><td>{_text(value)}</td></tr>" for key, value in rows.items()]
    return f"<table>{''.join(lines)}</table>"


Points = list[tuple[float, float]]


def _weights(records: Sequence[Record], candidate: str, began: float, ended: float) -> str:
    share = float(records[0]["weights"].get(candidate, 0))
    points: Points = [(began, share)]
    for record in records:
        if record["event"] in ("moved", "braked"):
            now = float(record["weights"].get(candidate, 0))
            points += [(record["at"], share), (record["at"], now)]
            share = now
    points.append((ended, share))
    return _chart(began, ended, [("the candidate's share, per cent", points, "#2b6cb0")], (0, 100))


def _evidence(records: Sequence[Record], began: float, ended: float) -> list[str]:
    rows: dict[str, list[tuple[float, dict[str, Any]]]] = {}
    for record in records:
        for check in (record.get("evidence") or {}).get("checks", []):
            rows.setdefault(check["name"], []).append((record["at"], check))
    parts = []
    for name, found in rows.items():
        lines = [
            (label, [(at, check[key]) for at, check in found if key in check], colour)
            for key, label, colour in (
                ("low", "lower end", "#7aa7d9"),
                ("high", "upper end", "#7aa7d9"),
                ("estimate", "estimate", "#2b6cb0"),
                ("limit", "allowed", "#b3261e"),
            )
        ]
        values = sorted(value for _, points, _ in lines for _, value in points)
        if values:
            # Early intervals are so wide that nothing else would be seen.
            low, high = values[len(values) // 20], values[-1 - len(values) // 20]
            room = (high - low or 1) * 0.1
            parts += [
                f"<h2>Evidence: {_text(name)}</h2><p>{_text(_UNITS.get(name, ''))}</p>",
                _chart(began, ended, lines, (low - room, high + room)),
                f"<p>{_text(found[-1][1]['text'])}</p>",
            ]
    return parts


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
    return ["<h2>Answers compared</h2>", _table(rows)]


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
        parts += ["<h2>Answers to the same requests</h2>", _table(rows)]
    kinds = last.predictions
    if kinds.candidate and kinds.stable and not kinds.is_ordered:
        totals = kinds.candidate.total(), kinds.stable.total()
        rows = {
            name: f"{kinds.candidate[name] / totals[0]:.1%}, of the stable variant "
            f"{kinds.stable[name] / totals[1]:.1%}"
            for name, _ in (kinds.candidate + kinds.stable).most_common(20)
        }
        parts += ["<h2>What was predicted</h2>", _table(rows)]
    return parts


def _chart(
    began: float, ended: float, lines: list[tuple[str, Points, str]], span: tuple[float, float]
) -> str:
    low, high = span
    width, height = _WIDTH - _LEFT - 10, _HEIGHT - _TOP - 24
    seconds = max(ended - began, 1e-9)

    def place(at: float, value: float) -> str:
        x = _LEFT + width * (at - began) / seconds
        y = _TOP + height * (1 - (min(max(value, low), high) - low) / (high - low))
        return f"{x:.1f},{y:.1f}"

    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" width="100%">',
        f'<rect x="{_LEFT}" y="{_TOP}" width="{width}" height="{height}" fill="#f6f8fa"/>',
    ]
    for part in (0.0, 0.5, 1.0):
        y, x = _TOP + height * (1 - part), _LEFT + width * part
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.0f}" text-anchor="end">')
        parts.append(f"{low + (high - low) * part:.4g}</text>")
        parts.append(
            f'<text x="{x:.0f}" y="{_HEIGHT - 8}" text-anchor="middle">{seconds * part:.0f} s</text>'
        )
    for index, (label, points, colour) in enumerate(lines):
        path = " ".join(place(at, value) for at, value in points)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.6" points="{path}"/>')
        parts.append(f'<text x="{_LEFT + 8 + 130 * index}" y="{_TOP - 3}" style="fill:{colour}">')
        parts.append(f"{_text(label)}</text>")
    return "".join([*parts, "</svg>"])
