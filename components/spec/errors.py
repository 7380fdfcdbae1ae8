"""Messages for wrong specifications: what is wrong, where, and what would be right."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from .base import near_miss

Model = TypeVar("Model", bound=BaseModel)


class SpecError(ValueError):
    """A specification that cannot be; `problems` holds the path and the message of each fault."""

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        """`problems`: path and message of each."""
        self.problems = list(problems)
        super().__init__(
            "\n".join(f"{path}: {message}" if path else message for path, message in self.problems)
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


def problems(model: type[BaseModel], error: ValidationError) -> Iterator[tuple[str, str]]:
    """The path and the message of each fault."""
    for fault in error.errors():
        path = [str(part) for part in fault["loc"] if part != "[key]"]
        if fault["type"] == "spec":
            for below, message in fault["ctx"]["problems"]:
                yield ".".join([*path, *([below] if below else [])]), message
        else:
            yield ".".join(path), _message(model, fault, path)


def _message(model: type[BaseModel], fault: ErrorDetails, path: Sequence[str]) -> str:
    fields = _fields(model, path[:-1])
    if fault["type"] == "extra_forbidden":
        hint = near_miss(path[-1], fields)
        return f"unknown field `{path[-1]}`{hint}; the fields here are {', '.join(fields)}"
    field = fields.get(path[-1]) if path else None
    words = _WORDING.get(fault["type"])
    text = words(fault) if words else fault["msg"]
    return f"{text}{_example(field)}"


def _example(field: FieldInfo | None) -> str:
    if field is None or not field.examples:
        return ""
    return f", e.g. {_yaml(field.examples[0])}"


def _yaml(value: Any) -> str:
    """A value as it would be written in one line of a stack file."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_yaml(item) for item in value) + "]"
    if isinstance(value, Enum):
        return str(value.value)
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _got(fault: ErrorDetails) -> str:
    value = fault["input"]
    text = f"'{value}'" if isinstance(value, str) else _yaml(value)
    return f"got {text if len(text) <= 60 else text[:57] + '…'}"


def _choice(fault: ErrorDetails) -> str:
    expected = fault["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
    return f"must be one of {expected}{near_miss(str(fault['input']), expected.split(', '))}; {_got(fault)}"


_Words = Callable[[ErrorDetails], str]

_WORDING: Mapping[str, _Words] = {
    "missing": lambda _: "is required",
    "enum": _choice,
    "int_type": lambda f: f"must be a whole number, {_got(f)}",
    "int_parsing": lambda f: f"must be a whole number, {_got(f)}",
    "int_from_float": lambda f: f"must be a whole number, {_got(f)}",
    "float_type": lambda f: f"must be a number, {_got(f)}",
    "float_parsing": lambda f: f"must be a number, {_got(f)}",
    "string_type": lambda f: f"must be text, {_got(f)}",
    "string_pattern_mismatch": lambda f: f"must match {f['ctx']['pattern']}, {_got(f)}",
    "list_type": lambda f: f"must be a list, {_got(f)}",
    "dict_type": lambda f: f"must be a block of `name: value`, {_got(f)}",
    "model_type": lambda f: f"must be a block of fields, {_got(f)}",
    "too_short": lambda f: f"must have at least {f['ctx']['min_length']} entry",
    "greater_than": lambda f: f"must be more than {f['ctx']['gt']:g}, {_got(f)}",
    "greater_than_equal": lambda f: f"must be at least {f['ctx']['ge']}, {_got(f)}",
    "less_than_equal": lambda f: f"must be at most {f['ctx']['le']:g}, {_got(f)}",
}


def _fields(model: type[BaseModel], path: Sequence[str]) -> Mapping[str, FieldInfo]:
    """The fields of the block at `path`; none where that is not a block."""
    block: Any = model
    for part in path:
        if isinstance(block, type) and issubclass(block, BaseModel):
            field = block.model_fields.get(part)
            block = _inner(field.annotation) if field else None
        else:  # a map or a list: whatever the key, the entries are alike
            block = _inner(get_args(block)[-1]) if get_args(block) else None
    return block.model_fields if isinstance(block, type) and issubclass(block, BaseModel) else {}


def _inner(annotation: Any) -> Any:
    """The type inside `Optional[…]`."""
    choices = [choice for choice in get_args(annotation) if choice is not type(None)]
    return choices[0] if len(choices) == 1 and type(None) in get_args(annotation) else annotation
