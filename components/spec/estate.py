"""An estate: everything that a stack file describes."""

from collections.abc import Iterator
from enum import Enum

from pydantic import Field, model_validator

from .base import Problem, Spec, reject
from .endpoint import Endpoint
from .names import ENDPOINT, wrong_name


class PlatformName(Enum):
    """Where an estate runs."""

    LOCAL = "local"
    """Processes on this machine, on loopback only."""


class Seed(Spec):
    """A program that fills a new registry, e.g. by training and registering example models."""

    command: list[str] = Field(min_length=1, examples=[["python", "-m", "stacks.models"]])
    """The program and its arguments, run once in the project's folder; the tracking URI is in
    `MLFLOW_TRACKING_URI`. Run again when the command changes, so it must be repeatable."""

    timeout_s: int | None = Field(
        default=900, ge=1, le=86_400, examples=[900], json_schema_extra={"unit": "seconds"}
    )
    """How long it may take."""

    @model_validator(mode="after")
    def _check(self) -> "Seed":
        if not self.command[0].strip():
            reject([(("command", 0), "is empty; name the program to run, e.g. python")])
        return self


class Registry(Spec):
    """The MLflow model registry that `models:/` addresses are looked up in."""

    uri: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s/]+",
        examples=["https://mlflow.example.com"],
        json_schema_extra={"kind": "an http:// or https:// address"},
    )
    """The tracking URI of a registry that exists already; without it the estate runs one of its own."""

    seed: Seed | None = Field(default=None, examples=[{"command": ["python", "-m", "stacks.models"]}])
    """Fill a registry of the estate's own."""

    @model_validator(mode="after")
    def _check(self) -> "Registry":
        if self.uri and self.seed:
            reject([(("seed",), "only a registry of the estate's own is seeded; leave out `seed` or `uri`")])
        return self


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

    @model_validator(mode="after")
    def _check(self) -> "EstateSpec":
        reject([*self._wrong_names(), *self._same_names(), *self._models_without_registry()])
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
