"""The reference of stack files, as Markdown, from the specification itself."""

from collections.abc import Iterator
from enum import Enum
from typing import Any, get_args

from pydantic import BaseModel

from .estate import EstateSpec
from .facts import Facts, blocks, choices, fields, inner, one_line
from .stack_schema import PROJECT

_INTRODUCTION = f"""\
# Reference of stack files

Made by `make schema` from `components/spec/`; do not edit.

A stack file is `stacks/Pulumi.<stack>.yaml`. What is below stands under `config:`, the outermost fields with
`{PROJECT}:` before their names. A field that is left out, or has nothing behind its colon, has its default.
Names of endpoints and variants are free.

```yaml
# yaml-language-server: $schema=../components/spec/stack.schema.json
config:
  {PROJECT}:platform: local
  {PROJECT}:registry: {{}}
  {PROJECT}:endpoints:
    breast-cancer:
      variants:
        blue: {{model: "models:/breast-cancer/1"}}
        green: {{model: "models:/breast-cancer/2"}}
      traffic: {{blue: 90, green: 10}}
```
"""


def reference() -> str:
    """The whole page."""
    parts = [_INTRODUCTION]
    for block, where in _places().items():
        parts.append(f"## {block.__name__}\n\n{where}\n\n{one_line(block.__doc__ or '')}\n")
        parts += [_field(block, facts) for facts in fields(block)]
    return "\n".join(parts)


def _places() -> dict[type[BaseModel], str]:
    """Each block with the paths at which it stands."""
    paths: dict[type[BaseModel], list[str]] = {block: [] for block in blocks(EstateSpec)}
    for block, path in _paths(EstateSpec, f"{PROJECT}:"):
        paths[block].append(f"`{path}`")
    return {
        block: f"At {', '.join(at)}." if block is not EstateSpec else "The outermost fields."
        for block, at in paths.items()
    }


def _paths(block: type[BaseModel], path: str) -> Iterator[tuple[type[BaseModel], str]]:
    yield block, path
    for name, field in block.model_fields.items():
        kind, below = inner(field.annotation), f"{path}{'' if path.endswith(':') else '.'}{name}"
        if get_args(kind):
            kind, below = get_args(kind)[-1], f"{below}.NAME"
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _paths(kind, below)


def _field(block: type[BaseModel], facts: Facts) -> str:
    kind = inner(block.model_fields[facts.name].annotation)
    said = [
        _linked(kind, facts.type) + (f" in {facts.unit}" if facts.unit else ""),
        facts.range,
        "required" if facts.required else f"default `{facts.default}`" if facts.default else "no default",
    ]
    values = ""
    if isinstance(kind, type) and issubclass(kind, Enum):
        values = "\n" + "\n".join(f"- `{value}`: {doc}" for value, doc in choices(kind).items()) + "\n"
    example = f"\n```yaml\n{facts.name}: {facts.example}\n```\n" if facts.example else ""
    summary = " · ".join(part for part in said if part)
    return f"### {block.__name__}.{facts.name}\n\n{summary}\n\n{facts.doc}\n{values}{example}"


def _linked(kind: Any, text: str) -> str:
    """The type, with a link to the block that it names."""
    block = get_args(kind)[-1] if get_args(kind) else kind
    if isinstance(block, type) and issubclass(block, BaseModel):
        return text.replace(block.__name__, f"[{block.__name__}](#{block.__name__.lower()})")
    return text
