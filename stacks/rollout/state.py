"""Where a rollout is: nothing but a fold over its journal, so that a driver can go on from the file alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from components.spec import validate
from components.spec.rollout import Rollout, Strategy

from .journal import Record
from .readings import Reading


def positive(weights: Mapping[str, int]) -> dict[str, int]:
    """The weights of those that get requests."""
    return {name: weight for name, weight in weights.items() if weight}


class Phase(Enum):
    """What has to be done next."""

    CHECK = "checking"
    MOVE = "moving"
    OBSERVE = "observing"
    END = "ending"
    OVER = "over"


class Result(Enum):
    """How it ended."""

    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"
    STOPPED = "stopped"
    """Somebody else moved the weights; they are left as they are."""


@dataclass(frozen=True)
class Stage:
    """A step as the driver takes it."""

    percent: int | None
    """The candidate's share; 0 to learn how the stable variant does, None where it gets copies."""
    min_samples: int
    max_time_s: int
    min_time_s: int = 0

    @property
    def name(self) -> str:
        """For people."""
        return "copies" if self.percent is None else f"{self.percent} %"


def stages(rollout: Rollout) -> list[Stage]:
    """The stages of a rollout.

    Where the candidate is to get all at once, the stable variant is counted before that: afterwards there is
    nothing left to compare with.
    """
    samples, seconds = rollout.min_samples or 100, rollout.max_time_s or 3600
    if rollout.kind is Strategy.SHADOW:
        return [Stage(None, samples, seconds)]
    warm = rollout.warm_s if rollout.kind is Strategy.BLUE_GREEN else 0
    plan = [
        Stage(step.percent, step.min_samples or samples, warm + (step.max_time_s or seconds), warm)
        for step in rollout.plan
    ]
    if rollout.kind is Strategy.BLUE_GREEN:
        plan = [replace(plan[0], max_time_s=warm + seconds)]
    return [Stage(0, samples, seconds), *plan] if plan[0].percent == 100 else plan


@dataclass(frozen=True)
class State:
    """A rollout, as far as it has come."""

    id: str
    endpoint: str
    candidate: str
    stable: str
    rollout: Rollout
    models: Mapping[str, str]
    """What each variant served at the start."""
    began: float
    weights: Mapping[str, int]
    """Those that were set last."""
    outcomes_from: int = 0
    """Where the file of outcomes ended at the start, in bytes."""
    assigned_from: int = 0
    """Where the file of assignments did."""
    phase: Phase = Phase.CHECK
    stage: int = 0
    moving_to: Mapping[str, int] | None = None
    """The weights of a move that was begun and whose end is not known."""
    is_braked: bool = False
    """The gateway has the weights, the stack does not say so yet."""
    stage_began: float | None = None
    """When the counting of this stage began; None before that."""
    edges: Sequence[float] = ()
    raw: Mapping[str, Reading] = field(default_factory=dict)
    totals: Mapping[str, Reading] = field(default_factory=dict)
    """What was counted in this stage."""
    before: Mapping[str, Reading] = field(default_factory=dict)
    """What was counted in the stage before: it goes on to count while the weights move."""
    compared: Mapping[str, Any] = field(default_factory=dict)
    """What was found in the answers of this stage, as `Compared` records it."""
    reference: Reading | None = None
    """What was counted of the stable variant when it last had requests, in an earlier stage."""
    spent: Reading = field(default_factory=Reading)
    """What was counted of the candidate in earlier stages."""
    held_since: float | None = None
    held_s: float = 0.0
    """How long the metrics were missing in this stage."""
    is_paused: bool = False
    asked: str = ""
    """`promote` or `abort`, where a person asked for it."""
    asked_by: str = ""
    failures: int = 0
    """Moves that failed one after the other."""
    result: Result | None = None
    why: str = ""
    ended: float | None = None

    @property
    def plan(self) -> list[Stage]:
        """Its stages."""
        return stages(self.rollout)

    @property
    def here(self) -> Stage:
        """The stage that it is in."""
        return self.plan[self.stage]

    @property
    def is_last(self) -> bool:
        """Whether a promotion is all that is left."""
        return self.stage + 1 == len(self.plan)

    @property
    def affected(self) -> Reading:
        """All that was counted of the candidate."""
        return self.spent.plus(self.totals.get(self.candidate, Reading()))

    def wanted(self, percent: int) -> dict[str, int]:
        """The weights when the candidate has a share, and the stable variant the rest."""
        others = {name: 0 for name in self.weights if name not in (self.candidate, self.stable)}
        return {**others, self.stable: 100 - percent, self.candidate: percent}

    @property
    def target(self) -> dict[str, int]:
        """The weights that this phase is about."""
        if self.phase is Phase.END:
            if self.rollout.kind is Strategy.SHADOW:
                return dict(self.weights)
            return self.wanted(100 if self.result is Result.PROMOTED else 0)
        return dict(self.weights) if self.here.percent is None else self.wanted(self.here.percent)


