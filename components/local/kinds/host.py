"""This machine as the platform of one stack: a state folder and a process supervisor."""

import shutil
from pathlib import Path
from typing import Any, ClassVar

from ...provider.kind import Gone, Kind, Properties
from ..machine import ports
from ..machine.supervisor import Supervisor


class Host(Kind):
    """Made first and removed last: whatever else was left of the stack goes with it."""

    replaces: ClassVar[frozenset[str]] = frozenset({"folder"})

    def apply(self, new: Properties, seconds: float) -> dict[str, Any]:  # noqa: ARG002
        """Start the supervisor, which starts every process that the folder declares."""
        Supervisor(Path(new["folder"])).start()
        return {}

    def read(self, state: Properties) -> dict[str, Any]:
        """Gone when its folder is; without its supervisor, what is left waits for an update or a delete."""
        folder = Path(state["folder"])
        if not folder.is_dir():
            raise Gone
        return {**state, "running": Supervisor(folder).alive()}

    def delete(self, state: Properties) -> None:
        """End every process of the stack, give back its ports and delete its folder."""
        folder = Path(state["folder"])
        Supervisor(folder).stop()
        shutil.rmtree(folder, ignore_errors=True)
        ports.release(str(folder))
