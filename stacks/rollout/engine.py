"""Runs of the Pulumi engine on a stack.

A module of its own as the SDK takes most of a second to load, and most commands need a journal only.
"""

import re
import socket
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from pulumi import automation

from .errors import BusyError, RolloutError

_NO_CAUSE = ("update failed", "an unhandled error occurred: program exited")
"""Errors that only say that there were others."""


class _Quick(automation.Stack):
    """A stack whose runs end with the run: three more commands for a summary would cost seconds each."""

    def __init__(self, name: str, workspace: automation.Workspace) -> None:
        """Without selecting the stack, which would change what the user's own `pulumi` works on."""
        self.name, self.workspace = name, workspace

    def outputs(self) -> automation.OutputMap:
        return {}

    def info(self, show_secrets: bool | None = None) -> automation.UpdateSummary:  # noqa: ARG002
        return automation.UpdateSummary("update", "", {}, "", {}, "succeeded")  # type: ignore[arg-type]


class Engine:
    """What a rollout has the engine do."""

    def __init__(self, folder: Path, stack: str) -> None:
        """`folder`: the project's."""
        self._stack = _Quick(stack, automation.LocalWorkspace(work_dir=str(folder)))

    def deployment(self) -> Mapping[str, Any]:
        """The state of the stack.

        Raises:
            RolloutError: it cannot be read.
        """
        try:
            return dict(self._stack.export_stack().deployment or {})
        except automation.CommandError as error:
            raise RolloutError(f"stack {self._stack.name} cannot be read: {_said(error)}") from None

    def up(self, resources: Sequence[str], config: Path, why: str) -> None:
        """Bring about what another configuration says of some resources.

        Raises:
            BusyError: somebody else's run is under way.
            RolloutError: it could not be done.
        """
        try:
            self._stack.up(
                target=list(resources), config_file=str(config), message=why[:200], suppress_outputs=True
            )
        except automation.ConcurrentUpdateError as error:
            self._clear(str(error))
            raise BusyError(_said(error)) from None
        except automation.CommandError as error:
            raise RolloutError(f"the engine could not set the weights: {_said(error)}") from None

    def _clear(self, said: str) -> None:
        """Remove the lock of a run that was killed on this machine; that of a living one is kept."""
        holders = re.findall(r"created by \S+@(\S+) \(pid (\d+)\)", said)
        if holders and all(host == socket.gethostname() and not _is_pulumi(pid) for host, pid in holders):
            self._stack.cancel()


def _is_pulumi(pid: str) -> bool:
    try:
        return "pulumi" in Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return False


def _said(error: Exception) -> str:
    """What the engine said, without what the SDK adds."""
    text = str(error)
    _, _, diagnostics = text.partition("Diagnostics:\n")
    told: list[str] = []
    is_error = False
    for line in takewhile(lambda line: not line or line[0] == " ", diagnostics.splitlines()):
        words = line.strip()
        if words.startswith("error:"):
            is_error = not any(known in words for known in _NO_CAUSE)
        elif words.startswith("warning:") or words.endswith("):"):  # a resource, whose messages follow
            is_error = False
        if is_error and words:
            told.append(words)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = told or [line for line in lines if "error:" in line][-3:] or lines[-3:]
    return " ".join(found)[:600]
