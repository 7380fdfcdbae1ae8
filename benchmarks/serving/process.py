"""A server under test: started on its core, watched through /proc, stopped with all that it started."""

import contextlib
import os
import signal
import subprocess
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")
MARK = "SERVING_BENCH_RUN"


def free_mark() -> str:
    return uuid.uuid4().hex


@dataclass
class Server:
    """Children are found by a mark in their environment, also daemons that left the process group."""

    argv: list[str]
    environment: dict[str, str]
    folder: Path
    core: int
    mark: str = field(default_factory=free_mark)

    def __enter__(self) -> "Server":
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / "server.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["taskset", "-c", str(self.core), *self.argv],
                env={**os.environ, **self.environment, MARK: self.mark},
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        deadline = time.monotonic() + 5
        while (left := self.pids()) and time.monotonic() < deadline:
            self.process.poll()
            time.sleep(0.05)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def alive(self) -> bool:
        return self.process.poll() is None

    def tail(self, lines: int = 5) -> str:
        return " | ".join(self.log.read_text(errors="replace").splitlines()[-lines:])[-600:]

    def pids(self) -> list[int]:
        """Every process of this server, leaving out those that ended and wait to be reaped."""
        needle = f"{MARK}={self.mark}".encode()
        found = []
        for entry in PROC.iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if needle in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
        return found

    def cpu_seconds(self) -> float:
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
                total += int(fields[11]) + int(fields[12])
        return total / TICK

    def memory_mb(self) -> float:
        """Proportional set size: what children share with their parent counts once."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1])
        return total / 1024


def busy_seconds(core: int) -> float:
    """All that ran on a core, by whomever. What the server did not use of it was taken by others."""
    for line in (PROC / "stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            user, nice, system, _idle, _wait, irq, soft, steal, *_ = map(int, line.split()[1:])
            return (user + nice + system + irq + soft + steal) / TICK
    raise ValueError(f"no core {core} in /proc/stat")
