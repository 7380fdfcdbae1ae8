"""An endpoint: one address behind which variants of a model answer."""

import re
from collections.abc import Iterator
from enum import Enum

from pydantic import Field, model_validator

from .base import Problem, Spec, near_miss, reject

NAME = r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"

_REGISTERED = re.compile(r"^models:/[^/@]+(/[1-9][0-9]*|@[^/@]+)$")
_SCHEMES = ("models:/", "runs:/", "s3://", "gs://", "http://", "https://", "file://")


class Runtime(Enum):
    """The model server that runs a variant."""

    BUNDLED = "bundled"
    """The project's own server (`serving_image/`): ONNX models over the Open Inference Protocol."""


class Scaling(Spec):
    """How many replicas answer."""

    min: int | None = Field(default=1, ge=1, le=64, examples=[2])
    """Replicas that always run. With two or more, an answer is not lost when one of them dies."""

    max: int | None = Field(default=None, ge=1, le=1024, examples=[4])
    """Replicas that an autoscaler may go up to; `min` where nothing is said. `platform: local` has no
    autoscaler and runs `min`."""

    @model_validator(mode="after")
    def _check(self) -> "Scaling":
        low = self.min or 1
        if self.max is not None and self.max < low:
            reject([("max", f"must be at least `min`, which is {low}; got {self.max}")])
        return self


class Variant(Spec):
    """One version of the model behind an endpoint, with servers of its own."""

    model: str = Field(examples=["models:/breast-cancer/1"])
    """The model to serve: `models:/name/version` or `models:/name@alias` in the registry, a folder or
    file on this machine, or a `runs:/`, `s3://`, `gs://`, `http(s)://` address."""

    runtime: Runtime | None = Field(default=Runtime.BUNDLED, examples=["bundled"])
    """The model server that runs it."""

    scaling: Scaling | None = None
    """Replicas of this variant, where they differ from the endpoint's."""

    @model_validator(mode="after")
    def _check(self) -> "Variant":
        reject(("model", message) for message in _wrong_model(self.model))
        return self


def _wrong_model(model: str) -> Iterator[str]:
    if not model.strip():
        yield "is empty; name a model, e.g. models:/breast-cancer/1"
    elif model.startswith("models:") and not _REGISTERED.match(model):
        yield (
            f"`{model}` does not say which version of a registered model; write models:/NAME/VERSION "
            "(a whole number from 1) or models:/NAME@ALIAS, e.g. models:/breast-cancer/1"
        )
    elif re.match(r"^[a-z0-9]+:/", model) and not model.startswith(_SCHEMES):
        scheme = model.split(":")[0]
        hint = near_miss(scheme, [known.split(":")[0] for known in _SCHEMES])
        known = ", ".join(_SCHEMES)
        yield f"`{scheme}:` is not an address that a model can be fetched from{hint}; known: {known}"


class Shadow(Spec):
    """A copy of some requests for a variant whose answers no client ever sees."""

    variant: str = Field(examples=["green"])
    """The variant that gets the copies. It must not have a share of the traffic as well."""

    percent: float | None = Field(default=100.0, gt=0, le=100, examples=[10])
    """Share of the requests to copy, in per cent; down to 0.0001."""


class Endpoint(Spec):
    """One address behind which variants of a model answer; the same block on every platform."""

    variants: dict[str, Variant] = Field(
        min_length=1, examples=[{"blue": {"model": "models:/breast-cancer/1"}}]
    )
    """The variants by name: lower-case letters, digits and `-`, e.g. `blue` and `green`."""

    traffic: dict[str, int] | None = Field(default=None, examples=[{"blue": 90, "green": 10}])
    """Each variant's share of the requests, in whole per cent; the shares add up to 100 and a variant
    that is not named gets none. May be left out where there is one variant."""

    shadow: Shadow | None = None
    """Copy a share of the requests to a variant, to see how it would do."""

    pin_header: str | None = Field(
        default="x-variant", pattern=r"^[a-z][a-z0-9-]{0,62}$", examples=["x-variant"]
    )
    """A request with this header goes to the variant that the header's value names."""

    timeout_ms: int | None = Field(default=30_000, ge=1, le=3_600_000, examples=[30_000])
    """How long a request may take at the gateway, retries included, in milliseconds."""

    retries: int | None = Field(default=3, ge=0, le=10, examples=[3])
    """How often the gateway sends a request again whose connection failed or was cut. Answers, errors
    included, are never retried."""

    scaling: Scaling | None = Field(default_factory=Scaling)
    """Replicas of each variant that does not say its own."""

    @model_validator(mode="after")
    def _check(self) -> "Endpoint":
        reject([*_wrong_names(self.variants), *self._wrong_traffic(), *self._wrong_shadow()])
        return self

    def _wrong_traffic(self) -> Iterator[Problem]:
        if not self.traffic:
            if len(self.variants) > 1 or self.traffic is not None:
                example = dict.fromkeys(self.variants, 0) | {next(iter(self.variants)): 100}
                yield "traffic", f"say how requests are divided among the variants, e.g. {_inline(example)}"
            return
        for name, share in self.traffic.items():
            if name not in self.variants:
                yield f"traffic.{name}", _no_variant(name, self.variants)
            if not 0 <= share <= 100:
                yield f"traffic.{name}", f"must be between 0 and 100 per cent, got {share}"
        total = sum(self.traffic.values())
        if total != 100:
            yield (
                "traffic",
                f"the shares must add up to 100 per cent, but {_inline(self.traffic)} adds up to {total}",
            )

    def _wrong_shadow(self) -> Iterator[Problem]:
        if self.shadow is None:
            return
        name = self.shadow.variant
        if name not in self.variants:
            yield "shadow.variant", _no_variant(name, self.variants)
        elif self.shares.get(name):
            yield (
                "shadow.variant",
                f"`{name}` also gets {self.shares[name]} % of the traffic, but a shadow's answers are thrown "
                f"away: set traffic.{name} to 0 or name another variant",
            )

    @property
    def shares(self) -> dict[str, int]:
        """Each variant's share of the requests in per cent, those with none included."""
        if self.traffic is None:
            return dict.fromkeys(self.variants, 100)
        return {name: self.traffic.get(name, 0) for name in self.variants}

    def replicas(self, variant: str) -> int:
        """The number of replicas of a variant that always run."""
        scaling = self.variants[variant].scaling or self.scaling or Scaling()
        return scaling.min or 1


def _wrong_names(variants: dict[str, Variant]) -> Iterator[Problem]:
    for name in variants:
        if not re.match(NAME, name):
            yield f"variants.{name}", wrong_name(name)


def wrong_name(name: str) -> str:
    """Why `name` cannot be the name of an endpoint or a variant, and one that could."""
    mended = re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")[:40].strip("-") or "blue"
    mended = mended if mended[0].isalpha() else f"v{mended}"[:40]
    return (
        f"`{name}` is not a valid name: use up to 40 lower-case letters, digits and `-`, a letter first, "
        f"e.g. `{mended}`"
    )


def _no_variant(name: str, variants: dict[str, Variant]) -> str:
    return f"there is no variant `{name}`{near_miss(name, variants)}; the variants are {', '.join(variants)}"


def _inline(shares: dict[str, int]) -> str:
    return "{" + ", ".join(f"{name}: {share}" for name, share in shares.items()) + "}"
