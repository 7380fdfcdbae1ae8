"""Outcomes as they become known, from the file that the rollout's analysis names."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path


def size(file: Path) -> int:
    """How far the file goes now, in bytes: what comes after it belongs to a rollout that begins now."""
    try:
        return file.stat().st_size
    except OSError:
        return 0


def read(file: Path, since: int, candidate: str, stable: str) -> Mapping[str, Sequence[float]]:
    """The outcomes of both variants, in the file's order.

    Args:
        file: JSON lines with `variant` and `value`; what is not, and a last line without its end, is
            passed over.
        since: from which byte on.
        candidate: the name of the one variant.
        stable: the name of the other one.
    """
    found: dict[str, list[float]] = {"candidate": [], "stable": []}
    roles = {candidate: "candidate", stable: "stable"}
    try:
        with file.open("rb") as lines:
            lines.seek(since)
            text = lines.read()
    except OSError:
        return found
    for line in text[: text.rfind(b"\n") + 1].splitlines():
        try:
            outcome = json.loads(line)
            role, value = roles.get(outcome["variant"]), float(outcome["value"])
        except (ValueError, KeyError, TypeError):
            continue
        if role:
            found[role].append(value)
    return found
