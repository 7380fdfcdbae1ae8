"""A rollout: how a variant takes over an endpoint's requests, and what it has to show for it."""

from collections.abc import Iterator, Mapping
from enum import Enum
from itertools import pairwise

from pydantic import Field, model_validator

from .base import Problem, Spec, in_yaml, near_miss, reject
from .flagger import Flagger


class Strategy(Enum):
    """How the candidate meets the requests."""

    CANARY = "canary"
    """It gets a growing share, step by step, for as long as it does well."""

    BLUE_GREEN = "blue-green"
    """It is checked at 0 % and then gets all at once; the old one stays warm for a switch back."""

    SHADOW = "shadow"
    """It gets copies, by the endpoint's `shadow`; its answers are compared and no weight is moved."""

    AB = "a/b"
    """It gets a fixed share, and its business outcome is compared; which one is better is reported."""


class OnTimeout(Enum):
    """What becomes of a step whose time is over before the evidence says anything."""

    ROLL_BACK = "roll-back"
    """The candidate gets nothing: what could not be shown to be good does not stay."""

    HOLD = "hold"
    """The weights stay until more requests or a person decide."""


class RolloutStep(Spec):
    """A share of the requests, and when it is left for the next one."""

    percent: int = Field(ge=1, le=100, examples=[5], json_schema_extra={"unit": "per cent"})
    """The candidate's share of the requests."""

    min_samples: int | None = Field(
        default=None, ge=1, le=1_000_000_000, examples=[500], json_schema_extra={"unit": "requests"}
    )
    """Requests that the candidate has to answer in this step, where it differs from the rollout's."""

    max_time_s: int | None = Field(
        default=None, ge=1, le=2_592_000, examples=[3600], json_schema_extra={"unit": "seconds"}
    )
    """How long the step may take, where it differs from the rollout's."""


class ErrorAnalysis(Spec):
    """How many more of its requests the candidate may fail. Answers of 500 and above are failures."""

    max_increase: float | None = Field(
        default=0.5, ge=0, le=100, examples=[0.5], json_schema_extra={"unit": "per cent of the requests"}
    )
    """By how much the candidate's share of failures may exceed that of the variant it replaces."""


class LatencyAnalysis(Spec):
    """How much slower the candidate may be, at one quantile, as the gateway measures it."""

    quantile: float | None = Field(
        default=0.95, ge=0.01, le=0.999, examples=[0.95], json_schema_extra={"unit": "share of the requests"}
    )
    """Which one: 0.95 asks about the slowest request in 20. Higher ones take more requests to tell."""

    max_ratio: float | None = Field(
        default=1.5, ge=1, le=1000, examples=[1.5], json_schema_extra={"unit": "times"}
    )
    """What the candidate may take, in times of what the variant takes that it replaces."""

    slack_ms: float | None = Field(
        default=10.0, ge=0, le=3_600_000, examples=[10], json_schema_extra={"unit": "milliseconds"}
    )
    """What it may take more in any case, so that 3 ms instead of 1 ms is no breach."""


class OutcomeAnalysis(Spec):
    """What the answers led to: revenue, a purchase, a label that came later."""

    file: str = Field(examples=["outcomes.jsonl"])
    """JSON lines, `{"variant": "green", "value": 0.7}`, appended as outcomes become known. An answer's
    variant is in its header `x-variant`. A path is taken from the project's folder. With an `id` (a
    user's, or a request's) only the first outcome of each counts."""

    assignments: str | None = Field(default=None, examples=["assignments.jsonl"])
    """JSON lines, `{"id": "u-17", "variant": "green"}`, appended as answers are given. Outcomes then need
    only `id` and `value`: labels that come later are joined by it. Where users stay with their variant and
    ids are theirs, the division of users is checked too. A path is taken from the project's folder."""

    lowest: float | None = Field(
        default=0.0, ge=-1e12, le=1e12, examples=[0], json_schema_extra={"unit": "units of the outcome"}
    )
    """The least value that an outcome can have."""

    highest: float | None = Field(
        default=1.0, ge=-1e12, le=1e12, examples=[1], json_schema_extra={"unit": "units of the outcome"}
    )
    """The greatest value that an outcome can have; larger is better."""

    max_decrease: float | None = Field(
        default=0.0, ge=0, le=1e12, examples=[0.01], json_schema_extra={"unit": "units of the outcome"}
    )
    """By how much the candidate's mean may be below that of the variant it replaces."""

    @model_validator(mode="after")
    def _check(self) -> "OutcomeAnalysis":
        low, high = self.lowest or 0.0, 1.0 if self.highest is None else self.highest
        if low >= high:
            reject([(("highest",), f"must be above `lowest`, which is {low:g}; got {high:g}")])
        return self


