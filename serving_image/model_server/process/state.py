"""What is true of the whole server: ready or not, and changes that reach every worker."""

from model_server.models.repository import Repository
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

    async def load(self, model: str) -> None:
        """Load a model, or load it again, in every worker. Raises NotFound, LoadFailed."""
        self._repository.entry(model)
        await self._everywhere("load", model)

    async def unload(self, model: str) -> None:
        """Unload a model in every worker. Raises NotFound."""
        self._repository.entry(model)
        await self._everywhere("unload", model)

    async def operate(self, operation: str, model: str) -> None:
        """Do it in this worker alone."""
        if operation == "load":
            await self._repository.load(model)
        else:
            await self._repository.unload(model)
        self.beat()

    async def _everywhere(self, operation: str, model: str) -> None:
        if self.channel is None:
            await self.operate(operation, model)
        else:
            await self.channel.ask(operation, model)
