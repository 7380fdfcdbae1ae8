"""The stack's configuration as a specification; its faults with the line of the stack file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pulumi
import yaml
from pulumi.runtime.config import CONFIG

from components.spec import EstateSpec, SpecError, validate


def estate_spec() -> EstateSpec:
    """What the stack's configuration says.

    Raises:
        pulumi.RunError: with every fault: where it is, what is wrong and what would be right.
    """
    prefix = f"{pulumi.get_project()}:"
    config = {
        key.removeprefix(prefix): _value(raw) for key, raw in CONFIG.get().items() if key.startswith(prefix)
    }
    try:
        return validate(EstateSpec, config)
    except SpecError as error:
        raise pulumi.RunError(report(stack_file(), prefix, error.problems)) from None


def stack_file() -> Path:
    """The file that the stack's configuration comes from, where nobody named another one."""
    return Path(__file__).with_name(f"Pulumi.{pulumi.get_stack()}.yaml")


def _value(raw: str) -> Any:
    """Blocks reach a program as JSON, plain values as they are."""
    try:
        return json.loads(raw)
    except ValueError:
        return raw


def report(file: Path, prefix: str, problems: Sequence[tuple[str, str]]) -> str:
    """The faults of a stack file, each with its line where that can be told."""
    count = "1 fault" if len(problems) == 1 else f"{len(problems)} faults"
    try:
        root = yaml.compose(file.read_text())
    except (OSError, yaml.YAMLError):
        root = None
    lines = [f"{count} in the configuration of this stack; nothing was changed:"]
    for path, message in problems:
        line = _line(root, ["config", *_keys(prefix, path)])
        place = f"{file.parent.name}/{file.name}:{line}: " if line else ""
        lines.append(f"  {place}{prefix}{path}: {message}")
    return "\n".join(lines)


def _keys(prefix: str, path: str) -> list[str]:
    first, *rest = path.split(".")
    return [f"{prefix}{first}", *rest]


def _line(node: yaml.Node | None, keys: Sequence[str]) -> int | None:
    """The line of the innermost part of `keys` that is there, counted from 1."""
    found: int | None = None
    for key in keys:
        entries: Mapping[str, tuple[yaml.Node, yaml.Node]] = (
            {name.value: (name, value) for name, value in node.value}
            if isinstance(node, yaml.MappingNode)
            else {}
        )
        if key not in entries:
            break
        name, node = entries[key]
        found = name.start_mark.line + 1
    return found
