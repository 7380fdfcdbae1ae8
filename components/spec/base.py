"""What all parts of the specification share."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from enum import Enum
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError


class Spec(BaseModel):
    """A block of the specification: unknown fields are errors, docstrings are the documentation.

    What a field's type cannot say goes into its `json_schema_extra`: `unit` (of the number), `kind` (what a
    text is, for messages and the reference), and JSON Schema keywords for the names and values of a map.
    """

    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        frozen=True,
        # `true` is not the weight 1, nor is "90" a number: what looks wrong in a stack file is wrong.
        strict=True,
        allow_inf_nan=False,
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_is_absent(cls, value: Any) -> Any:
        """A field with nothing behind its colon, which YAML reads as null, keeps its default."""
        return (
            {key: item for key, item in value.items() if item is not None or key not in cls.model_fields}
            if isinstance(value, dict)
            else value
        )


Path = tuple[str | int, ...]
"""The names and list positions that lead to a value."""

Problem = tuple[Path, str]
"""Where the fault is, below the block that finds it, and what is wrong."""


def reject(problems: Iterable[Problem]) -> None:
    """Refuse a block for all its problems at once; does nothing where there are none.

    Raises:
        PydanticCustomError: which `components.spec.errors` takes apart again.
    """
    found = list(problems)
    if found:
        text = "; ".join(f"{dotted(path)}: {message}" if path else message for path, message in found)
        raise PydanticCustomError("spec", "{text}", {"text": text, "problems": found})


def dotted(path: Path) -> str:
    """A path as it is written in messages: `endpoints.digits.traffic`; odd names stand in quotes."""
    parts = [printable(str(part)) for part in path]
    return ".".join(
        part if part.replace("-", "").replace("_", "").isalnum() else f'"{part}"' for part in parts
    )


def printable(text: str) -> str:
    """Text on one line that a terminal shows as it is; what does not print is written as an escape."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )


def in_yaml(value: Any) -> str:
    """A value as it would be written in one line of a stack file."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {in_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(in_yaml(item) for item in value) + "]"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value.bit_length() > 128:
        return f"a number of some {value.bit_length() * 3 // 10} digits"
    return "null" if value is None else str(value)


def closest(wrong: str, known: Iterable[str]) -> list[str]:
    """The known name that is closest to a wrong one; none where none is close."""
    names = {name.lower().replace("-", "_"): name for name in known}
    return [
        names[match] for match in get_close_matches(wrong.lower().replace("-", "_"), names, n=1, cutoff=0.6)
    ]


def near_miss(wrong: str, known: Iterable[str]) -> str:
    """` (did you mean X?)` for a name that is close to a known one, else an empty string."""
    return "".join(f" (did you mean `{name}`?)" for name in closest(wrong, known))
