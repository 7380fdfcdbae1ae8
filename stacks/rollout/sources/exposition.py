"""The text format of Prometheus, as far as it is needed: names, labels, numbers."""

import re
from collections.abc import Iterator
from typing import NamedTuple

_LINE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Series(NamedTuple):
    """One line."""

    name: str
    labels: dict[str, str]
    value: float


def series(text: str) -> Iterator[Series]:
    """The series in `text`; comments and what is not understood are passed over."""
    for line in text.splitlines():
        found = _LINE.match(line)
        if found:
            yield Series(found[1], dict(_LABEL.findall(found[2] or "")), float(found[3]))
