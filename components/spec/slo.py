"""What an endpoint promises."""

from pydantic import Field

from .base import Spec


class Slo(Spec):
    """What an endpoint promises; `monitoring` makes alerts of it, which `platform: local` has none of."""

    latency_p99_ms: int | None = Field(
        default=None, ge=1, le=60_000, examples=[100], json_schema_extra={"unit": "milliseconds"}
    )
    """99 of 100 requests are answered within this, counted in the server."""

    error_rate: float | None = Field(
        default=0.001,
        ge=0.000_001,
        le=0.5,
        examples=[0.001],
        json_schema_extra={"unit": "share of the requests"},
    )
    """Share of the requests that may fail through no fault of the client's."""

    window_days: int | None = Field(
        default=30, ge=1, le=90, examples=[30], json_schema_extra={"unit": "days"}
    )
    """The time over which the promise is kept: alerts say how fast its budget of errors is used up."""
