"""One stack with a good version beside several bad ones; each test begins with all requests at `blue`."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.local.load import Load, Request
from tests.engine.local.stack import NAME, LocalStack
from tests.engine.local.tiny import ENDPOINT, request
from tests.engine.rollout import faults

ROLLOUT: dict[str, Any] = {
    "steps": [{"percent": 25}, {"percent": 100}],
    "min_samples": 100,
    "max_time_s": 900,
    "analysis": {
        "errors": {"max_increase": 0.5},
        # Of a machine that does other things as well.
        "latency": {"quantile": 0.9, "max_ratio": 3.0, "slack_ms": 150},
        "golden": "golden.json",
    },
}

GOLDEN = [
    {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [2, 4, 6]}],
    }
]


class Estate:
    """A stack, and `estate rollout` on it."""

    def __init__(
        self, versions: Callable[[Path], dict[str, str]] | None = None, endpoint: dict[str, Any] | None = None
    ) -> None:
        """`versions`: makes the models of the variants in a folder; `endpoint`: fields of its block."""
        self.endpoint = endpoint or {}
        self.begun: list[subprocess.Popen[bytes]] = []
        self.stack = LocalStack().init()
        self.models = (versions or _versions)(self.stack.home / "models")
        (self.stack.folder / "golden.json").write_text(json.dumps(GOLDEN))

    def configure(self, *variants: str, endpoint: dict[str, Any] | None = None, **rollout: Any) -> None:
        """Write the stack file; `endpoint`: fields of the endpoint beside the usual ones."""
        block = {
            **self.endpoint,
            **(endpoint or {}),
            "variants": {name: {"model": self.models[name]} for name in variants or self.models},
            "traffic": {"blue": 100},
            "rollout": {**ROLLOUT, **rollout},
        }
        self.stack.configure(endpoints={ENDPOINT: block})

    def command(self, *arguments: str) -> list[str]:
        program = str(Path(sys.prefix) / "bin" / "estate")
        return [program, "rollout", arguments[0], ENDPOINT, "--stack", NAME, *arguments[1:]]

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run `estate rollout` to its end."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.stack.folder,
            env=self.stack.env,
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
        with (self.stack.home / "estate.log").open("ab") as log:
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
        before = self.journal()[:1]
        process = self.begin("start", "--to", candidate)

        def seen() -> bool:
            records = self.journal()
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

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.run("status", "--json")))

    def journal(self) -> list[dict[str, Any]]:
        """The records of the last rollout."""
        files = list((self.stack.state / "serving-estate" / "rollouts").glob("*/*/journal.jsonl"))
        if not files:
            return []
        lines = files[0].read_text().splitlines(keepends=True)
        records = [json.loads(line) for line in lines if line.endswith("\n")]
        begun = [index for index, record in enumerate(records) if record["event"] == "started"]
        return records[begun[-1] :] if begun else []

    def record(self, event: str) -> dict[str, Any]:
        """The last record of an event."""
        return [record for record in self.journal() if record["event"] == event][-1]

    def weights(self) -> dict[str, int]:
        variants = self.stack.outputs()["endpoints"][ENDPOINT]["variants"]
        return {name: one["weight"] for name, one in variants.items() if one["weight"]}

    def load(self, make: Callable[[], Request] = request) -> Load:
        return Load(self.stack.url(ENDPOINT), make, kept=6, new=2, pause=0.025)

    def wait_for(self, true: Callable[[], Any], what: str, seconds: float = 300) -> Any:
        """Wait for something; what the drivers said is shown where it does not come."""
        deadline = time.monotonic() + seconds
        while not (value := true()):
            log = self.stack.home / "estate.log"
            assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s\n{log.read_text()}"
            time.sleep(0.05)
        return value


def _versions(models: Path) -> dict[str, str]:
    return {
        "blue": faults.times(models, 2),
        "good": faults.times(models / "again", 2),
        "wrong": faults.times(models, 3),
        "slow": faults.slow(models, 3000),
        "failing": faults.failing(models, 981),  # requests have numbers up to 1000
    }


def kill(process: "subprocess.Popen[bytes]", group: bool) -> None:
    """SIGKILL for a driver: alone, so that a run of the engine which it began goes on, or with its group."""
    if group:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


@pytest.fixture(scope="session")
def estate_session() -> Iterator[Estate]:
    """The stack with all versions."""
    estate = Estate()
    try:
        estate.configure()
        estate.stack.up()
        yield estate
    finally:
        estate.end()
        estate.stack.remove()


@pytest.fixture
def estate(estate_session: Estate) -> Iterator[Estate]:
    """The stack as each test finds it: `blue` has all requests, and no rollout is under way."""
    if estate_session.journal() and estate_session.journal()[-1]["event"] != "finished":
        estate_session.run("abort")
    if estate_session.weights() != {"blue": 100}:
        estate_session.configure(weights={"blue": 100})
        estate_session.stack.up()
    estate_session.configure()
    yield estate_session
    estate_session.end()
