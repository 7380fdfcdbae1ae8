"""The stack's configuration as a specification; its faults with the line of the stack file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pulumi
import yaml
from pulumi.runtime.config import CONFIG

from components.spec import EstateSpec, Problem, SpecError, dotted, validate


def estate_spec() -> EstateSpec:
    """What the stack's configuration says.

    Raises:
        pulumi.RunError: with every fault: where it is, what is wrong and what would be right.
    """
    return read(CONFIG.get(), f"{pulumi.get_project()}:", stack_file())


def read(config: Mapping[str, str], prefix: str, file: Path) -> EstateSpec:
    """The specification in `config`.

    Args:
        config: the values as the engine hands them to a program, of all namespaces.
        prefix: the project's namespace with its colon; other namespaces are for others.
        file: the stack file that they come from, for the line of a fault.

    Raises:
        pulumi.RunError: as for `estate_spec`.
    """
    ours = {key.removeprefix(prefix): value(raw) for key, raw in config.items() if key.startswith(prefix)}
    problems: list[Problem] = []
    try:
        spec = validate(EstateSpec, ours)
    except SpecError as error:
        problems = error.problems
    faults = [*_located(file, prefix, problems), *_strays(file, prefix)]
    if problems or faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        lines = [f"{count} in the configuration of this stack; nothing was changed:", *faults]
        raise pulumi.RunError("\n  ".join(lines))
    return spec


def stack_file() -> Path:
    """The file that the stack's configuration comes from, where nobody named another one."""
    return Path(pulumi.get_root_directory(), "stacks", f"Pulumi.{pulumi.get_stack()}.yaml")


def value(raw: str) -> Any:
    """A value as it was written: a block reaches a program as JSON, null as nothing, the rest as it is."""
    if raw == "":
        return None
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return raw


def _located(file: Path, prefix: str, problems: Sequence[Problem]) -> list[str]:
    """Each fault with its line of the stack file, where that can be told, in the file's order."""
    root = _nodes(file)
    found = []
    for path, message in problems:
        # The engine takes a key without a namespace for one of the project's.
        named = [["config", *path], ["config", f"{prefix}{path[0]}", *path[1:]]] if path else [["config"]]
        line = max(_line(root, keys) for keys in named)
        found.append((line, f"{_place(file, line)}{prefix}{dotted(path)}: {message}"))
    return [text for _, text in sorted(found, key=lambda fault: fault[0])]


def _strays(file: Path, prefix: str) -> list[str]:
    """What stands beside `config:` but belongs below it: the engine passes over it in silence."""
    root = _nodes(file)
    mend = "stands beside `config:`, where nothing reads it; move it below `config:`, indented"
    return [
        f"{_place(file, name.start_mark.line + 1)}`{name.value}` {mend}"
        for name, _ in (root.value if isinstance(root, yaml.MappingNode) else [])
        if isinstance(name.value, str) and name.value.removeprefix(prefix) in EstateSpec.model_fields
    ]


def _nodes(file: Path) -> yaml.Node | None:
    """The stack file with its line numbers; nothing where there is none that can be read."""
    try:
        return yaml.compose(file.read_text())
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return None


def _place(file: Path, line: int) -> str:
    if not file.exists():
        return ""
    return f"{file.parent.name}/{file.name}:{line}: " if line else f"{file.parent.name}/{file.name}: "


def _line(node: yaml.Node | None, keys: Sequence[str | int]) -> int:
    """The line of the innermost part of `keys` that is there, counted from 1; 0 where none is."""
    found = 0
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            entries = {name.value: (name, item) for name, item in node.value}
            if str(key) not in entries:
                break
            name, node = entries[str(key)]
            found = name.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            found = node.start_mark.line + 1
        else:
            break
    return found
