"""What answers when a variant does not: rungs, tried from the first to the last."""

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any

from pydantic import Field, model_validator

from .base import Problem, Spec, reject
from .sources import MODEL, wrong_model


class FallbackRung(Spec):
    """One thing that answers in a variant's place: exactly one of these fields. Its answers say so in the
    header `x-degraded`."""

    variant: str | None = Field(default=None, examples=["blue"])
    """Another variant of the endpoint, which the gateway asks: also where no replica is ready. The rungs
    after it are that variant's, and stand in for it as well. Requests that name their variant do without it.
    The gateway then sends whatever has failed a second time and never a third: `retries` is not read."""

    cached_s: int | None = Field(
        default=None, ge=1, le=604_800, examples=[60], json_schema_extra={"unit": "seconds"}
    )
    """The answer that an equal request was given, if it is no older. Each replica remembers its own answers,
    up to 64 MiB of them."""

    previous_version: bool | None = Field(default=None, examples=[True])
    """The version that was served before, where `model` names an alias, and the alias has moved meanwhile."""

    model: str | None = Field(
        default=None, examples=["models:/breast-cancer-small/1"], json_schema_extra={"pattern": MODEL.pattern}
    )
    """Another model, such as a smaller one, that each replica loads as well. It must take the same inputs and
    give the same outputs."""

    value: dict[str, Any] | None = Field(default=None, min_length=1, examples=[{"probability": 0.5}])
    """A static answer: each output's name with its data, nested like the output's shape. Where an output has
    a row for each row of the input, the data of one row. The last rung, as it always answers."""

    @model_validator(mode="after")
    def _check(self) -> "FallbackRung":
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        names = ", ".join(type(self).model_fields)
        if len(given) != 1:
            reject([((), f"give exactly one of {names}; got {', '.join(given) or 'none'}")])
        if self.previous_version is False:
            reject([(("previous_version",), "is said with `true`; leave the rung out otherwise")])
        wrong = [name for name, data in (self.value or {}).items() if not _is_data(data)]
        reject(
            (("value", name), "must be numbers, text or true and false, or lists of these") for name in wrong
        )
        if self.model is not None:
            reject((("model",), message) for message in _wrong_model(self.model))
        return self


def _wrong_model(model: str) -> Iterator[str]:
    yield from wrong_model(model)
    if model.startswith("oci:"):
        yield "an image is mounted for a variant's own model only; name a model that the server downloads"


def _is_data(data: Any) -> bool:
    if isinstance(data, list):
        return all(_is_data(one) for one in data)
    return isinstance(data, bool | int | str) or (isinstance(data, float) and isfinite(data))


def wrong_order(rungs: Sequence[FallbackRung]) -> Iterator[Problem]:
    """What is never reached."""
    others = [index for index, rung in enumerate(rungs) if rung.variant is not None]
    for index in others[1:]:
        yield (index, "variant"), "one variant can stand in for the others; leave it out"
    for index, rung in enumerate(rungs[:-1]):
        if rung.value is not None:
            yield (index, "value"), "always answers, so nothing comes after it; make it the last rung"
