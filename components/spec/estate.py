"""An estate: everything that a stack file describes."""

from collections.abc import Iterator
from enum import Enum

from pydantic import Field, model_validator

from .base import Problem, Spec, reject
from .endpoint import Endpoint
from .flagger import wrong_flagger
from .gateway import GatewaySettings
from .gateway_classes import CLASSES, GatewayClass, unsupported
from .gpu import GpuSettings
from .kubernetes import AutoscalerName, KubernetesSettings
from .names import ENDPOINT, wrong_name
from .observability import MonitoringSettings
from .registry import Registry
from .scaling import wrong_autoscaler


class PlatformName(Enum):
    """Where an estate runs."""

    LOCAL = "local"
    """Processes on this machine, on loopback only."""
    KUBERNETES = "kubernetes"
    """Any Kubernetes cluster with the Gateway API, the one that the kubeconfig names."""


class EstateSpec(Spec):
    """Everything that serves machine-learning models in one environment."""

    platform: PlatformName = Field(strict=False, examples=["local"])
    """Where the estate runs; the rest means the same on every platform."""

    registry: Registry | None = Field(default=None, examples=[{"uri": "https://mlflow.example.com"}])
    """The model registry; needed where a variant's model is a `models:/` or `runs:/` address. `{}` is a
    new one of the estate's own."""

    endpoints: dict[str, Endpoint] = Field(
        default_factory=dict,
        examples=[{"breast-cancer": {"variants": {"blue": {"model": "models:/breast-cancer/1"}}}}],
        json_schema_extra={"propertyNames": {"pattern": ENDPOINT.pattern}},
    )
    """The endpoints by name: up to 40 lower-case letters, digits and `-`, a letter first."""

    gateway: GatewaySettings | None = Field(
        default_factory=GatewaySettings, examples=[{"domain": "models.example.com"}]
    )
    """The one way in, where the platform has a choice of gateways."""

    monitoring: MonitoringSettings | None = Field(default=None, examples=[{"scrape": "service-monitor"}])
    """Metrics, alerts and dashboards; none where nothing is said."""

    gpu: GpuSettings | None = Field(default=None, examples=[{"time_slices": 4}])
    """What makes GPUs of nodes usable; the cluster's own affair where nothing is said."""

    kubernetes: KubernetesSettings | None = Field(
        default_factory=KubernetesSettings, examples=[{"namespace": "serving"}]
    )
    """What is said of the whole cluster."""

    @model_validator(mode="after")
    def _check(self) -> "EstateSpec":
        reject(
            [
                *self._wrong_names(),
                *self._same_names(),
                *self._models_without_registry(),
                *(self._on_kubernetes() if self.platform is PlatformName.KUBERNETES else self._on_local()),
            ]
        )
        return self

    def _wrong_names(self) -> Iterator[Problem]:
        for name in self.endpoints:
            if not ENDPOINT.fullmatch(name):
                yield ("endpoints", name), wrong_name(name, ENDPOINT)

    def _same_names(self) -> Iterator[Problem]:
        owner: dict[str, str] = {}
        for name, endpoint in self.endpoints.items():
            for variant in endpoint.variants:
                # Resources are named endpoint-variant, in one room.
                here = f"endpoints.{name}.variants.{variant}"
                other = owner.setdefault(f"{name}-{variant}", here)
                if other != here:
                    yield (
                        ("endpoints", name, "variants", variant),
                        f"its servers would be called `{name}-{variant}`, as those of {other} are; "
                        "rename one of them",
                    )

    def _models_without_registry(self) -> Iterator[Problem]:
        if self.registry is not None:
            return
        for name, endpoint in self.endpoints.items():
            for key, variant in endpoint.variants.items():
                if variant.model.startswith(("models:", "runs:")):
                    yield (
                        ("endpoints", name, "variants", key, "model"),
                        f"`{variant.model}` is looked up in a registry, but the estate has none; add "
                        "`registry: {}` for one of its own, or `registry: {uri: …}` for one that exists",
                    )

    def _on_local(self) -> Iterator[Problem]:
        """Who may ask is never left unchecked in silence; what only spares servers may be."""
        for name, endpoint in self.endpoints.items():
            if endpoint.access:
                yield (
                    ("endpoints", name, "access"),
                    "`platform: local` listens on loopback only and checks nobody; leave `access` out",
                )
            if endpoint.rollout and endpoint.rollout.flagger:
                yield (
                    ("endpoints", name, "rollout", "flagger"),
                    "Flagger is a controller of a cluster; leave it out on `platform: local`",
                )
            for key, variant in endpoint.variants.items():
                if variant.model.startswith("oci:"):
                    yield (
                        ("endpoints", name, "variants", key, "model"),
                        "`platform: local` has no containers that an image could be mounted into; name a "
                        "folder, or a registered model",
                    )
        if self.gpu:
            yield ("gpu",), "`platform: local` has the machine's own driver; leave `gpu` out"

    def _on_kubernetes(self) -> Iterator[Problem]:
        gateway = self.gateway or GatewaySettings()
        for name, endpoint in self.endpoints.items():
            at = ("endpoints", name)
            for path, message in unsupported(endpoint, gateway.implementation):
                yield (*at, *path), message
            for key, variant in endpoint.variants.items():
                if ":" not in variant.model or variant.model.startswith("file:"):
                    yield (
                        (*at, "variants", key, "model"),
                        f"`{variant.model}` is a path on this machine, where pods cannot read it; register "
                        "the model (models:/name/1) or put it into a store (s3://, gs://, https://)",
                    )
            if f"{name}-grpc" in self.endpoints:
                yield (
                    ("endpoints", f"{name}-grpc"),
                    f"`{name}-grpc` is where endpoint `{name}` answers gRPC requests; rename one of them",
                )
            for path, message in wrong_flagger(endpoint):
                yield (*at, *path), message
            yield from self._wrong_scaling(name, endpoint)
        yield from self._wrong_callers(gateway.implementation)

    def _wrong_callers(self, gateway: GatewayClass) -> Iterator[Problem]:
        if self.kubernetes and self.kubernetes.callers and not CLASSES[gateway].in_cluster:
            yield (
                ("kubernetes", "callers"),
                f"gateways of class `{gateway.value}` ask from outside of the cluster, and nothing of "
                "theirs would get through; leave it out",
            )

    def _wrong_scaling(self, name: str, endpoint: Endpoint) -> Iterator[Problem]:
        keda = (self.kubernetes or KubernetesSettings()).autoscaler is AutoscalerName.KEDA
        prometheus = self.monitoring.prometheus if self.monitoring else None
        for key, variant in endpoint.variants.items():
            scaling = endpoint.scaling_of(key)
            at = ("endpoints", name, *(("variants", key) if variant.scaling else ()), "scaling")
            for path, message in wrong_autoscaler(scaling, keda=keda, prometheus=prometheus):
                yield (*at, *path), message
