"""Answers as the model servers gave them: taken from each replica, for as long as a rollout compares them."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ..placement import Placement
from ..web import fetch

_ENOUGH = 500
"""Answers of a replica at a time, above which a smaller share is asked for."""


class AnswersSource(Protocol):
    """Hands over what variants answered since the last time."""

    def take(self, variants: Sequence[str], slice_header: str) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """The answers of each variant; none where a server tells nothing."""
        ...


class ServerAnswers:
    """The project's own model servers, where their settings have them tell (`server.tells_answers`)."""

    def __init__(self, endpoint: str, placement: Callable[[], Placement | None]) -> None:
        """`placement`: the endpoint as it ran when the stack was last looked at."""
        self._endpoint, self._placement = endpoint, placement
        self._share = 1.0

    def take(self, variants: Sequence[str], slice_header: str) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """The answers of each variant; none where a server tells nothing."""
        placement = self._placement()
        found: dict[str, list[Mapping[str, Any]]] = {name: [] for name in variants}
        most = 0
        for name in variants:
            running = placement.variants.get(name) if placement else None
            for address in running.addresses if running else ():
                answers = self._ask(address, slice_header)
                most = max(most, len(answers))
                found[name] += answers
        # The same share for all, as which requests it holds is told by their ids.
        if most > 2 * _ENOUGH:
            self._share = max(self._share / 2, 1e-4)
        return found

    def _ask(self, address: str, slice_header: str) -> list[Mapping[str, Any]]:
        body = {"share": self._share, "slice_header": slice_header}
        try:
            status, text = fetch(f"{address}/v2/models/{self._endpoint}/answers", body, timeout=5)
            return list(json.loads(text)["answers"]) if status == 200 else []
        except (OSError, ValueError, KeyError):
            return []  # it is down, or of another kind: then there is nothing to compare
