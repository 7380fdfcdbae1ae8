"""What the estate costs on top of Pulumi: `pulumi up` of the local stack beside an empty program.

    python -m benchmarks.engine [--rounds N]

Brings the local stack up in folders of its own, then runs three commands in turn, round after round: an
up of an empty program, an up of the estate that changes nothing, and one that moves weights. Writes
benchmarks/results/engine.md.
"""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import date
from pathlib import Path

from toolchain.engine import apart

ROOT = Path(__file__).resolve().parent.parent
RESULT = Path(__file__).with_name("results") / "engine.md"

EMPTY = """name: empty
runtime: {name: python, options: {virtualenv: %s}}
"""


def environment(home: Path) -> dict[str, str]:
    """Everything that Pulumi and the estate keep goes below `home`."""
    return apart(home, lean=False) | {
        "PULUMI_BACKEND_URL": f"file://{home}/backend",
        "XDG_STATE_HOME": str(home / "state"),
    }


def pulumi(folder: Path, env: Mapping[str, str], *arguments: str) -> float:
    """Run a pulumi command; its seconds."""
    begun = time.monotonic()
    subprocess.run(
        ["pulumi", "--non-interactive", "-C", str(folder), *arguments],
        env=dict(env),
        check=True,
        stdout=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    return time.monotonic() - begun


def copy_of_project(home: Path) -> Path:
    """The project in a folder of its own, so that its stacks are nobody else's."""
    project = home / "project"
    for name in ("components", "stacks"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Pulumi.yaml", project)
    (project / ".venv").symlink_to(sys.prefix)
    return project


def weights(config: Path, blue: int) -> None:
    """Write the stack file of the local stack with other weights."""
    text = (ROOT / "stacks" / "Pulumi.local.yaml").read_text()
    config.write_text(text.replace("{blue: 90, green: 10}", f"{{blue: {blue}, green: {100 - blue}}}"))


def main() -> None:
    """Measure, and write the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=7)
    rounds = arguments.parse_args().rounds
    home = Path(tempfile.mkdtemp(prefix="estate-bench-"))
    env, project = environment(home), copy_of_project(home)
    config = project / "stacks" / "Pulumi.bench.yaml"
    (home / "backend").mkdir()
    (home / "empty").mkdir()
    (home / "empty" / "Pulumi.yaml").write_text(EMPTY % sys.prefix)
    (home / "empty" / "__main__.py").write_text('"""Nothing."""\n')
    weights(config, 100)
    estate = ("--stack", "bench")
    seconds: dict[str, list[float]] = {"an empty program": [], "no change": [], "weights moved": []}
    try:
        pulumi(home / "empty", env, "stack", "init", "bench")
        pulumi(project, env, "stack", "init", "bench")
        first = pulumi(project, env, "up", "--yes", *estate)
        for number in range(rounds):
            seconds["an empty program"].append(pulumi(home / "empty", env, "up", "--yes", "--stack", "bench"))
            seconds["no change"].append(pulumi(project, env, "up", "--yes", *estate))
            weights(config, number % 2 * 100)
            seconds["weights moved"].append(pulumi(project, env, "up", "--yes", *estate))
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
        pulumi(project, env, "destroy", "--yes", *estate)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(table(first, seconds, rounds))
    print(RESULT.read_text())


def table(first: float, seconds: Mapping[str, list[float]], rounds: int) -> str:
    """The results as Markdown: medians of the rounds and their ratio to the empty program."""
    base = statistics.median(seconds["an empty program"])
    rows = [
        f"| {name} | {statistics.median(values):.2f} | {min(values):.2f} to {max(values):.2f} "
        f"| {statistics.median(values) / base:.2f} |"
        for name, values in seconds.items()
    ]
    host = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return "\n".join(
        [
            "# `pulumi up` of the local stack beside an empty program",
            "",
            f"`python -m benchmarks.engine --rounds {rounds}`",
            f"on {date.today().isoformat()}; {os.cpu_count()} cores, {host}.",
            "Whole processes, in turn in each round. 22 resources; the first `up`, with training and",
            f"registration of four models, took {first:.0f} s.",
            "",
            "| `pulumi up` of | median, s | range, s | ratio to the empty program |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    main()
