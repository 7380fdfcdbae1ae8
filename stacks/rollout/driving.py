"""The commands that drive a rollout."""

import argparse
import json
import signal
import time
from pathlib import Path

from components.spec.rollout import Rollout, Strategy

from .begin import begin
from .driver import Driver
from .errors import RolloutError, TerminatedError
from .journal import Journal, Record
from .lease import Lease
from .notify import Notifier, sentence
from .opened import current, opened
from .outcomes import size
from .placement import PulumiStack, load_requests
from .sources import MetricsSource
from .sources.answers import ServerAnswers
from .state import Phase, Result, State, fold
from .untried import untried

PROMOTED, ROLLED_BACK = 0, 3
"""Exit codes; 3 also where a rollout was stopped."""


def _terminate(*_: object) -> None:
    raise TerminatedError


def start(args: argparse.Namespace) -> int:
    """Begin a rollout and drive it to its end."""
    stack, journal = opened(args)
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


def run(args: argparse.Namespace) -> int:
    """Do what there is to do, if anything: a job may run this again and again, and after any kill."""
    stack, journal = opened(args)
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
    return start(args)


def resume(args: argparse.Namespace) -> int:
    """Go on, after a pause or in place of a driver that died."""
    stack, journal = opened(args)
    state = current(journal)
    if state.is_paused:
        journal.append("resumed")
    if journal.living():
        print(f"{args.endpoint}: its driver goes on")
        return 0
    with journal.lease() as lease:
        return _take_over(args, stack, journal, lease)


def abort(args: argparse.Namespace) -> int:
    """Roll back; drive it where no driver is alive."""
    stack, journal = opened(args)
    current(journal)
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


def _readable(rollout: Rollout, folder: Path) -> None:
    """Find what is wrong with the files of the analysis before anything begins."""
    looks_at = rollout.looks_at
    named = [looks_at.golden, looks_at.agreement.requests if looks_at.agreement else None]
    for name in named:
        if name:
            load_requests(folder / name)
