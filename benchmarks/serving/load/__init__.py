"""The load generator: compiled where it is missing, run, and its report read."""

import hashlib
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.environments import cache, install, say

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Report:
    right: int
    wrong: int
    failed: int
    reconnects: int
    seconds: float
    rate: float
    p50_us: float
    p90_us: float
    p99_us: float
    p999_us: float
    max_us: float
    late_max_us: float
    load_cpu: float
    sample: str

    @property
    def clean(self) -> bool:
        return not self.wrong and not self.failed and self.right > 0

    def fault(self) -> str:
        return f"{self.wrong} wrong and {self.failed} failed beside {self.right} right answers: {self.sample}"


def build() -> Path:
    """Compile with the machine's compiler; where there is none, with the one in the wheel `ziglang`."""
    source = HERE / "load.c"
    binary = cache() / f"load-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}"
    if not binary.is_file():
        say("compiling the load generator")
        binary.parent.mkdir(parents=True, exist_ok=True)
        compiler = (
            [path] if (path := shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")) else None
        )
        if compiler is None:
            compiler = [str(install("compiler", HERE / "requirements.txt")), "-m", "ziglang", "cc"]
        subprocess.run([*compiler, "-O2", "-o", binary, source, "-lm"], check=True)
    return binary


@dataclass
class Running:
    process: subprocess.Popen[str]
    patience: float

    def report(self) -> Report:
        out, err = self.process.communicate(timeout=self.patience)
        if self.process.returncode:
            raise RuntimeError(err.strip() or f"the load generator ended with {self.process.returncode}")
        return Report(**json.loads(out))

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def start(
    core: int,
    port: int,
    corpus: Path,
    connections: int,
    seconds: float,
    rate: float = 0,
    limit: int = 0,
) -> Running:
    command = ["taskset", "-c", str(core), str(build()), "--port", str(port), "--corpus", str(corpus)]
    command += ["--connections", str(connections), "--seconds", str(seconds)]
    command += ["--rate", str(rate), "--limit", str(limit)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return Running(process, seconds + 40)
