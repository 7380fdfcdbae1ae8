"""Messages for wrong specifications: what is wrong, where, and what would be right."""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from .base import Path, Problem, closest, dotted, in_yaml, near_miss, printable
from .facts import inner

Model = TypeVar("Model", bound=BaseModel)


class SpecError(ValueError):
    """A specification that cannot be; `problems` holds the path and the message of each fault."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """`problems`: path and message of each."""
        self.problems = [(path, printable(message)) for path, message in problems]
        super().__init__(
            "\n".join(f"{dotted(path)}: {message}" if path else message for path, message in self.problems)
        )


def validate(model: type[Model], value: Any) -> Model:
    """`value` as a `model`.

    Raises:
        SpecError: with every fault that was found.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise SpecError(list(problems(model, error))) from None
    except RecursionError:
        raise SpecError([((), "is nested too deeply to be a specification")]) from None


def problems(model: type[BaseModel], error: ValidationError) -> Iterator[Problem]:
    """The path and the message of each fault."""
    faults = [(tuple(part for part in fault["loc"] if part != "[key]"), fault) for fault in error.errors()]
    # A misspelt field that is required is one fault, not an unknown field and a missing one.
    misspelt = {
        (*path[:-1], name)
        for path, fault in faults
        if fault["type"] == "extra_forbidden"
        for name in closest(str(path[-1]), _place(model, path).block)
    }
    for path, fault in faults:
        if fault["type"] == "spec":
            for below, message in fault["ctx"]["problems"]:
                yield (*path, *below), message
        elif fault["type"] != "missing" or path not in misspelt:
            yield path, _message(_place(model, path), fault, path)


@dataclass(frozen=True)
class _Place:
    """What the specification has at a path: the block that holds it, and the field it is or lies in."""

    block: Mapping[str, FieldInfo]
    field: FieldInfo | None
    is_field: bool
    """Whether it is the field itself, not an entry of it."""
    below: Mapping[str, FieldInfo]
    """The fields that it has itself, where it is a block."""

    def says(self, key: str) -> Any:
        """What the field says beyond its type."""
        extra = self.field.json_schema_extra if self.field else None
        return extra.get(key) if isinstance(extra, dict) else None

    @property
    def example(self) -> Any:
        """An example of the field; none of an entry."""
        return self.field.examples[0] if self.field and self.is_field and self.field.examples else None

    def bound(self, name: str) -> Any:
        """`ge` or `le` of the field."""
        found = (
            [getattr(rule, name) for rule in self.field.metadata if hasattr(rule, name)] if self.field else []
        )
        return found[0] if found else None


def _place(model: type[BaseModel], path: Path) -> _Place:
    at: Any = model
    block: Mapping[str, FieldInfo] = {}
    field: FieldInfo | None = None
    is_field = False
    for part in path:
        if _is_block(at):
            block = at.model_fields
            field, is_field = block.get(str(part)), True
            at = inner(field.annotation) if field else None
        else:  # a map or a list: whatever the key, the entries are alike
            block, is_field = {}, False
            at = inner(get_args(at)[-1]) if get_args(at) else None
            field = None if _is_block(at) else field
    return _Place(block, field, is_field, at.model_fields if _is_block(at) else {})


