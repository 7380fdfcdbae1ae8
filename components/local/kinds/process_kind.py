"""What the kinds that are a group of processes have in common."""

from abc import abstractmethod
from pathlib import Path
from typing import Any

from ...provider.kind import UNKNOWN, Gone, Kind, Properties
from ..machine.processes import Group, ProcessGroups, Replica


class ProcessKind(Kind):
    """A resource that is one process group of the host."""

    def groups(self, properties: Properties) -> ProcessGroups:
        """The process groups of the stack that the resource belongs to."""
        return ProcessGroups(Path(properties["host"]), self.cancelled)

    @abstractmethod
    def group(self, new: Properties) -> Group:
        """The process group that the inputs ask for."""

    @abstractmethod
    def outputs(self, new: Properties, replicas: list[Replica] | None) -> dict[str, Any]:
        """The outputs; `replicas` is None in a preview, where what depends on them is `UNKNOWN`."""

    def preview(self, new: Properties, old: Properties | None) -> dict[str, Any]:
        """Only a group that is changed can get other ports."""
        kept = old if old and all(old.get(key) == value for key, value in new.items()) else {}
        return {
            key: kept.get(key, value) if value is UNKNOWN else value
            for key, value in self.outputs(new, None).items()
        }

    def apply(self, new: Properties, seconds: float) -> dict[str, Any]:
        """Converge the process group."""
        return self.outputs(new, self.groups(new).converge(self.group(new), seconds))

    def read(self, state: Properties) -> dict[str, Any]:
        """Gone when no process is left; else the number of replicas that are up."""
        groups = self.groups(state)
        running = groups.running(state["name"])
        if not running:
            raise Gone
        return {**state, **({"replicas": running} if "replicas" in state else {})}

    def delete(self, state: Properties) -> None:
        """Stop the processes and remove their files, data and ports."""
        self.groups(state).delete(state["name"])
