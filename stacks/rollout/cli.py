"""`estate rollout`: begin, watch and steer rollouts from a shell, from CI or from a job in a cluster."""

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from components.spec.rollout import Rollout, Strategy

from .driver import Driver, begin
from .errors import LeaseLostError, RolloutError
from .journal import Journal, Record
from .lease import Lease
from .notify import Notifier, sentence
from .outcomes import size
from .placement import PulumiStack, load_requests
from .sources import MetricsSource
from .sources.answers import ServerAnswers
from .state import Phase, Result, State, fold
from .untried import untried

PROMOTED, FAILED, ROLLED_BACK, TAKEN_OVER = 0, 1, 3, 4
"""Exit codes: 3 for a rollout that was rolled back or stopped, 4 where another driver has taken over."""

INTERRUPTED, TERMINATED = 130, 143

_EPILOG = """\
a rollout, from begin to end:
  estate rollout start breast-cancer --to green      # drives in the foreground, a line for each step
  estate rollout status breast-cancer --watch        # in another shell
  estate rollout abort breast-cancer                 # back to 0 % at once
  estate rollout report breast-cancer                # afterwards

exit codes of start, resume:
  0 promoted   3 rolled back, or stopped as somebody else moved the weights   4 another driver has taken over
  130, 143 interrupted: nobody drives it now, resume goes on   1 anything else   2 wrong arguments
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except LeaseLostError as error:
        print(f"error: {error}", file=sys.stderr)
        return TAKEN_OVER
    except RolloutError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return _interrupted(parsed, INTERRUPTED)
    except _Terminated:
        return _interrupted(parsed, TERMINATED)


class _Terminated(BaseException):
    """SIGTERM, as CI sends it: the lease is given back, and the journal says where to go on."""


def _terminate(*_: object) -> None:
    raise _Terminated


def _interrupted(args: argparse.Namespace, code: int) -> int:
    print(
        f"interrupted; the weights stay where they are and nobody drives it: `estate rollout resume "
        f"{args.endpoint}` goes on, `estate rollout abort {args.endpoint}` rolls back",
        file=sys.stderr,
    )
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="estate", description="Operations on a running estate.")
    rollouts = parser.add_subparsers(required=True).add_parser(
        "rollout",
        help="move an endpoint's requests to another variant, by evidence",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = rollouts.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: object, help_: str) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=help_, description=help_)
        found.set_defaults(run=run)
        found.add_argument("endpoint", help="the endpoint's name")
        found.add_argument("--stack", "-s", default="local", help="the stack (default: local)")
        found.add_argument("--cwd", "-C", type=Path, default=Path(), help="the project's folder")
        found.add_argument("--journals", type=Path, default=_journals(), help=f"default: {_journals()}")
        return found

    def drives(found: argparse.ArgumentParser) -> argparse.ArgumentParser:
        found.add_argument("--prometheus", metavar="URL", help="read metrics from here, not from the gateway")
        found.add_argument("--clusters", metavar="REGEX", help="names of Envoy's clusters in Prometheus")
        found.add_argument("--json", action="store_true", help="each record on a line, for programs")
        found.add_argument("--tick", type=float, default=1.0, metavar="S", help="seconds between looks")
        found.add_argument("--webhook", metavar="URL", help="Slack-compatible (or ESTATE_WEBHOOK)")
        found.add_argument("--grafana", metavar="URL", help="annotate (or ESTATE_GRAFANA, GRAFANA_TOKEN)")
        return found

    start = drives(command("start", _start, "begin a rollout and drive it to its end"))
    start.add_argument("--to", metavar="VARIANT", help="the candidate; the one without requests if left out")
    run = drives(command("run", _run, "for jobs: go on with what is under way, or try a version that is new"))
    run.add_argument("--to", metavar="VARIANT", help="the candidate; the one without requests if left out")
    gate = commands.add_parser(
        "gate", help="answer Flagger whether it may go on", description="Answers Flagger, in a cluster."
    )
    gate.set_defaults(run=_gate)
    gate.add_argument("--host", default="127.0.0.1", help="where to listen (default: %(default)s)")
    gate.add_argument("--port", type=int, default=8080, help="default: %(default)s")
    status = command("status", _status, "show where a rollout is")
    status.add_argument("--watch", "-w", action="store_true", help="keep showing it until it is over")
    status.add_argument("--json", action="store_true", help="for programs")
    command("pause", _pause, "stay at the present share; what is worse is still rolled back")
    drives(command("resume", _resume, "go on: after a pause, or in place of a driver that died"))
    promote = command("promote", _promote, "go on to the next step without waiting for evidence")
    promote.add_argument("--full", action="store_true", help="to the end, past all steps")
    drives(command("abort", _abort, "roll back; drives it itself where no driver is alive"))
    history = command("history", _history, "list the endpoint's rollouts, or what happened in one")
    history.add_argument("--id", metavar="ROLLOUT", help="what happened in this one, or in the `last`")
    history.add_argument("--json", action="store_true", help="the records as they are, of all or of one")
    report = command("report", _report, "write a report that is one HTML file")
    report.add_argument("--id", metavar="ROLLOUT", default="last", help="which rollout (default: the last)")
    report.add_argument(
        "--output", "-o", type=Path, default=Path("rollout.html"), help="default: %(default)s"
    )
    return parser


def _journals() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "serving-estate" / "rollouts"


def _open(args: argparse.Namespace) -> tuple[PulumiStack, Journal]:
    stack = PulumiStack(args.cwd, args.stack, args.endpoint, args.journals)
    if stack.platform == "kubernetes":
        from .cluster.opened import opened

        return opened(args.cwd, args.stack, args.endpoint, args.journals)
    return stack, Journal(stack.home)


def _source(args: argparse.Namespace, stack: PulumiStack, state: State | None) -> MetricsSource:
    if stack.platform == "kubernetes":
        from .cluster.opened import source_of

        return source_of(stack, args.prometheus, state)
    if args.prometheus:
        from .sources.prometheus import Prometheus

        return Prometheus(args.prometheus, *([args.clusters] if args.clusters else []))
    from .sources.envoy import EnvoyStatistics

    gateway = stack.present().gateway
    if not gateway:
        raise RolloutError("the stack does not say where its gateway's statistics are; use --prometheus")
    return EnvoyStatistics(gateway)


def _start(args: argparse.Namespace) -> int:
    stack, journal = _open(args)
    spec = stack.spec()
    if spec.rollout is None:
        raise RolloutError(
            f"endpoint {args.endpoint} has no `rollout:` in its stack file; with `rollout: {{}}` weights are "
            "moved by evidence and no longer by `traffic`"
        )
    if spec.rollout.flagger:
        raise RolloutError(
            f"Flagger moves the weights of endpoint {args.endpoint}: change the model of its variant and run "
            "`pulumi up` to begin a rollout, or leave `rollout.flagger` out"
        )
    _readable(spec.rollout, stack.folder)
    with journal.lease() as lease:
        placement = stack.present()
        idle = [name for name, share in placement.weights.items() if not share]
        if spec.rollout.kind is Strategy.SHADOW and spec.shadow and not args.to:
            idle = [spec.shadow.variant]
        if not args.to and len(idle) != 1:
            raise RolloutError(f"say which variant is to take over, with --to; without requests: {idle}")
        candidate = args.to or idle[0]
        if spec.rollout.kind is not Strategy.SHADOW and spec.shadow and spec.shadow.variant == candidate:
            raise RolloutError(
                f"{candidate} is the endpoint's shadow, whose answers are thrown away; remove `shadow:` from "
                "the stack file and run `pulumi up` before it gets requests"
            )
        outcome = spec.rollout.looks_at.outcome
        block = spec.rollout.model_dump(mode="json", exclude_unset=True, exclude={"weights"})
        from_ = size(stack.folder / outcome.file) if outcome else 0
        assigned = size(stack.folder / outcome.assignments) if outcome and outcome.assignments else 0
        begun = begin(
            journal,
            placement,
            block,
            args.endpoint,
            candidate,
            outcomes_from=from_,
            assigned_from=assigned,
            stack=args.stack,
        )
        return _drive(args, stack, journal, lease, begun)


def _run(args: argparse.Namespace) -> int:
    """Do what there is to do, if anything: a job may run this again and again, and after any kill."""
    stack, journal = _open(args)
    while (state := fold(journal.last())) is not None and state.phase is not Phase.OVER:
        if journal.living() is None:
            with journal.lease() as lease:
                return _take_over(args, stack, journal, lease)
        time.sleep(2)  # who drives goes on, or is found to be dead after some seconds
    candidate = args.to or untried(stack.present(), journal.records())
    if candidate is None:
        print(f"{args.endpoint}: there is no version that was not tried")
        return 0
    args.to = candidate
    return _start(args)


def _gate(args: argparse.Namespace) -> int:
    from .cluster.api import Api
    from .cluster.gate import Gate, serve

    try:
        server = serve(Gate(Api()), args.host, args.port)
    except OSError as error:
        raise RolloutError(f"cannot listen on {args.host}:{args.port}: {error}; try another --port") from None
    with server:
        server.serve_forever()
    return 0


def _readable(rollout: Rollout, folder: Path) -> None:
    """Find what is wrong with the files of the analysis before anything begins."""
    looks_at = rollout.looks_at
    named = [looks_at.golden, looks_at.agreement.requests if looks_at.agreement else None]
    for name in named:
        if name:
            load_requests(folder / name)


def _resume(args: argparse.Namespace) -> int:
    stack, journal = _open(args)
    state = _current(journal)
    if state.is_paused:
        journal.append("resumed")
    if journal.living():
        print(f"{args.endpoint}: its driver goes on")
        return 0
    with journal.lease() as lease:
        return _take_over(args, stack, journal, lease)


def _abort(args: argparse.Namespace) -> int:
    stack, journal = _open(args)
    _current(journal)
    journal.append("asked", what="abort")
    if journal.living():
        print(f"{args.endpoint}: its driver rolls back; `estate rollout status {args.endpoint}` shows it")
        return 0
    with journal.lease() as lease:
        _take_over(args, stack, journal, lease)
    return 0


def _take_over(args: argparse.Namespace, stack: PulumiStack, journal: Journal, lease: Lease) -> int:
    before = lease.before or {}
    record = journal.append("taken over", **{"from": before.get("who", "nobody"), "epoch": lease.epoch})
    return _drive(args, stack, journal, lease, record)


def _drive(
    args: argparse.Namespace, stack: PulumiStack, journal: Journal, lease: Lease, first: Record
) -> int:
    notifier = Notifier.from_environment(args.webhook, args.grafana)

    def told(record: Record, state: State) -> None:
        text = sentence(record, state)
        if args.json:
            print(json.dumps(record), flush=True)
        elif text:
            print(f"{time.strftime('%H:%M:%S', time.localtime(record['at']))} {text}", flush=True)
        notifier.told(record, state)

    signal.signal(signal.SIGTERM, _terminate)
    try:
        source = _source(args, stack, fold(journal.last()))
        if stack.brake is None:
            stack.present()
        driver = Driver(
            journal,
            stack,
            source,
            lease,
            stack.folder,
            tick_s=args.tick,
            told=told,
            brake=stack.brake,
            answers=ServerAnswers(args.endpoint, lambda: stack.placement),
        )
        told(first, driver.state)
        state = driver.run()
        if not args.json:
            print(f"all that was seen: `estate rollout report {args.endpoint}`", flush=True)
    finally:
        notifier.close()
    return PROMOTED if state.result is Result.PROMOTED else ROLLED_BACK


def _pause(args: argparse.Namespace) -> int:
    _, journal = _open(args)
    _current(journal)
    journal.append("paused")
    return 0


def _promote(args: argparse.Namespace) -> int:
    _, journal = _open(args)
    _current(journal)
    journal.append("asked", what="promote fully" if args.full else "promote")
    if not journal.living():
        print(f"no driver is alive; `estate rollout resume {args.endpoint}` goes on, and then promotes")
    return 0


def _current(journal: Journal) -> State:
    state = fold(journal.last())
    if state is None or state.phase is Phase.OVER:
        raise RolloutError("no rollout is under way; begin one with `estate rollout start`")
    return state


def _status(args: argparse.Namespace) -> int:
    _, journal = _open(args)
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


def _history(args: argparse.Namespace) -> int:
    _, journal = _open(args)
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


def _report(args: argparse.Namespace) -> int:
    from .report import report

    _, journal = _open(args)
    args.output.write_text(report(_of(journal, args.id)), encoding="utf-8")
    print(f"written: {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
