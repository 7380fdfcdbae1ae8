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
    EKS and GKE do); or with `operator` NVIDIA's GPU operator, which brings the driver as well."""

    operator: bool | None = Field(default=False, examples=[True])
    """Install the GPU operator by its Helm chart, from NVIDIA's public repository: driver, container toolkit,
    MIG manager and node feature discovery, too."""

    operator_version: str | None = Field(default="v25.10.0", examples=["v25.10.0"])
    """Version of that chart."""

    mig_layout: str | None = Field(default=None, examples=["all-1g.10gb"])
    """How the operator's MIG manager slices the GPUs of nodes that do not say it by the label
    `nvidia.com/mig.config`: a name from its configuration."""

    plugin_image: str | None = Field(
        default="nvcr.io/nvidia/k8s-device-plugin:v0.17.1", examples=["mirror.example.com/device-plugin:1"]
    )
    """Image of device plugin and feature discovery, without `operator`."""

    exporter_image: str | None = Field(
        default="nvcr.io/nvidia/k8s/dcgm-exporter:4.1.1-4.0.4-ubuntu22.04",
        examples=["mirror.example.com/dcgm-exporter:4"],
    )
    """Image of the DCGM exporter, without `operator`."""

    runtime_class: str | None = Field(default=None, examples=["nvidia"])
    """Name of the RuntimeClass with which these parts see the GPUs, where it is not the nodes' usual one;
    without `operator`."""

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
    discovery in the cluster, which `operator` brings."""

    @model_validator(mode="after")
    def _check(self) -> "GpuSettings":
        reject(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        if self.operator:
            for name in ("node_labels", "runtime_class"):
                if getattr(self, name):
                    yield (name,), "the GPU operator finds that out by itself; leave it out"
        elif self.mig_layout:
            yield (
                ("mig_layout",),
                "slicing is done by the GPU operator's MIG manager; add `operator: true`, or slice the nodes "
                "yourself and leave it out",
            )
        if self.operator and self.mig_layout and self.mig_strategy is MigStrategy.NONE:
            yield (
                ("mig_strategy",),
                "is `none`, so nothing would offer the slices of `mig_layout`; write mixed or single",
            )
        if self.time_slices and self.mig_strategy is MigStrategy.SINGLE:
            yield (
                ("time_slices",),
                "slices of strategy `single` are offered as whole GPUs and would be shared as well; use "
                "`mixed`, or leave out `time_slices`",
            )
