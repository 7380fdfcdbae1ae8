"""What all parts of the specification share."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError


class Spec(BaseModel):
    """A block of the specification: unknown fields are errors, docstrings are the documentation."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_absent(cls, value: Any) -> Any:
        """A field with nothing behind its colon, which YAML reads as null, keeps its default."""
        return (
            {key: item for key, item in value.items() if item is not None}
            if isinstance(value, dict)
            else value
        )


Problem = tuple[str, str]
"""The path of a field below the block that finds the fault with it, and what is wrong."""


def reject(problems: Iterable[Problem]) -> None:
    """Refuse a block for all its problems at once; does nothing where there are none.

    Raises:
        PydanticCustomError: which `components.spec.errors` takes apart again.
    """
    found = list(problems)
    if found:
        text = "; ".join(f"{path}: {message}" if path else message for path, message in found)
        raise PydanticCustomError("spec", "{text}", {"text": text, "problems": found})


def near_miss(wrong: str, known: Iterable[str]) -> str:
    """` (did you mean X?)` for a name that is close to a known one, else an empty string."""
    match = get_close_matches(wrong, list(known), n=1, cutoff=0.6)
    return f" (did you mean `{match[0]}`?)" if match else ""
