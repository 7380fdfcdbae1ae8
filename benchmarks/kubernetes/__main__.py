"""What the components cost beside hand-written objects: `python -m benchmarks.kubernetes [SIZES…]`.

Both programs ask for the same objects (their digests are compared), in `pulumi preview` with the real engine
and a provider that answers at once. The hand-written one takes the manifests that the components make and
declares each with the class that `pulumi_kubernetes` has for it. CPU seconds count: they depend less
on what else the machine does than the clock does.
"""

import argparse
import os
import platform
import shutil
import sys
import tempfile
from datetime import date
from pathlib import Path

from . import manifests
from .preview import Stack, Used

RESULT = Path(__file__).parent / "results" / "latest.md"
SIZES = (10, 100, 1000)
ROUNDS = {10: 3, 100: 3, 1000: 1}


def measured(size: int, home: Path, rounds: int) -> tuple[Used, Used]:
    """The best preview of each program: what others do on the machine only adds.

    Raises:
        SystemExit: they did not ask for the same objects.
    """
    file = home / f"{size}.json"
    manifests.write(size, file)
    stacks = [
        Stack(home, f"components-{size}", f"components({size})"),
        Stack(home, f"hand-written-{size}", f"hand_written(Path({str(file)!r}))"),
    ]
    best: list[Used] = []
    for _ in range(rounds):
        runs = [stack.preview() for stack in stacks]
        if runs[0].digest != runs[1].digest:
            raise SystemExit(f"not the same objects: {runs[0]} and {runs[1]}")
        best = [min(pair, key=cost) for pair in zip(best, runs, strict=True)] if best else runs
        print(f"{size} endpoints: {runs[0]} {runs[1]}", file=sys.stderr, flush=True)
    return best[0], best[1]


def cost(used: Used) -> float:
    """CPU seconds of program and engine."""
    return used.program_cpu + used.engine_cpu


def row(size: int, ours: Used, theirs: Used) -> str:
    """A line of the table."""
    cells = [str(size), str(ours.objects)]
    for used in (ours, theirs):
        cells += [f"{used.program_cpu:.1f} + {used.engine_cpu:.1f}"]
        cells += [f"{used.program_mib:.0f} + {used.engine_mib:.0f}"]
    cells.append(f"{cost(ours) / cost(theirs):.2f}")
    memory = (ours.program_mib + ours.engine_mib) / (theirs.program_mib + theirs.engine_mib)
    cells.append(f"{memory:.2f}")
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Measure all sizes and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, default=SIZES)
    sizes = parser.parse_args().sizes
    home = Path(tempfile.mkdtemp(prefix="estate-bench-"))
    rows = []
    try:
        for size in sizes:
            rows.append(row(size, *measured(size, home, ROUNDS.get(size, 1))))
            print(rows[-1], flush=True)
            shutil.rmtree(home / f"components-{size}")
            shutil.rmtree(home / f"hand-written-{size}")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    host = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text("\n".join([*HEAD, f"{date.today().isoformat()}; {host}.", "", *COLUMNS, *rows, ""]))
    return 0


HEAD = (
    "# The components beside hand-written objects",
    "",
    "`python -m benchmarks.kubernetes`: a `pulumi preview` of an empty stack, with the real engine and a "
    "provider",
    "that answers at once. Each cell: program (language host included) + engine.",
)
COLUMNS = (
    "| endpoints | objects | components: CPU s | MiB | by hand: CPU s | MiB | CPU, ratio | memory, ratio |",
    "|---|---|---|---|---|---|---|---|",
)

if __name__ == "__main__":
    sys.exit(main())
