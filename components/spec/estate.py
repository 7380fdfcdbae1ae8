"""An estate: everything that a stack file describes."""

import re
from collections.abc import Iterator
from enum import Enum

from pydantic import Field, model_validator

from .base import Problem, Spec, reject
from .endpoint import NAME, Endpoint, wrong_name


class PlatformName(Enum):
    """Where an estate runs."""

    LOCAL = "local"
    """Processes on this machine, on loopback only."""


class Seed(Spec):
    """A program that fills a new registry, e.g. by training and registering example models."""

    command: list[str] = Field(min_length=1, examples=[["python", "-m", "stacks.models"]])
    """The program and its arguments, run once in the project's folder; the tracking URI is in
    `MLFLOW_TRACKING_URI`. Run again when the command changes, so it must be repeatable."""

    timeout_s: int | None = Field(default=900, ge=1, le=86_400, examples=[900])
    """How long it may take, in seconds."""


class Registry(Spec):
    """The MLflow model registry that `models:/` addresses are looked up in."""

    uri: str | None = Field(default=None, pattern=r"^https?://", examples=["https://mlflow.example.com"])
    """The tracking URI of a registry that exists already; without it the estate runs one of its own."""

    seed: Seed | None = None
    """Fill a registry of the estate's own."""

    @model_validator(mode="after")
    def _check(self) -> "Registry":
        if self.uri and self.seed:
            reject([("seed", "only a registry of the estate's own is seeded; leave out `seed` or `uri`")])
        return self


class EstateSpec(Spec):
    """Everything that serves machine-learning models in one environment."""

    platform: PlatformName = Field(examples=["local"])
    """Where the estate runs; the rest means the same on every platform."""

    registry: Registry | None = None
    """The model registry; needed where a variant's model is a `models:/` or `runs:/` address."""

    endpoints: dict[str, Endpoint] = Field(
        default_factory=dict,
        examples=[{"breast-cancer": {"variants": {"blue": {"model": "models:/breast-cancer/1"}}}}],
    )
    """The endpoints by name: lower-case letters, digits and `-`."""

    @model_validator(mode="after")
    def _check(self) -> "EstateSpec":
        reject([*self._wrong_names(), *self._models_without_registry()])
        return self

    def _wrong_names(self) -> Iterator[Problem]:
        owner: dict[str, str] = {}
        for name, endpoint in self.endpoints.items():
            if not re.match(NAME, name):
                yield f"endpoints.{name}", wrong_name(name)
            for variant in endpoint.variants:
                # Resources are named endpoint-variant, in one room.
                other = owner.setdefault(f"{name}-{variant}", f"endpoints.{name}.variants.{variant}")
                if other != f"endpoints.{name}.variants.{variant}":
                    yield (
                        f"endpoints.{name}.variants.{variant}",
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
                        f"endpoints.{name}.variants.{key}.model",
                        f"`{variant.model}` is looked up in a registry, but the estate has none; add "
                        "`registry: {}` for one of its own, or `registry: {uri: …}` for one that exists",
                    )
