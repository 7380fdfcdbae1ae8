"""`estate rollout` on a stack of any platform, as a person runs it."""

import json
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.engine.local.stack import NAME
from tests.engine.local.tiny import ENDPOINT

GOLDEN = [
    {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [2, 4, 6]}],
    }
]


class Driven(ABC):
    """A stack, and `estate rollout` on its endpoint."""

    def __init__(self, stack: Any) -> None:
        """`stack`: with a folder that commands run in, and a home for what they say."""
        self.stack = stack
        self.begun: list[subprocess.Popen[bytes]] = []
        (stack.folder / "golden.json").write_text(json.dumps(GOLDEN))

    @abstractmethod
    def records(self) -> list[dict[str, Any]]:
        """The journal of the last rollout."""

    def command(self, *arguments: str) -> list[str]:
        program = str(Path(sys.prefix) / "bin" / "estate")
        return [program, "rollout", arguments[0], ENDPOINT, "--stack", NAME, *arguments[1:]]

    def run(self, *arguments: str, code: int = 0, env: Mapping[str, str] | None = None) -> str:
        """Run `estate rollout` to its end."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.stack.folder,
            env=env or self.stack.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=560,
        )
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        assert "Traceback" not in said
        return said

    def begin(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Begin `estate rollout`, in a process group of its own."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                self.command(*arguments),
                cwd=self.stack.folder,
                env=self.stack.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        self.begun.append(process)
        return process

    def start(self, candidate: str, until: str, **fields: Any) -> "subprocess.Popen[bytes]":
        """Begin a rollout, and wait until it has a record `until` with these fields."""
        before = self.records()[:1]
        process = self.begin("start", "--to", candidate)

        def seen() -> bool:
            records = self.records()
            return records[:1] != before and any(
                record["event"] == until and fields.items() <= record.items() for record in records
            )

        self.wait_for(seen, f"a record `{until}` of the rollout to {candidate}")
        return process

    def end(self) -> None:
        """Kill the drivers that a test has left."""
        for process in self.begun:
            if process.poll() is None:
                kill(process, group=True)
        self.begun.clear()

    def record(self, event: str) -> dict[str, Any]:
        """The last record of an event."""
        return [record for record in self.records() if record["event"] == event][-1]

    def weights(self) -> dict[str, int]:
        """What the stack says, without those that have none."""
        variants = self.stack.outputs()["endpoints"][ENDPOINT]["variants"]
        return {name: one["weight"] for name, one in variants.items() if one["weight"]}

    def wait_for(self, true: Callable[[], Any], what: str, seconds: float = 300) -> Any:
        """Wait for something; what the drivers said is shown where it does not come."""
        deadline = time.monotonic() + seconds
        while not (value := true()):
            said = self._log.read_text() if self._log.exists() else ""
            assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s\n{said}"
            time.sleep(0.1)
        return value

    @property
    def _log(self) -> Path:
        return Path(self.stack.home) / "estate.log"


def last_of(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records of the last rollout in a journal."""
    begun = [index for index, record in enumerate(records) if record["event"] == "started"]
    return records[begun[-1] :] if begun else []


def kill(process: "subprocess.Popen[bytes]", group: bool) -> None:
    """SIGKILL for a driver: alone, so that a run of the engine which it began goes on, or with its group."""
    if group:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
