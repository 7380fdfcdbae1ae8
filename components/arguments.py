"""The arguments of components, checked before anything is made.

A program in Python hands over models and enumerations, one in another language plain maps and text; both
are checked alike, and a component only ever sees what its argument types say.
"""

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import cache
from inspect import isawaitable
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

import pulumi
from pydantic import BaseModel

from .spec import Problem, SpecError, dotted, near_miss, validate
from .spec.base import in_yaml

Args = TypeVar("Args")

Rule = Callable[[Any], Iterator[str]]
"""What is wrong with the value of one argument beyond its type."""

# `pulumi.Input` names these two by forward references, which are looked up in the module of an argument type.
_INPUT_NAMES = {"Output": pulumi.Output, "T": TypeVar("T")}


class ArgumentsError(pulumi.RunError):
    """A component that cannot be made; shown without a stack trace."""

    def __init__(self, component: str, problems: list[Problem]) -> None:
        """`component`: its type and name; `problems`: where each fault is, and what it is."""
        self.component, self.problems = component, problems
        lines = [f"  {dotted(path)}: {message}" for path, message in problems]
        super().__init__("\n".join([f"{component} cannot be made:", *lines]))


def checked(kind: type[Args], args: Any, component: str, rules: Mapping[str, Rule] | None = None) -> Args:
    """`args` as the component's argument type `kind`, a TypedDict.

    Args:
        kind: the argument type.
        args: what the program gave.
        component: type and name of the component, for the message.
        rules: further checks by argument, for values that are known already.

    Raises:
        ArgumentsError: every fault that was found.
    """
    hints = _hints(cast(Any, kind))
    if not isinstance(args, Mapping):
        raise ArgumentsError(component, [((), f"the arguments must be a map, got {in_yaml(args)}")])
    problems: list[Problem] = [
        ((name,), f"unknown argument{near_miss(str(name), hints)}; the arguments are {', '.join(hints)}")
        for name in args
        if name not in hints
    ]
    known: dict[str, Any] = {}
    for name, hint in hints.items():
        if args.get(name) is None:
            if name in cast(Any, kind).__required_keys__:
                problems.append(((name,), "is required"))
            continue
        try:
            known[name] = _value(hint, args[name])
        except SpecError as error:
            problems += [((name, *path), message) for path, message in error.problems]
            continue
        if rules and name in rules and not isinstance(known[name], pulumi.Output):
            problems += [((name,), message) for message in rules[name](known[name])]
    if problems:
        raise ArgumentsError(component, problems)
    return cast(Args, known)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, localns=_INPUT_NAMES)


def _value(hint: Any, value: Any) -> Any:
    """`value` as the type `hint` says; plain types only where it does not allow outputs.

    Raises:
        SpecError: it is not of that type.
    """
    inputs = [part for part in get_args(hint) if not (get_origin(part) or part is type(None))]
    if any(get_origin(part) is pulumi.Output for part in get_args(hint)):  # pulumi.Input[...]
        return value if isinstance(value, pulumi.Output) or isawaitable(value) else _value(inputs[0], value)
    if _has_output(value) and get_origin(hint) not in (dict, list):
        raise SpecError([((), "must be known before anything is made; it is the output of another resource")])
    if get_origin(hint) is dict:
        return _map(get_args(hint)[1], value)
    if get_origin(hint) is list:
        return _list(get_args(hint)[0], value)
    if issubclass(hint, BaseModel):
        return validate(hint, value)
    if issubclass(hint, Enum):
        return _choice(hint, value)
    if not isinstance(value, hint) or isinstance(value, bool) != (hint is bool):
        words = {str: "text", int: "a whole number", bool: "true or false"}
        raise SpecError([((), f"must be {words[hint]}, got {_shown(value)}")])
    return value


def _map(hint: Any, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise SpecError([((), f"must be a block of names, each with its value, got {_shown(value)}")])
    problems: list[Problem] = []
    known = {}
    for name, item in value.items():
        try:
            known[str(name)] = _value(hint, item)
        except SpecError as error:
            problems += [((str(name), *path), message) for path, message in error.problems]
    if problems:
        raise SpecError(problems)
    return known


def _list(hint: Any, value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise SpecError([((), f"must be a list, got {_shown(value)}")])
    problems: list[Problem] = []
    known = []
    for index, item in enumerate(value):
        try:
            known.append(_value(hint, item))
        except SpecError as error:
            problems += [((index, *path), message) for path, message in error.problems]
    if problems:
        raise SpecError(problems)
    return known


def _choice(hint: type[Enum], value: Any) -> Enum:
    if isinstance(value, hint):
        return value
    names = [str(member.value) for member in hint]
    if value not in names:
        hints = near_miss(value, names) if isinstance(value, str) else ""
        choices = " or ".join(f"`{name}`" for name in names)
        raise SpecError([((), f"must be {choices}, got {_shown(value)}{hints}")])
    return hint(value)


def _has_output(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_has_output(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(_has_output(item) for item in value)
    return isinstance(value, pulumi.Output)


def _shown(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) else in_yaml(value)
