"""Runs of pulumi that are killed."""

import os
import signal
import time
from contextlib import suppress

from tests.engine.local.stack import LocalStack

SEED = 20261122
"""Of the moments at which they are killed."""


def killed(stack: LocalStack, *arguments: str, after: float, group: bool) -> None:
    """Kill a run `after` so many seconds, alone or with its process group, and break the lock it leaves."""
    run = stack.start(*arguments)
    time.sleep(after)  # a moment is what is tested
    finished = run.poll() is not None
    if group:
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
    else:
        run.kill()
    run.wait()
    how = "finished" if finished else "killed"
    print(f"\n[kill] {arguments[0]} {how} after {after:.1f} s, {'its group' if group else 'it alone'}")
    stack.run("cancel", "--yes")
