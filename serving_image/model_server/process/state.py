"""What is true of the whole server: ready or not, and changes that reach every worker."""

import asyncio
from dataclasses import replace
from typing import Any

from model_server.errors import ServerError
from model_server.models.repository import Repository
from model_server.models.source import Plan, Resolved
from model_server.models.update import new_stamp, update
from model_server.process.board import Board, WorkerState
from model_server.process.control import ControlChannel


class ServerState:
    """The server as one of its processes sees it."""

    def __init__(self, repository: Repository, board: Board, worker: int) -> None:
        self._repository = repository
        self._board = board
        self._worker = worker
        self.channel: ControlChannel | None = None
        """The way to the other workers, if there are any."""
        self._updating: dict[str, asyncio.Lock] = {}
        self._state = WorkerState.STARTING
        board.set_state(worker, self._state)

    def set_state(self, state: WorkerState) -> None:
        """Enter the next state of this worker's life."""
        self._state = state
        self.beat()

    def beat(self) -> None:
        """Tell the others that this worker lives, and whether it can answer."""
        state = self._state
        if state is WorkerState.READY and self._repository.not_ready():
            state = WorkerState.NOT_READY
        self._board.set_state(self._worker, state)

    def not_ready_reasons(self) -> list[str]:
        """Why the server is not ready; empty when it is."""
        reasons: list[str] = []
        if self._state is not WorkerState.READY:
            reasons.append(f"the server is {self._state.name.lower()}")
        reasons += [
            f"model {entry.settings.name!r}: {entry.reason or entry.state.lower()}"
            for entry in self._repository.not_ready()
        ]
        return reasons + self._board.not_ready(besides=self._worker)

    def warnings(self) -> list[str]:
        """What is wrong although every model answers: refused changes, sources that cannot be asked."""
        warnings: list[str] = []
        for entry in self._repository.entries():
            name = entry.settings.name
            if entry.default is not None and entry.reason:
                serving = entry.default.version
                warnings.append(f"model {name!r}: version {serving} goes on serving: {entry.reason}")
            if entry.source_error:
                warnings.append(f"model {name!r}: changes cannot be noticed: {entry.source_error}")
        return warnings

    async def load(self, model: str) -> None:
        """Load a model, or load it again, in every worker. Raises NotFound, LoadFailed."""
        await self.refresh(model, stamp=new_stamp())

    async def refresh(self, model: str, *, stamp: str = "", patient: bool = True) -> None:
        """Bring a model, in every worker, to what its source means now.

        Raises NotFound, LoadFailed; then what serves goes on serving.
        """
        entry = self._repository.entry(model)
        async with self._updating.setdefault(model, asyncio.Lock()):
            try:
                plan = await self._repository.resolve(model, patient)
            except ServerError as error:
                if entry.default is None:
                    self._repository.note(model, error.message)
                raise
            plan = replace(plan, stamp=stamp)
            if entry.reason or not entry.serves(plan):
                await update(entry, plan, self._everywhere)

    async def announce(self, model: str) -> None:
        """Have every worker serve what this one does. Raises NotFound, LoadFailed."""
        plan = self._repository.entry(model).plan()
        if plan is not None and self.channel is not None:
            reason = self._repository.entry(model).reason
            await self._everywhere("apply", model, {**plan.as_json(), "reason": reason})

    async def unload(self, model: str) -> None:
        """Unload a model in every worker. Raises NotFound."""
        self._repository.entry(model)
        await self._everywhere("unload", model, {})

    async def operate(self, operation: str, model: str, detail: dict[str, Any]) -> None:
        """Do it in this worker alone."""
        repository = self._repository
        if operation == "prepare":
            resolved = Resolved(**detail["resolved"])
            await repository.prepare(model, resolved, detail["stamp"], detail["as_default"])
        elif operation == "apply":
            await repository.apply(model, Plan.from_json(detail), detail["reason"])
        elif operation == "refuse":
            await repository.refuse(model, detail["reason"])
        else:
            await repository.unload(model)
        self.beat()

    async def _everywhere(self, operation: str, model: str, detail: dict[str, Any]) -> None:
        if self.channel is None:
            await self.operate(operation, model, detail)
        else:
            await self.channel.ask(operation, model, detail)
