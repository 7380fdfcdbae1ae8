"""`python3 -m benchmarks.serving.soak`: our server at 70 % of its load for half an hour, with reloads.

Passes when no request failed, no answer was wrong and memory is flat. `--settings` appends a YAML file
to the server's settings: that is how the response cache and drift capture are switched on, and `--churn`
sends so many different requests that a bounded cache must evict.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.serving.environments import HERE, PROJECT, cache, enter, install, say

if TYPE_CHECKING:
    from benchmarks.serving.measure import Session
    from benchmarks.serving.models import Model

SLICE_SECONDS = 10
WARM_UP = 0.2
"""The first share of the samples is not judged: allocators and caches fill."""
GROWTH_LIMIT, GROWTH_FLOOR_MB = 0.03, 5
"""Of the memory over the judged part, but never less than the floor: a reload holds two versions for a
moment. Two minutes at 10,000 requests a second pass the floor with a leak of eight bytes a request."""


@dataclass
class Soak:
    samples: list[tuple[float, float]] = field(default_factory=list)
    """Seconds since the start, megabytes."""
    right: int = 0
    wrong: int = 0
    failed: int = 0
    fault: str = ""
    reloads: int = 0
    reload_fault: str = ""
    p99_us: list[float] = field(default_factory=list)

    def judged(self) -> list[tuple[float, float]]:
        return self.samples[int(len(self.samples) * WARM_UP) :]

    def growth(self) -> float:
        """Megabytes between the least memory of the first and of the last third of the judged samples.

        Requests that wait out a stall of the machine take tens of megabytes for minutes and give them back;
        what leaks is never given back, so it lifts the least as well.
        """
        sizes = [size for _, size in self.judged()]
        third = len(sizes) // 3
        return min(sizes[-third:]) - min(sizes[:third]) if third else 0.0

    def faults(self) -> list[str]:
        found = []
        if self.wrong or self.failed:
            found.append(f"{self.wrong} wrong and {self.failed} failed answers: {self.fault}")
        middle = sorted(size for _, size in self.judged())[len(self.judged()) // 2]
        if self.growth() > max(GROWTH_LIMIT * middle, GROWTH_FLOOR_MB):
            found.append(f"memory rose by {self.growth():.1f} MB of {middle:.0f} MB")
        if self.reload_fault:
            found.append(f"reload: {self.reload_fault}")
        return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.serving.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--share", type=float, default=0.7, help="of the measured saturation")
    parser.add_argument("--no-reloads", action="store_true")
    parser.add_argument("--churn", type=int, default=0, metavar="N", help="so many different requests")
    parser.add_argument("--settings", type=Path, help="YAML that is appended to the server's settings")
    parser.add_argument("--cores", default="0,1", help="the server's core, the load's core")
    parser.add_argument(
        "--source", type=Path, default=PROJECT / "serving_image", help="our server's source tree"
    )
    parser.add_argument("--output", type=Path, default=HERE / "results" / "soak", help="without suffix")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    for name in ("source", "output", "settings"):
        if path := getattr(options, name):
            setattr(options, name, path.absolute())
    enter("benchmarks.serving.soak")
    from benchmarks.serving import models, report
    from benchmarks.serving.measure import Bench, running
    from benchmarks.serving.peers.ours import Ours

    ours = Ours(extra=options.settings.read_text() if options.settings else "")
    ours.package = options.source
    python = install("ours", ours.home / "requirements.txt", ours.package)
    made = models.make(cache() / "models")
    model = replace(made["logistic"], inputs=options.churn) if options.churn else made["logistic"]
    server_core, load_core = (int(core) for core in options.cores.split(","))
    os.sched_setaffinity(0, {load_core})
    soak = Soak()
    with tempfile.TemporaryDirectory(prefix="sb-") as work:
        bench = Bench(server_core, load_core, Path(work), {ours.name: python}, made)
        with running(bench, ours, (model, made["mlp"])) as session:
            session.check("json", model)
            saturated = session.send("json", model, 4).report().rate
            rate = options.share * saturated
            say(f"{saturated:,.0f} requests/s saturate it: {rate:,.0f}/s for {options.minutes:g} minutes")
            started = time.monotonic()
            while (spent := time.monotonic() - started) < 60 * options.minutes:
                one_slice(session, model, rate, soak, reloads=not options.no_reloads)
                soak.samples.append((spent, session.server.memory_mb()))
                memory, p99 = soak.samples[-1][1], soak.p99_us[-1] / 1000
                say(f"[{spent / 60:4.1f} min] {memory:.1f} MB, p99 {p99:.2f} ms")
    faults = soak.faults()
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": report.machine(),
        "minutes": options.minutes,
        "rate": round(rate),
        "growth_mb": round(soak.growth(), 2),
        "faults": faults,
        **vars(soak),
    }
    options.output.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    say(f"{soak.right:,} right answers, {soak.reloads} reloads, growth {soak.growth():+.2f} MB")
    for fault in faults:
        say(f"FAIL {fault}")
    return 1 if faults else 0


def one_slice(session: Session, model: Model, rate: float, soak: Soak, *, reloads: bool) -> None:
    """Ten seconds of load with a reload of each model in the middle of it."""
    running = session.send("json", model, SLICE_SECONDS, rate=rate)
    try:
        time.sleep(SLICE_SECONDS / 3)
        if reloads and not soak.reload_fault:
            reload_all(session, soak)
        report = running.report()
    finally:
        running.close()
    soak.right += report.right
    soak.wrong += report.wrong
    soak.failed += report.failed
    soak.fault = soak.fault or report.sample
    soak.p99_us.append(report.p99_us)


def reload_all(session: Session, soak: Soak) -> None:
    from benchmarks.serving.forms import post
    from benchmarks.serving.measure import ask

    for name in ("logistic", "mlp"):
        status, body = ask(session.port, post(f"/v2/repository/models/{name}/load", b"{}"))
        if status != 200:
            soak.reload_fault = f"status {status}: {body[:200].decode(errors='replace')}"
            return
        soak.reloads += 1


if __name__ == "__main__":
    sys.exit(main())
