"""What is true of the whole server: ready or not, and loads that reach every worker."""

from model_server.models.repository import Repository


class ServerState:
    """One server, of one process."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self.starting = True
        self.draining = False

    def not_ready_reasons(self) -> list[str]:
        """Why the server is not ready; empty when it is."""
        reasons: list[str] = []
        if self.starting:
            reasons.append("the server is starting")
        if self.draining:
            reasons.append("the server is stopping")
        for entry in self._repository.not_ready():
            reasons.append(f"model {entry.settings.name!r}: {entry.reason or entry.state.lower()}")
        return reasons

    async def load(self, model: str) -> None:
        """Load a model, or load it again. Raises NotFound, LoadFailed."""
        await self._repository.load(model)

    async def unload(self, model: str) -> None:
        """Unload a model. Raises NotFound."""
        await self._repository.unload(model)
