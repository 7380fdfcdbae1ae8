"""A rollout in the terminal."""

import time
from collections.abc import Mapping
from itertools import cycle
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .journal import Journal, Record
from .notify import sentence
from .state import Phase, State, fold, positive

_COLOURS = {"promote": "green", "roll back": "red", "not enough evidence": "yellow"}
_LINES = 8


def page(journal: Journal, now: float | None = None) -> RenderableType:
    """The last rollout of a journal as it is now."""
    records = journal.last()
    state = fold(records)
    if state is None:
        return Text("no rollout yet; begin one with `estate rollout start`")
    parts: list[RenderableType] = [_head(state, journal, time.time() if now is None else now)]
    evidence = _evidence(records)
    if evidence:
        parts.append(_checks(evidence))
    parts.append(_history(records, state))
    return Panel(Group(*parts), title=f"{state.endpoint}: {state.rollout.kind.value} rollout {state.id}")


def driver_of(state: State, journal: Journal) -> str:
    """Who drives a rollout, in words."""
    if state.phase is Phase.OVER:
        return "it is over"
    held = journal.living()
    if held:
        return f"driven by {held['who']}, process {held['pid']}"
    return (
        f"NOBODY drives it: `estate rollout resume {state.endpoint}` goes on, "
        f"`estate rollout abort {state.endpoint}` rolls back"
    )


def _head(state: State, journal: Journal, now: float) -> Table:
    head = Table.grid(padding=(0, 2))
    head.add_row("candidate", f"{state.candidate}: {state.models.get(state.candidate, '')}")
    head.add_row("stable", f"{state.stable}: {state.models.get(state.stable, '')}")
    head.add_row("weights", _bar(state.weights))
    for name, text in facts(state, journal, now).items():
        head.add_row(name, text)
    return head


def facts(state: State, journal: Journal, now: float) -> dict[str, str]:
    """What there is to say of a rollout beside weights and evidence."""
    status = state.phase.value
    if state.phase is Phase.OVER and state.result:
        status = f"{state.result.value}: {state.why}"
    elif state.phase is Phase.OBSERVE and state.stage_began is not None:
        spent = now - state.stage_began - state.held_s
        status = (
            f"step {state.stage + 1} of {len(state.plan)} ({state.here.name}) for {spent:.0f} s, "
            f"at most {state.here.max_time_s} s"
        )
    notes = [
        note
        for note, true in (
            ("paused", state.is_paused),
            ("metrics missing", state.held_since),
            ("the gateway is ahead of the stack, which follows", state.is_braked),
        )
        if true
    ]
    affected = state.affected
    return {
        "status": ", ".join([status, *notes]),
        "driver": driver_of(state, journal),
        "affected": f"{affected.requests} requests of the candidate, {affected.failures} failed",
    }


def _bar(weights: Mapping[str, int]) -> Text:
    bar = Text()
    colours = cycle(("blue", "green", "magenta", "cyan"))
    for colour, (name, share) in zip(colours, positive(weights).items(), strict=False):
        bar.append("█" * round(share * 0.4), colour)
        bar.append(f" {name} {share} %  ")
    return bar


def _evidence(records: list[Record]) -> Mapping[str, Any] | None:
    found = [record["evidence"] for record in records if record.get("evidence")]
    return found[-1] if found else None


def _checks(evidence: Mapping[str, Any]) -> Table:
    table = Table(title=f"evidence from {evidence['samples']} requests", title_justify="left", expand=True)
    for column in ("check", "verdict", "what was found"):
        table.add_column(column)
    for check in evidence["checks"]:
        verdict = Text(check["verdict"], _COLOURS[check["verdict"]])
        table.add_row(check["name"], verdict, check["text"])
    return table


def _history(records: list[Record], state: State) -> Table:
    table = Table.grid(padding=(0, 2))
    told = [(record, sentence(record, state)) for record in records]
    for record, text in [one for one in told if one[1]][-_LINES:]:
        table.add_row(time.strftime("%H:%M:%S", time.localtime(record["at"])), text)
    return table
