"""Talking to the cluster, through its own kubectl."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from toolchain.cache import ToolError

from . import layout
from .commands import run


class Kubectl:
    """kubectl on one kubeconfig."""

    def __init__(self, binary: Path, kubeconfig: Path = layout.KUBECONFIG) -> None:
        """Use this program, and this cluster."""
        self.command = [str(binary), f"--kubeconfig={kubeconfig}"]

    def __call__(self, *arguments: str, given: str | None = None, seconds: float = 60) -> str:
        """Return what kubectl prints."""
        return run(*self.command, *arguments, given=given, seconds=seconds)

    def apply(self, *objects: dict[str, Any] | str) -> None:
        """Make objects as they should be; YAML text may hold several."""
        texts = [each if isinstance(each, str) else yaml.safe_dump(each) for each in objects]
        self(
            "apply",
            "--server-side",
            "--force-conflicts",
            "--field-manager=make-cluster",
            "--filename=-",
            given="\n---\n".join(texts),
        )

    def ready(self) -> bool:
        """Say whether the API server is ready for work."""
        try:
            return self("get", "--raw=/readyz", "--request-timeout=2s") == "ok"
        except ToolError:
            return False


def wait(what: str, holds: Callable[[], bool], seconds: float, why: Callable[[], str] = str) -> None:
    """Wait until something holds.

    Raises:
        ToolError: it does not within `seconds`; `why` tells the user what may be wrong.
    """
    deadline = time.monotonic() + seconds
    pause = 0.05
    while not holds():
        if time.monotonic() > deadline:
            told = why()
            raise ToolError(f"{what} after {seconds:g} s{': ' + told if told else ''}")
        time.sleep(pause)
        pause = min(pause * 1.5, 1)