class AgreementAnalysis(Spec):
    """How often the candidate has to answer as the variant does that it would replace."""

    requests: str | None = Field(default=None, examples=["requests.jsonl"])
    """Requests that are sent to both before clients' are: JSON lines in the form of the Open Inference
    Protocol, each may have a `slice`. A path is taken from the project's folder. A shadow rollout compares
    the answers to the copies as well, or to them alone."""

    min_percent: float | None = Field(
        default=99.0, ge=0, le=100, examples=[99], json_schema_extra={"unit": "per cent of the requests"}
    )
    """How many of them have to get answers that agree."""

    classes: list[str] | None = Field(default=None, examples=[["probabilities"]])
    """Outputs of scores, of which only the greatest has to be the same one."""

    tolerance: dict[str, float] | None = Field(
        default=None,
        examples=[{"score": 0.01}],
        json_schema_extra={
            "unit": "share of the stable variant's number",
            "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1},
        },
    )
    """How far apart the numbers of an output may be, by its name; where nothing is said, 0.01 for FP16, 0.02
    for BF16, 0.0001 for FP32 and 0.000001 for FP64. Anything else has to be equal."""

    slice_header: str | None = Field(
        default=None,
        pattern=r"^[a-z][a-z0-9-]{0,62}$",
        examples=["x-region"],
        json_schema_extra={
            "kind": "a header's name: up to 63 lower-case letters, digits and `-`, a letter first"
        },
    )
    """A header of the requests that says which slice they belong to, so that the report can tell where the
    answers to a shadow's copies disagree."""


class PredictionAnalysis(Spec):
    """How differently the candidate may predict, over all requests: classes that shift, scores that drift."""

    max_shift: float | None = Field(
        default=10.0, ge=0, le=100, examples=[10], json_schema_extra={"unit": "per cent of the answers"}
    )
    """By how much the share of any class may differ from that of the variant it replaces; of a number, the
    share of answers up to any value."""

    output: str | None = Field(default=None, examples=["label"])
    """Which output; the model's first where nothing is said. The first row of an answer counts."""


class Analysis(Spec):
    """What is looked at in every step. Each part has to be good for a promotion; one breach rolls back."""

    errors: ErrorAnalysis | None = Field(default_factory=ErrorAnalysis, examples=[{"max_increase": 0.5}])
    """Failed requests."""

    latency: LatencyAnalysis | None = Field(
        default_factory=LatencyAnalysis, examples=[{"quantile": 0.95, "max_ratio": 1.5}]
    )
    """Slow requests."""

    outcome: OutcomeAnalysis | None = Field(default=None, examples=[{"file": "outcomes.jsonl"}])
    """What the answers led to."""

    agreement: AgreementAnalysis | None = Field(default=None, examples=[{"requests": "requests.jsonl"}])
    """Answers to the same requests, compared pair by pair."""

    predictions: PredictionAnalysis | None = Field(default=None, examples=[{"max_shift": 10}])
    """What the answers are, taken together."""

    golden: str | None = Field(default=None, examples=["golden.json"])
    """A file of requests with the answers that are right, which each of the candidate's replicas has to
    give before it gets any requests; its form is in serving_image/MODELS.md. A path is taken from the
    project's folder."""


