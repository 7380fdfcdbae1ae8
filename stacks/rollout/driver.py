"""The driver: looks, decides, moves weights, and writes down each of it before and after.

It holds nothing that is not in the journal, but for runs of the engine that are under way, which it waits
for without taking its eyes off the metrics. One call of `tick` makes at most one step, so a driver that was
killed anywhere is replaced by one that folds the journal and goes on.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from components.spec.rollout import OnTimeout, Strategy

from . import checks
from .background import Background, Task, Thread
from .brakes import Brake
from .errors import BusyError, RolloutError, SourceDownError
from .journal import Journal, Record
from .judge import DIVISION, Evidence, Verdict
from .placement import Placement, Stack
from .readings import Reading, Snapshot
from .scales import Scales
from .sources import MetricsSource
from .sources.answers import AnswersSource
from .state import Phase, Result, State, fold, positive

GIVE_UP_AFTER = 5
"""Moves to a larger share that fail one after the other, until it is rolled back instead."""

LONGEST_PAUSE_S = 60.0
"""Between moves that fail: each is a run of the engine and a record, and somebody has to mend something."""

LOOK_AT_STACK_S = 30.0
"""How often is looked whether somebody else changed the variants or the weights."""


class Lease(Protocol):
    """What says that this driver is the only one."""

    def check(self) -> None:
        """Make sure that it still is.

        Raises:
            LeaseLostError: it is not.
        """
        ...


Told = Callable[[Record, State], None]
"""Is told of each record that was written, and of the state after it."""


@dataclass(frozen=True)
class _Run:
    """A run of the engine that is under way."""

    target: Mapping[str, int]
    began: float
    task: Task[None]


@dataclass(frozen=True)
class _Look:
    """A look at the stack that is under way, and the weights at its begin."""

    weights: Mapping[str, int]
    began: float
    task: Task[Placement]


class Driver:
    """Drives the last rollout of a journal to its end."""

    def __init__(
        self,
        journal: Journal,
        stack: Stack,
        source: MetricsSource,
        lease: Lease,
        folder: Path,
        tick_s: float = 1.0,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        told: Told = lambda _record, _state: None,
        brake: Brake | None = None,
        background: Background = Thread,
        answers: AnswersSource | None = None,
    ) -> None:
        """Take over where the journal ends.

        Args:
            journal: of the endpoint, with a rollout that was started.
            stack: the stack of the endpoint.
            source: where the numbers come from.
            lease: says that there is no other driver.
            folder: the project's, for the files that the analysis names.
            tick_s: seconds between looks.
            clock: the time, in seconds; a rollout may outlive a process, so not a monotonic one.
            sleep: waits for some seconds.
            told: is told what happens.
            brake: takes requests from the candidate before the stack follows; without one a rollback takes
                as long as a run of the engine.
            background: does what takes long beside the driver.
            answers: what the variants answered, where that is compared.
        """
        self._journal, self._stack, self._source, self._lease = journal, stack, source, lease
        self._folder, self._tick_s, self._clock, self._sleep, self._told = folder, tick_s, clock, sleep, told
        self._brake, self._background = brake, background
        self._scales = Scales(folder, background, answers)
        self._run: _Run | None = None
        self._failed: tuple[Mapping[str, int], float] = {}, -math.inf
        """What could not be set, and when it is tried again."""
        self._look: _Look | None = None
        self._looked = self._clean = -math.inf
        self._suspected: float | None = None
        self._wrote = -math.inf
        self._state: State | None = None
        self._read = 0
        self.evidence: Evidence | None = None

    @property
    def state(self) -> State:
        """Where it is, from the journal: others may have asked for something.

        Raises:
            RolloutError: there is no rollout.
        """
        records, self._read = self._journal.since(self._read)
        self._state = fold(records, self._state)
        if self._state is None:
            raise RolloutError("there is no rollout to drive; begin one with `estate rollout start`")
        return self._state

    def run(self) -> State:
        """Drive it to its end.

        Raises:
            LeaseLostError: another driver has taken over.
        """
        while (state := self.state).phase is not Phase.OVER:
            if not self.tick(state):
                self.rest()
        return state

    def rest(self) -> None:
        """Wait for the next look, or until what is under way at the stack is over."""
        task = self._run or self._look
        if task:
            task.task.wait(self._tick_s)
        else:
            self._sleep(self._tick_s)

    def tick(self, state: State) -> bool:
        """Make one step; whether there is more to do at once."""
        self._lease.check()
        if state.phase is not Phase.END:
            if state.asked == "abort":
                return self._decide(Result.ROLLED_BACK, f"{state.asked_by} asked for it")
            changed = self._changed(state)
            if changed:
                return self._decide(*changed)
        steps = {
            Phase.CHECK: self._check,
            Phase.MOVE: self._move,
            Phase.OBSERVE: self._observe,
            Phase.END: self._end,
        }
        return steps[state.phase](state)

    def _write(self, event: str, **details: Any) -> bool:
        self._lease.check()
        record = self._journal.append(event, **details)
        self._told(record, self.state)
        return True

    def _decide(self, result: Result, why: str) -> bool:
        evidence = self.evidence.record() if self.evidence else None
        return self._write("decided", decision=result.value, why=why, evidence=evidence)

    # Before any requests

    def _check(self, state: State) -> bool:
        self._looked = self._clock()
        placement = self._stack.present()
        candidate, stable = placement.variants[state.candidate], placement.variants[state.stable]
        looks_at = state.rollout.looks_at
        findings: dict[str, Any] = {}
        why = None
        if looks_at.golden:
            why = checks.golden(self._folder / looks_at.golden, state.endpoint, candidate)
        if looks_at.agreement and looks_at.agreement.requests and not why:
            file = self._folder / looks_at.agreement.requests
            alpha = state.rollout.alpha or 0.05
            good, findings = checks.agreement(
                looks_at.agreement, file, state.endpoint, candidate, stable, alpha
            )
            if not good:
                why = (
                    f"{findings['agreed']} of {findings['pairs']} answers agree, {findings['wanted']} % must"
                )
        self._write("checked", ok=why is None, why=why or "", agreement=findings)
        return self._decide(Result.ROLLED_BACK, why) if why else True

    # Weights

    def _move(self, state: State) -> bool:
        if self._run is None and state.target == dict(state.weights) and state.moving_to is None:
            return self._write("moved", stage=state.stage, weights=state.target, took_s=0)
        snapshot = self._read_source(state)
        breach = self._breach(state, snapshot) if snapshot else None
        if breach:
            return self._decide(Result.ROLLED_BACK, breach)
        if self._run is None and (snapshot is None or self._look):
            return False  # nobody would see what the larger share does, or it is not known yet what there is
        why = f"rollout {state.id}: {state.candidate} to {state.here.name}"
        return self._set(state, why, **({"raw": _records(snapshot)} if snapshot else {}))

    def _breach(self, state: State, snapshot: Snapshot) -> str | None:
        """What speaks against the candidate while its weights are moved: it has requests, or gets them."""
        if not state.raw:
            return None
        totals = _totals(state, snapshot, state.before)
        evidence = self._scales.weigh(state, totals, snapshot.edges, moves=True)
        if evidence.verdict is not Verdict.ROLL_BACK:
            return None
        self.evidence = evidence
        return evidence.why

    def _set(self, state: State, why: str, **more: Any) -> bool:
        """Have the weights set; the intent is on the disk before, the fact after."""
        if self._run is None:
            failed, until = self._failed
            if state.target == failed and self._clock() < until:
                return False
            if state.moving_to != state.target:
                self._write("moving", stage=state.stage, weights=state.target, why=why, **more)
            target = state.target
            if self._brake and target.get(state.candidate):
                self._brake.release()  # one that a driver left that died
            task = self._background(lambda: self._stack.move(target, why))
            self._run = _Run(target, self._clock(), task)
            return False
        run = self._run
        if not run.task.wait(0):
            return False
        self._run = None
        try:
            run.task.result()
        except BusyError:
            return False  # it is tried again at the next tick
        except RolloutError as error:
            if run.target != state.target:
                return True  # nobody wants it any more
            self._write("move failed", error=str(error))
            self._failed = run.target, self._clock() + min(2**state.failures, LONGEST_PAUSE_S)
            if state.phase is Phase.MOVE and state.failures + 1 >= GIVE_UP_AFTER:
                return self._decide(Result.ROLLED_BACK, f"the weights could not be moved: {error}")
            return False
        if run.target != state.target:
            return True  # it was overtaken by a decision
        took = round(self._clock() - run.began, 3)
        return self._write("moved", stage=state.stage, weights=state.target, took_s=took)

    def _stop_requests(self, state: State) -> None:
        """Take the requests away now; the stack follows."""
        if self._brake is None:
            return
        # A run under way, or somebody else's, may still ask for any of these.
        may_be_asked = [dict(state.weights), *([dict(state.moving_to)] if state.moving_to else [])]
        try:
            self._brake.pull(state.target, [one for one in may_be_asked if one != state.target])
        except RolloutError as error:
            self._brake = None
            self._write("brake failed", error=str(error))
        else:
            self._write("braked", weights=state.target)

    def _changed(self, state: State) -> tuple[Result, str] | None:
        """Whether somebody else changed what the rollout is about, and what then becomes of it."""
        if state.moving_to is not None or self._run or state.phase is Phase.CHECK:
            self._look = None  # what it would tell is about to change
            return None
        if self._look is None:
            if self._clock() - self._looked >= LOOK_AT_STACK_S:
                self._looked = self._clock()
                self._look = _Look(dict(state.weights), self._looked, self._background(self._stack.present))
            return None
        look = self._look
        if not look.task.wait(0):
            return None
        self._look, self._clean = None, look.began
        try:
            placement = look.task.result()
        except RolloutError:
            return None  # nothing can be told; the next move tells
        if look.weights != dict(state.weights):
            return None
        for name in (state.candidate, state.stable):
            now = placement.variants.get(name)
            if now is None or now.model != state.models[name]:
                served = f"serves {now.model}" if now else "is not there any more"
                return (
                    Result.ROLLED_BACK,
                    f"variant {name} {served}; when the rollout began it was {state.models[name]}",
                )
        if positive(placement.weights) != positive(state.weights):
            return (
                Result.STOPPED,
                f"somebody else moved the weights to {placement.weights}; they are left as they are",
            )
        return None

    # Evidence

    def _observe(self, state: State) -> bool:
        now, snapshot = self._clock(), self._read_source(state)
        if snapshot is None:
            return False
        if state.held_since is not None:
            return True  # it has just come back, and is seen so at the next look
        if state.stage_began is None or len(snapshot.edges) != len(state.edges):
            self._wrote = -math.inf
            edges = [str(edge) for edge in snapshot.edges]
            return self._write("counting", stage=state.stage, raw=_records(snapshot), edges=edges)
        self._scales.compare(state)
        totals = _totals(state, snapshot, state.totals)
        elapsed = now - state.stage_began - state.held_s
        self.evidence = evidence = self._scales.weigh(state, totals, state.edges)
        decision = None if self._is_suspect(evidence) else self._decision(state, evidence, elapsed)
        # Often at first and then ever less: a long rollout must not fill the disk.
        if decision or now - self._wrote >= max(self._tick_s, elapsed / 100):
            self._wrote = now
            self._write(
                "observed",
                stage=state.stage,
                elapsed_s=round(elapsed, 3),
                raw=_records(snapshot),
                totals={name: one.record() for name, one in totals.items()},
                evidence=evidence.record(),
                **({"compared": compared} if (compared := self._scales.compared) else {}),
            )
        if decision is None:
            return False
        what, why = decision
        return self._write("decided", decision=what, why=why, evidence=evidence.record(), stage=state.stage)

    def _is_suspect(self, evidence: Evidence) -> bool:
        """Whether requests are divided wrongly and it is not known yet that nobody else moved the weights."""
        bad = {check.name for check in evidence.checks if check.verdict is Verdict.ROLL_BACK}
        if bad != {DIVISION}:
            self._suspected = None
            return False
        if self._suspected is None:
            self._suspected, self._look, self._looked = self._clock(), None, -math.inf
        return self._clean < self._suspected

    def _read_source(self, state: State) -> Snapshot | None:
        """The counters; None where they cannot be read, which holds everything."""
        try:
            snapshot = self._source.read(state.endpoint, [state.candidate, state.stable])
        except SourceDownError as error:
            if state.held_since is None:
                self._write("held", why=str(error))
            return None
        if state.held_since is not None:
            self._write("back")
        return snapshot

    def _decision(self, state: State, evidence: Evidence, elapsed: float) -> tuple[str, str] | None:
        """What to do now and why; None to go on looking."""
        stage = state.here
        if evidence.verdict is Verdict.ROLL_BACK:
            return Result.ROLLED_BACK.value, evidence.why
        onward = Result.PROMOTED.value if state.is_last else "advance"
        if state.asked == "promote fully":
            return Result.PROMOTED.value, f"{state.asked_by} asked for it, against the steps"
        if state.asked == "promote":
            return onward, f"{state.asked_by} asked for it; the evidence said: {evidence.verdict.value}"
        if state.is_paused:
            return None
        if evidence.verdict is Verdict.PROMOTE and elapsed >= stage.min_time_s:
            return onward, evidence.why
        hold = (state.rollout.on_timeout or OnTimeout.ROLL_BACK) is OnTimeout.HOLD
        if elapsed >= stage.max_time_s and not hold:
            return (
                Result.ROLLED_BACK.value,
                f"after {elapsed:.0f} s at {stage.name} there was not enough evidence: {evidence.why}",
            )
        return None

    # The end

    def _end(self, state: State) -> bool:
        stays = state.result is Result.STOPPED or state.rollout.kind is Strategy.SHADOW
        moves = state.is_braked or state.moving_to is not None or state.target != dict(state.weights)
        if not stays and (moves or self._run):
            if state.result is Result.ROLLED_BACK and not state.is_braked:
                self._stop_requests(state)
                state = self.state
            return self._set(state, f"rollout {state.id}: {state.result.value if state.result else ''}")
        if self._brake and not stays:
            self._brake.release()
        affected, after = state.affected, Reading()
        try:
            raw = self._source.read(state.endpoint, [state.candidate, state.stable])
            before = state.raw.get(state.candidate)
            if before and state.result is Result.ROLLED_BACK:
                after = raw.variants[state.candidate].since(before)
        except SourceDownError:
            pass  # the end does not wait for it; what came while the weights moved is then not in the count
        total = affected.plus(after)
        return self._write(
            "finished",
            result=state.result.value if state.result else "",
            why=state.why,
            weights=dict(state.weights),
            requests=total.requests,
            failures=total.failures,
        )


def _records(snapshot: Snapshot) -> dict[str, Any]:
    return {name: reading.record() for name, reading in snapshot.variants.items()}


def _totals(state: State, snapshot: Snapshot, before: Mapping[str, Reading]) -> dict[str, Reading]:
    """What was counted in this stage up to now; `before`: up to the last record of it."""
    totals = {}
    for name, reading in snapshot.variants.items():
        more = reading.since(state.raw.get(name, reading))
        totals[name] = before.get(name, Reading()).plus(more)
    return totals
