"""What makes GPUs of nodes usable."""

from collections.abc import Iterator
from enum import Enum

from pydantic import Field, model_validator

from .base import Problem, Spec, reject


class MigStrategy(Enum):
    """How the slices of a GPU are offered."""

    NONE = "none"
    """GPUs are not sliced."""
    SINGLE = "single"
    """All slices of a node are alike and offered as `nvidia.com/gpu`."""
    MIXED = "mixed"
    """Slices are offered by their profile, e.g. `nvidia.com/mig-1g.10gb`."""


class GpuSettings(Spec):
    """NVIDIA's device plugin, feature discovery and exporter, on nodes that have a driver already (those of
    EKS and GKE do). On bare nodes use NVIDIA's GPU operator instead of this."""

    time_slices: int | None = Field(
        default=None, ge=2, le=64, examples=[4], json_schema_extra={"unit": "pods for each GPU"}
    )
    """Pods that share a GPU by taking turns. Nothing keeps their memory apart."""

    mig_strategy: MigStrategy | None = Field(default=MigStrategy.NONE, strict=False, examples=["mixed"])
    """How MIG slices are offered, where nodes are sliced."""

    node_labels: dict[str, str] | None = Field(
        default=None, min_length=1, examples=[{"cloud.google.com/gke-accelerator": "nvidia-l4"}]
    )
    """Labels of the nodes that have GPUs; without it those that node feature discovery finds
    (`feature.node.kubernetes.io/pci-10de.present`) or that carry `nvidia.com/gpu.present`."""

    exporter: bool | None = Field(default=True, examples=[False])
    """Run the DCGM exporter: use, memory and temperature of each GPU for Prometheus."""

    discovery: bool | None = Field(default=True, examples=[False])
    """Run GPU feature discovery: model and memory of the GPUs as labels of their nodes. Needs node feature
    discovery in the cluster."""

    @model_validator(mode="after")
    def _check(self) -> "GpuSettings":
        reject(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        if self.time_slices and self.mig_strategy is MigStrategy.SINGLE:
            yield (
                ("time_slices",),
                "slices of strategy `single` are offered as whole GPUs and would be shared as well; use "
                "`mixed`, or leave out `time_slices`",
            )