def fold(records: Iterable[Record], state: State | None = None) -> State | None:
    """The state that records lead to, from another one or from nothing; None where there are none."""
    for record in records:
        event, at = record["event"], float(record["at"])
        if event == "started":
            state = _started(record)
        elif state is not None and event in _STEPS:
            state = _STEPS[event](state, record, at)
    return state


def _started(record: Record) -> State:
    return State(
        id=record["id"],
        endpoint=record["endpoint"],
        candidate=record["candidate"],
        stable=record["stable"],
        rollout=validate(Rollout, record["rollout"]),
        models=record["models"],
        began=float(record["at"]),
        weights=record["weights"],
        outcomes_from=record.get("outcomes_from", 0),
        assigned_from=record.get("assigned_from", 0),
    )


def _checked(state: State, record: Record, _at: float) -> State:
    return replace(state, phase=Phase.MOVE) if record["ok"] else state


def _moving(state: State, record: Record, _at: float) -> State:
    raw = state.raw or {name: Reading.of(one) for name, one in record.get("raw", {}).items()}
    return replace(state, moving_to=record["weights"], raw=raw)


def _moved(state: State, record: Record, _at: float) -> State:
    phase = Phase.OBSERVE if state.phase is Phase.MOVE else state.phase
    return replace(state, phase=phase, moving_to=None, is_braked=False, weights=record["weights"], failures=0)


def _braked(state: State, record: Record, _at: float) -> State:
    return replace(state, is_braked=True, weights=record["weights"])


def _failed(state: State, _record: Record, _at: float) -> State:
    return replace(state, failures=state.failures + 1)


def _counting(state: State, record: Record, at: float) -> State:
    raw = {name: Reading.of(one) for name, one in record["raw"].items()}
    edges = [float(edge) for edge in record["edges"]]
    before = state.raw.get(state.candidate)
    # What came while the weights moved belongs to no stage, but to what the rollout cost.
    between = raw[state.candidate].since(before) if before else Reading()
    return replace(
        state,
        stage_began=at,
        edges=edges,
        raw=raw,
        totals={},
        spent=state.spent.plus(between),
        held_s=0.0,
        held_since=None,
    )


def _observed(state: State, record: Record, _at: float) -> State:
    return replace(
        state,
        raw={name: Reading.of(one) for name, one in record["raw"].items()},
        totals={name: Reading.of(one) for name, one in record["totals"].items()},
        compared=record.get("compared", {}),
    )


def _held(state: State, _record: Record, at: float) -> State:
    return replace(state, held_since=at)


def _back(state: State, _record: Record, at: float) -> State:
    missed = at - state.held_since if state.held_since is not None else 0.0
    return replace(state, held_since=None, held_s=state.held_s + missed)


def _decided(state: State, record: Record, _at: float) -> State:
    state = replace(state, asked="", asked_by="", failures=0)
    if record["decision"] == "advance":
        has_both = state.here.percent != 100
        return replace(
            state,
            phase=Phase.MOVE,
            stage=state.stage + 1,
            stage_began=None,
            reference=state.totals.get(state.stable) if has_both else state.reference,
            spent=state.affected,
            before=state.totals,
            totals={},
            compared=_carried(state),
        )
    return replace(state, phase=Phase.END, result=Result(record["decision"]), why=record["why"])


def _carried(state: State) -> Mapping[str, Any]:
    """What the next stage begins with: where the candidate gets all, what the stable variant answered."""
    if not state.compared or state.plan[state.stage + 1].percent != 100:
        return {}
    nothing = {"pairs": 0, "agreed": 0, "reasons": {}, "slices": {}, "slower": 0, "ms": [0.0, 0.0]}
    return {**state.compared, **nothing, "candidate": {}}


def _finished(state: State, _record: Record, at: float) -> State:
    return replace(state, phase=Phase.OVER, ended=at)


def _paused(state: State, _record: Record, _at: float) -> State:
    return replace(state, is_paused=True)


def _resumed(state: State, _record: Record, _at: float) -> State:
    return replace(state, is_paused=False)


def _asked(state: State, record: Record, _at: float) -> State:
    return replace(state, asked=record["what"], asked_by=record["who"])


_STEPS = {
    "checked": _checked,
    "moving": _moving,
    "moved": _moved,
    "braked": _braked,
    "move failed": _failed,
    "counting": _counting,
    "observed": _observed,
    "held": _held,
    "back": _back,
    "decided": _decided,
    "finished": _finished,
    "paused": _paused,
    "resumed": _resumed,
    "asked": _asked,
}