def _is_block(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _message(place: _Place, fault: ErrorDetails, path: Path) -> str:
    if fault["type"] == "extra_forbidden":
        hint = near_miss(str(path[-1]), place.block)
        return f"unknown field `{path[-1]}`{hint}; the fields here are {', '.join(place.block)}"
    words = _WORDING.get(fault["type"])
    return words(place, fault) if words else f"{fault['msg']}, {_got(fault)}"


def _got(fault: ErrorDetails) -> str:
    value = fault["input"]
    text = f"'{value}'" if isinstance(value, str) else in_yaml(value)
    return f"got {text if len(text) <= 60 else text[:57] + '…'}"


def _such_as(place: _Place, written: Any = None) -> str:
    """What to write instead, where that can be told; else an example of the field."""
    if written is not None:
        return f"; write {in_yaml(written)}"
    return f"; e.g. {in_yaml(place.example)}" if place.example is not None else ""


def _missing(place: _Place, _fault: ErrorDetails) -> str:
    return f"is required{_such_as(place)}"


def _choice(place: _Place, fault: ErrorDetails) -> str:
    names = [str(member.value) for member in inner(place.field.annotation)] if place.field else []
    choices = " or ".join(f"`{name}`" for name in names)
    hint = near_miss(fault["input"], names) if isinstance(fault["input"], str) else ""
    return f"must be {choices}, {_got(fault)}{hint}"


def _whole(place: _Place, fault: ErrorDetails) -> str:
    meant = _number(place, fault["input"])
    return f"must be a whole number{_unit(place)}, {_got(fault)}{_such_as(place, meant)}"


def _real(place: _Place, fault: ErrorDetails) -> str:
    meant = _number(place, fault["input"])
    return f"must be a number{_unit(place)}, {_got(fault)}{_such_as(place, meant)}"


def _unit(place: _Place) -> str:
    return f" of {place.says('unit')}" if place.says("unit") else ""


_SECONDS = {"ms": 0.001, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


def _number(place: _Place, value: Any) -> int | None:
    """The number that text was meant to be: `90%` is 90, and `30s` is 30000 where milliseconds are wanted."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    found = re.fullmatch(r"\s*(-?[0-9]{1,9})\s*(%|[a-z]*)\s*", value) if isinstance(value, str) else None
    if not found:
        return None
    number, suffix = int(found[1]), found[2]
    if suffix in ("", "%"):
        return number
    each = {"milliseconds": 0.001, "seconds": 1}.get(place.says("unit"))
    return round(number * _SECONDS[suffix] / each) or None if each and suffix in _SECONDS else None


def _text(place: _Place, fault: ErrorDetails) -> str:
    value = fault["input"]
    plain = isinstance(value, int | float)
    return (
        f"must be text, {_got(fault)}{_such_as(place, chr(34) + in_yaml(value) + chr(34) if plain else None)}"
    )


def _pattern(place: _Place, fault: ErrorDetails) -> str:
    value = str(fault["input"])
    lower = (
        value.lower()
        if value != value.lower() and re.search(fault["ctx"]["pattern"], value.lower())
        else None
    )
    kind = place.says("kind") or f"text that matches {fault['ctx']['pattern']}"
    return f"must be {kind}, {_got(fault)}{_such_as(place, lower)}"


def _list(place: _Place, fault: ErrorDetails) -> str:
    words = None
    if isinstance(fault["input"], str):
        try:
            words = shlex.split(fault["input"]) or None
        except ValueError:  # an open quote
            words = None
    return f"must be a list, {_got(fault)}{_such_as(place, words)}"


def _map(place: _Place, fault: ErrorDetails) -> str:
    return f"must be a block of names, each with its value, {_got(fault)}{_such_as(place)}"


def _block(place: _Place, fault: ErrorDetails) -> str:
    one = "one block" if isinstance(fault["input"], list) else "a block"
    required = {name: field for name, field in place.below.items() if field.is_required()}
    written = None
    if isinstance(fault["input"], str) and [field.annotation for field in required.values()] == [str]:
        written = {next(iter(required)): fault["input"]}
    elif place.example is None and required:
        example = {name: (field.examples or [None])[0] for name, field in required.items()}
        return f"must be {one} of fields, {_got(fault)}; e.g. {in_yaml(example)}"
    return f"must be {one} of fields, {_got(fault)}{_such_as(place, written)}"


def _too_short(place: _Place, _fault: ErrorDetails) -> str:
    return f"is empty, but needs at least one entry{_such_as(place)}"


def _range(place: _Place, fault: ErrorDetails) -> str:
    low, high = place.bound("ge"), place.bound("le")
    unit = f" {place.says('unit')}" if place.says("unit") else ""
    return f"must be between {low} and {high}{unit}, {_got(fault)}"


_Words = Callable[[_Place, ErrorDetails], str]

_WORDING: Mapping[str, _Words] = {
    "missing": _missing,
    "enum": _choice,
    "int_type": _whole,
    "float_type": _real,
    "finite_number": _real,
    "string_type": _text,
    "string_unicode": lambda _place, _fault: "has characters that are not Unicode text",
    "string_pattern_mismatch": _pattern,
    "list_type": _list,
    "dict_type": _map,
    "model_type": _block,
    "invalid_key": lambda _place, _fault: "must be text, as all names are",
    "too_short": _too_short,
    "greater_than_equal": _range,
    "less_than_equal": _range,
}
