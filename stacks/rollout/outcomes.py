"""Outcomes as they become known, joined to who got which variant, from the files that the analysis names."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Outcomes:
    """What is known now."""

    values: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Of `candidate` and `stable`, in the order in which they came."""
    users: tuple[int, int] | None = None
    """How many ids each of the two was given, where that is told."""


def size(file: Path) -> int:
    """How far the file goes now, in bytes: what comes after it belongs to a rollout that begins now."""
    try:
        return file.stat().st_size
    except OSError:
        return 0


class OutcomeFiles:
    """Reads on where it was: the files grow for as long as a rollout lasts."""

    def __init__(self, outcomes: Path, assignments: Path | None, candidate: str, stable: str) -> None:
        """Remember what to read.

        Args:
            outcomes: JSON lines with `value` and `variant`, or `id`; what is not, and a last line without
                its end, is passed over.
            assignments: JSON lines with `id` and `variant`, or None.
            candidate: the name of the one variant.
            stable: the name of the other one.
        """
        self._roles = {candidate: "candidate", stable: "stable"}
        self._outcomes, self._assignments = outcomes, assignments
        self._at: dict[Path, int] = {}
        self._given: dict[str, str] = {}
        self._early: dict[str, float] = {}
        self._seen: set[str] = set()
        self._values: dict[str, list[float]] = {"candidate": [], "stable": []}

    def read(self, since: int, assigned_since: int) -> Outcomes:
        """What there is; the arguments say from which byte on each file belongs to the rollout."""
        if self._assignments:
            for line in self._lines(self._assignments, assigned_since):
                role, key = self._roles.get(str(line.get("variant"))), line.get("id")
                if role and key is not None and str(key) not in self._given:
                    self._given[str(key)] = role
                    if str(key) in self._early:  # its label was there before
                        self._add(role, self._early.pop(str(key)), str(key))
        for line in self._lines(self._outcomes, since):
            try:
                value = float(line["value"])
            except (KeyError, TypeError, ValueError):
                continue
            key = None if line.get("id") is None else str(line["id"])
            role = self._roles.get(str(line.get("variant"))) or (self._given.get(key) if key else None)
            if role:
                self._add(role, value, key)
            elif key and self._assignments:
                self._early.setdefault(key, value)
        given = list(self._given.values())
        users = (given.count("candidate"), given.count("stable")) if self._assignments else None
        return Outcomes(self._values, users)

    def _add(self, role: str, value: float, key: str | None) -> None:
        if key is not None:
            if key in self._seen:
                return
            self._seen.add(key)
        self._values[role].append(value)

    def _lines(self, file: Path, since: int) -> Iterator[dict[str, Any]]:
        try:
            with file.open("rb") as lines:
                lines.seek(max(self._at.get(file, 0), since))
                begin, text = lines.tell(), lines.read()
        except OSError:
            return
        end = text.rfind(b"\n") + 1
        self._at[file] = begin + end
        for line in text[:end].splitlines():
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict):
                yield found
