"""How many replicas answer, and what makes them more or fewer."""

from collections.abc import Iterator

from pydantic import Field, model_validator

from .base import Problem, Spec, reject


class ExternalMetric(Spec):
    """A number from outside of the servers, e.g. how much work waits in a queue."""

    name: str = Field(
        pattern=r"^\S+$",
        examples=["queue_messages_ready"],
        json_schema_extra={"kind": "a metric's name, without blanks"},
    )
    """Its name: of a series that an external metrics adapter offers, or with KEDA of one in Prometheus."""

    labels: dict[str, str] | None = Field(default=None, min_length=1, examples=[{"queue": "digits"}])
    """Labels that tell it from others of its name."""

    per_replica: float = Field(
        ge=0.001,
        le=1_000_000_000,
        examples=[30.0],
        json_schema_extra={"unit": "of the metric, for each replica"},
    )
    """How much of it one replica can take."""


class Scaling(Spec):
    """How many replicas answer. With `max` above `min` an autoscaler keeps to the targets that are given;
    each target asks for a number of replicas, and the largest number wins."""

    min: int | None = Field(default=1, ge=1, le=64, examples=[2], json_schema_extra={"unit": "replicas"})
    """Replicas that always run. With two or more, an answer is not lost when one of them dies."""

    max: int | None = Field(default=None, ge=1, le=1024, examples=[4], json_schema_extra={"unit": "replicas"})
    """Replicas that an autoscaler may go up to; `min` where nothing is said. `platform: local` has no
    autoscaler and runs `min`."""

    cpu_percent: int | None = Field(
        default=None, ge=10, le=400, examples=[70], json_schema_extra={"unit": "per cent"}
    )
    """Mean CPU use of the replicas to keep to, as a share of the CPU that they reserve (`resources.cpu`). 70
    where replicas may become more and no other target is given."""

    requests_per_second: float | None = Field(
        default=None,
        ge=0.01,
        le=1_000_000,
        examples=[50.0],
        json_schema_extra={"unit": "requests a second for each replica"},
    )
    """Requests that one replica is to answer; needs metrics in the cluster, see `monitoring`."""

    latency_p99_ms: int | None = Field(
        default=None, ge=1, le=3_600_000, examples=[80], json_schema_extra={"unit": "milliseconds"}
    )
    """Grow while 1 % of the requests take longer than this in the server; needs metrics in the cluster."""

    queue_length: int | None = Field(
        default=None, ge=1, le=100_000, examples=[10], json_schema_extra={"unit": "requests for each replica"}
    )
    """Requests that may wait in one replica; needs metrics in the cluster."""

    external: ExternalMetric | None = Field(
        default=None, examples=[{"name": "queue_messages_ready", "per_replica": 30.0}]
    )
    """Something outside of the servers that grows with the work to do; needs metrics in the cluster."""

    scale_up_s: int | None = Field(
        default=0, ge=0, le=3600, examples=[0], json_schema_extra={"unit": "seconds"}
    )
    """How long a target must have been exceeded before replicas are added."""

    scale_down_s: int | None = Field(
        default=300, ge=0, le=3600, examples=[300], json_schema_extra={"unit": "seconds"}
    )
    """How long fewer replicas must have been enough before one is taken away."""

    zero_after_s: int | None = Field(
        default=None, ge=30, le=86_400, examples=[900], json_schema_extra={"unit": "seconds"}
    )
    """Take all replicas away after so long without a request. The next request brings one back, but is itself
    refused with 503 until that one has loaded its model. Needs `kubernetes.autoscaler: keda`."""

    @model_validator(mode="after")
    def _check(self) -> "Scaling":
        reject(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        low = self.min or 1
        if self.max is not None and self.max < low:
            yield ("max",), f"must be at least `min`, which is {low}; got {self.max}"
        if self.autoscaled:
            return
        for name in ("cpu_percent", "requests_per_second", "latency_p99_ms", "queue_length", "external"):
            if getattr(self, name) is not None and self.max is None:
                yield (
                    (name,),
                    f"is a target for an autoscaler, but there is none while `max` is not above `min`; add "
                    f"e.g. max: {low + 3}",
                )

    @property
    def autoscaled(self) -> bool:
        """Whether a controller of the platform decides on the number of replicas."""
        return (self.max or 0) > (self.min or 1) or self.zero_after_s is not None

    @property
    def needs_metrics(self) -> bool:
        """Whether a target is measured by something other than the cluster's own metrics server."""
        targets = (
            *(self.requests_per_second, self.latency_p99_ms, self.queue_length),
            *(self.external, self.zero_after_s),
        )
        return any(target is not None for target in targets)


def wrong_autoscaler(scaling: Scaling, *, keda: bool, prometheus: str | None) -> Iterator[Problem]:
    """What an autoscaler cannot do; the paths begin below `scaling`.

    Args:
        scaling: what it is to keep to.
        keda: whether it is KEDA, and not Kubernetes' own.
        prometheus: where KEDA asks for what is measured.
    """
    if scaling.zero_after_s is not None and not keda:
        yield (
            ("zero_after_s",),
            "Kubernetes' own autoscaler leaves one replica at least; add `kubernetes: {autoscaler: keda}` or "
            "leave it out",
        )
    elif scaling.needs_metrics and keda and not prometheus:
        yield (
            (),
            "KEDA asks a Prometheus for these targets, but none is named; add e.g. `monitoring: {prometheus: "
            "http://prometheus.monitoring:9090}`",
        )
