"""What one replica is given, and where it may run."""

from enum import Enum

from pydantic import Field, model_validator

from .base import Spec, reject


class Resources(Spec):
    """What one replica is given. `platform: local` shares the machine among all: of this it reads
    `memory_mib`, where somebody has written it down, and kills a replica that holds more."""

    cpu: float | None = Field(
        default=0.25, ge=0.01, le=512, examples=[2.0], json_schema_extra={"unit": "cores"}
    )
    """CPU that is reserved."""

    cpu_limit: float | None = Field(
        default=None, ge=0.01, le=512, examples=[4.0], json_schema_extra={"unit": "cores"}
    )
    """CPU that it may use, to which the server also sizes its threads; `cpu`, but at least 1, where nothing
    is said."""

    memory_mib: int | None = Field(
        default=512, ge=64, le=16_777_216, examples=[2048], json_schema_extra={"unit": "MiB"}
    )
    """Memory that is reserved and the most that it may use."""

    gpus: int | None = Field(default=0, ge=0, le=64, examples=[1], json_schema_extra={"unit": "GPUs"})
    """Whole NVIDIA GPUs, or, with `mig`, slices of one; with time-slicing, turns on a shared one."""

    mig: str | None = Field(
        default=None,
        pattern=r"^[1-9][0-9]*g\.[1-9][0-9]*gb(\.me)?$",
        examples=["1g.10gb"],
        json_schema_extra={"kind": "a MIG profile, e.g. 1g.10gb"},
    )
    """MIG profile of the slices that `gpus` counts; one slice where `gpus` is not given."""

    gpu_claim: str | None = Field(default=None, examples=["single-gpu"])
    """Name of a ResourceClaimTemplate in the estate's namespace: a device by dynamic resource allocation
    instead of `gpus`."""

    cache_gib: int | None = Field(
        default=10, ge=1, le=65_536, examples=[20], json_schema_extra={"unit": "GiB"}
    )
    """Disk for downloaded models; a replica that needs more is evicted."""

    @model_validator(mode="after")
    def _check(self) -> "Resources":
        reserved = self.cpu or 0.25
        if self.cpu_limit is not None and self.cpu_limit < reserved:
            reject(
                [(("cpu_limit",), f"must be at least `cpu`, which is {reserved:g}; got {self.cpu_limit:g}")]
            )
        if self.gpu_claim and (self.gpus or self.mig):
            reject([(("gpu_claim",), "asks for a device in another way; leave out `gpus` and `mig`")])
        return self

    @property
    def memory_limit_mib(self) -> int | None:
        """The memory limit that somebody has written down; the default is for where all is reserved."""
        return self.memory_mib if "memory_mib" in self.model_fields_set else None

    @property
    def cpu_most(self) -> float:
        """The cores that a replica may use."""
        return self.cpu_limit or max(1.0, self.cpu or 0.25)


class Effect(Enum):
    """What a taint does to pods that do not tolerate it."""

    NO_SCHEDULE = "NoSchedule"
    """They are not put on the node."""
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    """They are put on the node only where there is no other."""
    NO_EXECUTE = "NoExecute"
    """They are also taken off the node."""


class Toleration(Spec):
    """A taint of nodes that is put up with."""

    key: str = Field(examples=["dedicated"])
    """The taint's key."""

    value: str | None = Field(default=None, examples=["serving"])
    """The taint's value; any where nothing is said."""

    effect: Effect | None = Field(default=None, strict=False, examples=["NoSchedule"])
    """The taint's effect; any where nothing is said."""


class Placement(Spec):
    """Where replicas may run. `platform: local` has one place and reads none of it."""

    node_labels: dict[str, str] | None = Field(
        default=None, min_length=1, examples=[{"cloud.google.com/gke-nodepool": "serving"}]
    )
    """Labels that a node must have: those of a node pool, for instance."""

    tolerations: list[Toleration] | None = Field(
        default=None, examples=[[{"key": "dedicated", "value": "serving"}]]
    )
    """Taints of nodes to put up with. That of GPU nodes (`nvidia.com/gpu`) is put up with anyway where a GPU
    is asked for."""

    priority_class: str | None = Field(default=None, examples=["serving"])
    """Name of a PriorityClass: who stays when nodes are short."""

    runtime_class: str | None = Field(default=None, examples=["nvidia"])
    """Name of a RuntimeClass, where containers see a GPU by one: on nodes whose usual runtime is not
    NVIDIA's."""

    spread: bool | None = Field(default=True, examples=[False])
    """Spread replicas over zones and nodes, as far as there are any."""
