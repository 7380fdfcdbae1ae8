"""Notices what changed at the models' sources: aliases that moved, new versions, new contents.

One worker looks for all; a look is one small request a model. The others only try again to load what they
could not.
"""

import asyncio
import random
from time import monotonic

from model_server.errors import ServerError
from model_server.models.repository import ModelEntry, Repository
from model_server.models.sources import may_change
from model_server.process.state import ServerState
from model_server.settings import Settings
from model_server.telemetry.logs import log

_JITTER = 0.2
_LONGEST_PAUSE_SECONDS = 600.0


class Watcher:
    """The polls of one worker."""

    def __init__(self, repository: Repository, state: ServerState, settings: Settings, leads: bool) -> None:
        self._repository = repository
        self._state = state
        self._seconds = settings.registry.poll_seconds
        self._leads = leads
        self._pauses: dict[str, float] = {}
        self._not_before: dict[str, float] = {}

    async def run(self) -> None:
        """Poll until cancelled."""
        if self._leads:
            # Workers that started while an alias moved may differ; the master learns what successors need.
            for entry in self._repository.entries():
                await self._guarded(entry, announce=True)
        while self._seconds:
            # Chance keeps a fleet from asking the registry all at once.
            await asyncio.sleep(self._seconds * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311 - see above
            for entry in self._repository.entries():
                await self._look(entry)

    async def _look(self, entry: ModelEntry) -> None:
        name = entry.settings.name
        if entry.unloaded or monotonic() < self._not_before.get(name, 0.0):
            return
        if not self._leads:
            await self._repository.load_missing(name)
        elif may_change(entry.settings) or entry.default is None or entry.reason:
            await self._guarded(entry, announce=False)

    async def _guarded(self, entry: ModelEntry, announce: bool) -> None:
        """A look that fails delays the next one, because what was refused is likely to be so again."""
        name = entry.settings.name
        try:
            await (self._state.announce(name) if announce else self._state.refresh(name, patient=False))
        except ServerError as error:
            refused = entry.reason == error.message
            pause = min(max(2 * self._pauses.get(name, 0.0), self._seconds), _LONGEST_PAUSE_SECONDS)
            if refused:
                self._pauses[name] = pause
                self._not_before[name] = monotonic() + pause
            elif not entry.source_error:
                log.warning(
                    "a model's source cannot be asked", extra={"model": name, "reason": error.message}
                )
            self._repository.note_source(name, "" if refused else error.message)
        except Exception:
            log.exception("a look at a model's source failed", extra={"model": name})
        else:
            if entry.source_error:
                log.info("a model's source answers again", extra={"model": name})
            self._repository.note_source(name, "")
            self._pauses.pop(name, None)
            self._not_before.pop(name, None)
