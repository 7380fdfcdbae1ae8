"""Rollouts by Flagger, for teams that want a controller in the cluster to move the weights."""

from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING

from pydantic import Field

from .base import Problem, Spec

if TYPE_CHECKING:
    from .endpoint import Endpoint


class AlertKind(Enum):
    """Whom Flagger tells."""

    SLACK = "slack"
    """Slack."""
    MSTEAMS = "msteams"
    """Microsoft Teams."""
    DISCORD = "discord"
    """Discord."""
    ROCKET = "rocket"
    """Rocket.Chat."""


class FlaggerAlerts(Spec):
    """Whom Flagger tells what it does."""

    kind: AlertKind | None = Field(default=AlertKind.SLACK, strict=False, examples=["slack"])
    """What is told."""

    secret: str = Field(examples=["flagger-alerts"])
    """Name of a Secret with the entry `address`: where messages are sent to."""

    channel: str | None = Field(default=None, examples=["models"])
    """The channel, where the address does not say it."""


class Flagger(Spec):
    """Flagger moves the weights instead of `estate rollout`. It asks the gate before each step, which
    decides by the same statistics."""

    gate: str = Field(
        pattern=r"^https?://[^\s/]+$",
        examples=["http://rollout-gate.serving:8080"],
        json_schema_extra={"kind": "an http:// or https:// address without a path"},
    )
    """Where the gate answers: the `url` of a `RolloutGate`, or where else `estate rollout gate` runs."""

    interval_s: int | None = Field(
        default=10, ge=5, le=86_400, examples=[30], json_schema_extra={"unit": "seconds"}
    )
    """How often Flagger looks."""

    alerts: FlaggerAlerts | None = Field(default=None, examples=[{"secret": "flagger-alerts"}])
    """Whom Flagger tells."""


def wrong_flagger(endpoint: "Endpoint") -> Iterator[Problem]:
    """What an endpoint asks for that Flagger cannot do, and what to do about it."""
    rollout = endpoint.rollout
    if rollout is None or rollout.flagger is None:
        return
    mend = "leave `rollout.flagger` out, and `estate rollout` does it"
    if rollout.kind.value != "canary":
        yield (
            ("rollout", "strategy"),
            f"only canaries are made for Flagger, not `{rollout.kind.value}`: with the Gateway API it copies "
            f"all requests or none, and joins no outcomes; {mend}",
        )
    if len(endpoint.variants) > 1:
        yield (
            ("variants",),
            "Flagger makes the second variant itself, from a change of the first one: leave one variant, and "
            f"change its `model` to begin a rollout; or {mend}",
        )
    if endpoint.shadow:
        yield (
            ("shadow",),
            f"Flagger owns the route and copies all requests or none, to its own canary only; {mend}",
        )
    looks_at = rollout.looks_at
    for name in ("outcome", "agreement", "golden", "predictions"):
        if getattr(looks_at, name):
            yield (
                ("rollout", "analysis", name),
                f"the gate looks at errors and latency, not at answers or files of the project; {mend}",
            )
    if rollout.weights:
        yield ("rollout", "weights"), "Flagger owns the weights; leave it out"
    if endpoint.scaling and endpoint.scaling.autoscaled:
        yield (
            ("scaling", "max"),
            f"Flagger sets the number of replicas while it rolls out; give `min` only, or {mend}",
        )
