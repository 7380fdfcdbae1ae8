"""One `pulumi preview`, and what each of its processes used."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from toolchain.engine import apart

ROOT = Path(__file__).resolve().parents[2]
PROVIDER = Path(__file__).with_name("provider")
_PROJECT = "name: bench\nruntime: {name: python, options: {virtualenv: %s}}\n"
_PROGRAM = """\
import asyncio
import sys
from pathlib import Path

import pulumi

sys.path.insert(0, %r)
from benchmarks.kubernetes.programs import components, hand_written

async def main():
    %s
    await asyncio.sleep(0)  # as in stacks/__main__.py

pulumi.run(main)
"""


@dataclass(frozen=True)
class Used:
    """What a preview used."""

    seconds: float
    """From start to end, other work of the machine included."""
    program_cpu: float
    """CPU seconds of the program and its language host."""
    program_mib: float
    """The most memory of the program's largest process, in MiB."""
    engine_cpu: float
    """CPU seconds of the engine."""
    engine_mib: float
    """The most memory of the engine, in MiB."""
    objects: int
    """Objects that the provider was asked for."""
    digest: int
    """Adds up over what they hold."""


class Stack:
    """A stack of one program in a folder of its own."""

    def __init__(self, home: Path, name: str, call: str) -> None:
        """`call`: the call of the program, as Python."""
        self.folder = home / name
        self.folder.mkdir(parents=True)
        (self.folder / "Pulumi.yaml").write_text(_PROJECT % sys.prefix)
        (self.folder / "__main__.py").write_text(_PROGRAM % (str(ROOT), call))
        backend = self.folder / "backend"
        backend.mkdir()
        self.seen = self.folder / "seen.json"
        self.env: Mapping[str, str] = apart(self.folder, PROVIDER, lean=False) | {
            "PULUMI_BACKEND_URL": f"file://{backend}",
            "BENCH_PYTHON": sys.executable,
            "BENCH_SEEN": str(self.seen),
        }
        self._run("stack", "init", "bench").wait()

    def _run(self, *words: str) -> subprocess.Popen[bytes]:
        log = (self.folder / "log").open("ab")
        return subprocess.Popen(
            ["pulumi", "--non-interactive", *words],
            cwd=self.folder,
            env=dict(self.env),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )

    def preview(self) -> Used:
        """Preview the stack, which is empty.

        Raises:
            SystemExit: it failed; with the end of what it said.
        """
        begun = time.monotonic()
        process = self._run("preview", "--stack", "bench", "--json")
        cpu, memory = watched(process)
        if process.returncode:
            raise SystemExit((self.folder / "log").read_text()[-3000:])
        seen = json.loads(self.seen.read_text())
        return Used(
            seconds=time.monotonic() - begun,
            program_cpu=cpu["program"],
            program_mib=memory["program"],
            engine_cpu=cpu["engine"],
            engine_mib=memory["engine"],
            objects=seen["objects"],
            digest=seen["digest"],
        )


def watched(process: "subprocess.Popen[bytes]") -> tuple[dict[str, float], dict[str, float]]:
    """CPU seconds and largest memory in MiB, by part, of a command's processes until it ends."""
    cpu: dict[int, tuple[str, float]] = {}
    memory: dict[str, float] = {"engine": 0.0, "program": 0.0, "provider": 0.0}
    top = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            processes = [top, *top.children(recursive=True)]
        except psutil.Error:
            processes = []
        for one in processes:
            try:
                part = _part(one, process.pid)
                times = one.cpu_times()
                cpu[one.pid] = part, times.user + times.system
                memory[part] = max(memory[part], _peak(one.pid))
            except (psutil.Error, OSError):
                continue
        time.sleep(0.05)
    found = dict.fromkeys(memory, 0.0)
    for part, seconds in cpu.values():
        found[part] += seconds
    return found, memory


def _part(one: psutil.Process, engine_pid: int) -> str:
    if one.pid == engine_pid:
        return "engine"
    return "provider" if any(word.endswith("answers.py") for word in one.cmdline()) else "program"


def _peak(pid: int) -> float:
    """The most memory that a process has had, in MiB; as the kernel counts it, so that no peak is missed."""
    status = Path(f"/proc/{pid}/status").read_text()
    lines = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(lines[0].split()[1]) / 1024 if lines else 0.0  # one that has ended has none
