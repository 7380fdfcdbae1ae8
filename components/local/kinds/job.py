"""A program that is run to its end once, and again when its inputs change."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from ...provider.kind import Cancelled, Kind, Properties
from ..machine.files import tail
from ..machine.supervisor import Program, Supervisor

_LIMIT_SECONDS = 900


class Job(Kind):
    """Run under the supervisor, so that a killed `pulumi up` finds it again and starts no second one."""

    def apply(self, new: Properties, seconds: float) -> dict[str, Any]:
        """Run it, or join the run that is under way, and wait for its end."""
        folder = Path(new["host"])
        supervisor = Supervisor(folder)
        supervisor.start()
        digest = hashlib.sha256(json.dumps(dict(new), sort_keys=True).encode()).hexdigest()[:10]
        program = Program(
            name=f"{new['name']}.job.{digest}",
            command=new["command"],
            env=new["env"],
            directory=Path(new["directory"]),
            log=folder / "logs" / f"{new['name']}.log",
            keep_running=False,
            has_children=True,
        )
        supervisor.run(program)
        try:
            self._wait(supervisor, program, seconds or _LIMIT_SECONDS)
        finally:
            supervisor.remove([program.name])
        return {}

    def _wait(self, supervisor: Supervisor, program: Program, seconds: float) -> None:
        command, deadline = " ".join(program.command), time.monotonic() + seconds
        while True:
            status = supervisor.status(program.name)
            if status is None:
                raise RuntimeError(
                    f"`{command}` was ended from outside; `pulumi refresh`, then `pulumi up`, runs it again"
                )
            if status.started and not status.running:
                if status.state == "EXITED" and status.exit_code == 0:
                    return
                raise RuntimeError(
                    f"`{command}` exited with code {status.exit_code}; the last lines of its log "
                    f"{program.log}:\n{tail(program.log)}"
                )
            if self.cancelled.is_set():
                raise Cancelled
            if time.monotonic() > deadline:
                raise RuntimeError(f"`{command}` took longer than {seconds:g} s; its log is {program.log}")
            time.sleep(0.05)

    def read(self, state: Properties) -> dict[str, Any]:
        """What has been run has been run."""
        return dict(state)

    def delete(self, state: Properties) -> None:
        """What it made belongs to others."""
