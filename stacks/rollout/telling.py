"""The commands that tell of a rollout, or ask its driver for something: all they need is its journal."""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Sequence

from .errors import RolloutError
from .journal import Journal, Record
from .notify import sentence
from .opened import current, opened
from .state import Phase, State, fold


def status(args: argparse.Namespace) -> int:
    """Show where a rollout is."""
    _, journal = opened(args)
    if args.json:
        state = fold(journal.last())
        print(json.dumps(_summary(state, journal) if state else None, allow_nan=False))
        return 0
    from rich.console import Console
    from rich.live import Live

    from .view import page

    console = Console()
    if not args.watch:
        console.print(page(journal))
        return 0
    with (
        Live(page(journal), console=console, auto_refresh=False) as live,
        contextlib.suppress(KeyboardInterrupt),
    ):
        while (state := fold(journal.last())) is None or state.phase is not Phase.OVER:
            time.sleep(1)
            live.update(page(journal), refresh=True)
    return 0


def _summary(state: State, journal: Journal) -> dict[str, object]:
    held = journal.living()
    return {
        "id": state.id,
        "strategy": state.rollout.kind.value,
        "candidate": state.candidate,
        "stable": state.stable,
        "phase": state.phase.value,
        "stage": state.stage,
        "weights": dict(state.weights),
        "paused": state.is_paused,
        "held": state.held_since is not None,
        "braked": state.is_braked,
        "driver": held and {key: held[key] for key in ("who", "host", "pid")},
        "result": state.result and state.result.value,
        "why": state.why,
        "requests": state.affected.requests,
        "failures": state.affected.failures,
        "evidence": next((r["evidence"] for r in reversed(journal.last()) if r.get("evidence")), None),
    }


def pause(args: argparse.Namespace) -> int:
    """Ask its driver to stay at the present share."""
    _, journal = opened(args)
    current(journal)
    journal.append("paused")
    return 0


def promote(args: argparse.Namespace) -> int:
    """Ask its driver to go on without waiting for evidence."""
    _, journal = opened(args)
    current(journal)
    journal.append("asked", what="promote fully" if args.full else "promote")
    if not journal.living():
        print(f"no driver is alive; `estate rollout resume {args.endpoint}` goes on, and then promotes")
    return 0


def history(args: argparse.Namespace) -> int:
    """List rollouts, or what happened in one."""
    _, journal = opened(args)
    rollouts = [_of(journal, args.id)] if args.id else journal.rollouts()
    if args.json:
        for record in (record for records in rollouts for record in records):
            print(json.dumps(record))
    elif args.id:
        state: State | None = None
        for record in rollouts[0]:
            state = fold([record], state)
            if state and (text := sentence(record, state)):
                print(_when(record), text)
    else:
        for records in rollouts:
            print(_line(records))
        if not rollouts:
            print(f"no rollout of {args.endpoint} yet", file=sys.stderr)
    return 0


def _when(record: Record) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record["at"]))


def _line(records: Sequence[Record]) -> str:
    """A rollout on one line."""
    state = fold(records)
    assert state is not None
    result = state.result.value if state.result and state.phase is Phase.OVER else state.phase.value
    took = (state.ended or time.time()) - state.began
    ways = f"{state.stable} -> {state.candidate}"
    counted = f"{state.affected.requests} requests, {state.affected.failures} failed"
    finished = [record for record in records if record["event"] == "finished"]
    if finished:
        counted = f"{finished[-1]['requests']} requests, {finished[-1]['failures']} failed"
    return (
        f"{_when(records[0])}  {state.id}  {state.rollout.kind.value}  {ways}  {result}  {took:.0f} s  "
        f"{counted}  by {records[0]['who']}"
    )


def _of(journal: Journal, wanted: str) -> list[Record]:
    """The records of one rollout.

    Raises:
        RolloutError: there is none.
    """
    rollouts = journal.rollouts()
    if wanted == "last" and rollouts:
        return rollouts[-1]
    found = [records for records in rollouts if records[0]["id"] == wanted]
    if not found:
        known = ", ".join(records[0]["id"] for records in rollouts[-10:]) or "none yet"
        raise RolloutError(f"there is no rollout {wanted}; there are {known}")
    return found[-1]


def report(args: argparse.Namespace) -> int:
    """Write the report of a rollout."""
    from . import report as html

    _, journal = opened(args)
    args.output.write_text(html.report(_of(journal, args.id)), encoding="utf-8")
    print(f"written: {args.output}")
    return 0