class Users(Spec):
    """What tells one user from another, so that each stays with the variant that the first request got."""

    header: str | None = Field(
        default=None,
        pattern=r"^[a-z][a-z0-9-]{0,62}$",
        examples=["x-user"],
        json_schema_extra={
            "kind": "a header's name: up to 63 lower-case letters, digits and `-`, a letter first"
        },
    )
    """A header that holds something of the user's own. A request without it may go to any variant."""

    cookie: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        examples=["session"],
        json_schema_extra={"kind": "a cookie's name: up to 64 letters, digits, `_` and `-`"},
    )
    """A cookie instead. A request without it may go to any variant."""

    @model_validator(mode="after")
    def _check(self) -> "Users":
        if (self.header is None) == (self.cookie is None):
            reject([((), "say either `header` or `cookie`, e.g. {header: x-user}")])
        return self


class Rollout(Spec):
    """Who moves the weights: `estate rollout`, by evidence; `traffic` only says how requests are divided when
    the endpoint is first made, and after that `pulumi up` leaves the weights as they are, whoever runs it."""

    strategy: Strategy | None = Field(default=Strategy.CANARY, strict=False, examples=["canary"])
    """How the candidate meets the requests."""

    steps: list[RolloutStep] | None = Field(
        default=None, min_length=1, examples=[[{"percent": 5}, {"percent": 100}]]
    )
    """The steps of a canary, in ascending order up to 100 per cent; 1, 5, 25 and 100 where nothing is
    said."""

    percent: int | None = Field(
        default=None, ge=1, le=99, examples=[50], json_schema_extra={"unit": "per cent"}
    )
    """The candidate's share in an a/b rollout; 50 where nothing is said."""

    users: Users | None = Field(default=None, examples=[{"header": "x-user"}])
    """Let users stay with their variant in an a/b rollout; without it requests are divided one by one."""

    alpha: float | None = Field(
        default=0.05, ge=0.0001, le=0.5, examples=[0.05], json_schema_extra={"unit": "probability"}
    )
    """The probability of rolling back a candidate that is within its limits, in the whole rollout, and of
    promoting one that is beyond one of them. It holds however often is looked."""

    min_samples: int | None = Field(
        default=100, ge=1, le=1_000_000_000, examples=[500], json_schema_extra={"unit": "requests"}
    )
    """Requests that the candidate has to answer in each step. The evidence mostly asks for more."""

    max_time_s: int | None = Field(
        default=3600, ge=1, le=2_592_000, examples=[3600], json_schema_extra={"unit": "seconds"}
    )
    """How long a step may take."""

    on_timeout: OnTimeout | None = Field(default=OnTimeout.ROLL_BACK, strict=False, examples=["roll-back"])
    """What becomes of a step whose time is over before the evidence says anything."""

    keep_warm_s: int | None = Field(
        default=None, ge=0, le=2_592_000, examples=[600], json_schema_extra={"unit": "seconds"}
    )
    """How long the candidate of a blue-green rollout is watched after the switch, with the old variant
    ready for the switch back; 600 where nothing is said."""

    analysis: Analysis | None = Field(default_factory=Analysis, examples=[{"golden": "golden.json"}])
    """What is looked at."""

    weights: dict[str, int] | None = Field(
        default=None,
        min_length=1,
        examples=[{"blue": 95, "green": 5}],
        json_schema_extra={
            "unit": "per cent",
            "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 100},
        },
    )
    """The weights to set now. `estate rollout` says it in the runs of the engine that move weights, and it
    stands in no stack file: a run without it leaves the weights as they are."""

    flagger: Flagger | None = Field(default=None, examples=[{"gate": "http://rollout-gate.serving:8080"}])
    """Let Flagger move the weights, on a cluster that has it; `estate rollout` where nothing is said."""

    @model_validator(mode="after")
    def _check(self) -> "Rollout":
        reject([*self._foreign(), *self._wrong_steps()])
        return self

    def _foreign(self) -> Iterator[Problem]:
        owners = {
            "steps": Strategy.CANARY,
            "percent": Strategy.AB,
            "users": Strategy.AB,
            "keep_warm_s": Strategy.BLUE_GREEN,
        }
        for field, owner in owners.items():
            if getattr(self, field) is not None and self.kind is not owner:
                yield (
                    (field,),
                    f"only {_a(owner)} rollout has it, this is {_a(self.kind)} one; leave it out, or set "
                    f"`strategy: {owner.value}`",
                )
        agreement = self.analysis.agreement if self.analysis else None
        if agreement and not agreement.requests and self.kind is not Strategy.SHADOW:
            yield (
                ("analysis", "agreement", "requests"),
                "only a shadow rollout has copies whose answers can be compared; say which requests to send "
                "to both, e.g. {requests: requests.jsonl}",
            )
        if self.kind is Strategy.AB and not (self.analysis and self.analysis.outcome):
            yield (
                ("analysis", "outcome"),
                "an a/b rollout compares outcomes; say where they are, e.g. {file: outcomes.jsonl}",
            )

    def _wrong_steps(self) -> Iterator[Problem]:
        percents = [step.percent for step in self.steps or []]
        for index, (before, after) in enumerate(pairwise(percents), 1):
            if after <= before:
                yield (
                    ("steps", index, "percent"),
                    f"each step must be larger than the one before, which has {before} %; got {after}",
                )
        if percents and percents[-1] != 100:
            yield (
                ("steps", len(percents) - 1, "percent"),
                f"the last step must be 100 per cent, got {percents[-1]}; add {{percent: 100}}",
            )

    @property
    def kind(self) -> Strategy:
        """The strategy, with its default."""
        return self.strategy or Strategy.CANARY

    @property
    def plan(self) -> list[RolloutStep]:
        """The steps of any strategy, complete: a percentage, a number of samples and a time for each."""
        plans = {
            Strategy.CANARY: [RolloutStep(percent=percent) for percent in (1, 5, 25, 100)],
            Strategy.BLUE_GREEN: [RolloutStep(percent=100, max_time_s=self.warm_s or None)],
            Strategy.SHADOW: [],
            Strategy.AB: [RolloutStep(percent=self.percent or 50)],
        }
        return [
            RolloutStep(
                percent=step.percent,
                min_samples=step.min_samples or self.min_samples or 100,
                max_time_s=step.max_time_s or self.max_time_s or 3600,
            )
            for step in self.steps or plans[self.kind]
        ]

    @property
    def warm_s(self) -> int:
        """`keep_warm_s`, with its default."""
        return 600 if self.keep_warm_s is None else self.keep_warm_s

    @property
    def looks_at(self) -> Analysis:
        """The analysis, with its default."""
        return self.analysis or Analysis()

    @property
    def compares_answers(self) -> bool:
        """Whether answers to clients are looked at, which the servers have to keep for it."""
        copied = self.kind is Strategy.SHADOW and self.looks_at.agreement is not None
        return copied or self.looks_at.predictions is not None


def wrong_rollout(
    rollout: Rollout | None, variants: Mapping[str, object], has_shadow: bool
) -> Iterator[Problem]:
    """What is wrong with a rollout in its endpoint."""
    if rollout is None:
        return
    if rollout.kind is Strategy.SHADOW and not has_shadow:
        yield (
            ("rollout", "strategy"),
            "a shadow rollout watches the endpoint's copies, but it makes none; add "
            "`shadow: {variant: …, percent: …}` to the endpoint",
        )
    weights = rollout.weights or {}
    for name in weights:
        if name not in variants:
            known = ", ".join(variants)
            yield (
                ("rollout", "weights", name),
                f"there is no variant `{name}`{near_miss(name, variants)}; the variants are {known}",
            )
    total = sum(weights.values())
    if weights and (total != 100 or min(weights.values()) < 0):
        yield (
            ("rollout", "weights"),
            f"the weights must add up to 100 per cent, but {in_yaml(weights)} adds up to {total}",
        )


def _a(strategy: Strategy) -> str:
    return f"{'an' if strategy is Strategy.AB else 'a'} {strategy.value}"
