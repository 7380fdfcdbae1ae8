"""`python3 -m benchmarks.serving`: see README.md."""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.serving.environments import HERE, PROJECT, cache, enter, install, say, versions

RESULTS = HERE / "results"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.serving", description=__doc__)
    parser.add_argument("--peers", help="comma-separated names; default: all")
    parser.add_argument("--models", help="comma-separated: logistic, mlp, convnet; default: all")
    parser.add_argument("--rounds", type=int, help="default: 3, or 1 with --quick")
    parser.add_argument("--quick", action="store_true", help="one short round of the two small models")
    parser.add_argument(
        "--no-beside", action="store_true", help="leave out the slow model beside the fast one"
    )
    parser.add_argument("--minutes", type=float, default=40, help="begin nothing new after so long")
    parser.add_argument("--cores", default="0,1", help="the server's core, the load's core")
    parser.add_argument(
        "--source", type=Path, default=PROJECT / "serving_image", help="our server's source tree"
    )
    parser.add_argument(
        "--output", type=Path, default=RESULTS / "latest", help="without suffix: .md and .json"
    )
    return parser.parse_args()


def shown(options: argparse.Namespace) -> str:
    """The command as anybody can repeat it: choices of what is run, no paths of this machine."""
    choices = {"peers": options.peers, "models": options.models, "rounds": options.rounds}
    chosen = [f"--{name} {value}" for name, value in choices.items() if value]
    return " ".join(chosen + ["--quick"] * options.quick)


def main() -> int:
    options = arguments()
    options.output = options.output.absolute()
    options.source = options.source.absolute()
    enter("benchmarks.serving")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that `with` blocks end the servers
    from benchmarks.serving import load, models, peers, report
    from benchmarks.serving.rounds import Rounds

    known = peers.discover()
    chosen = {n: known[n] for n in (options.peers.split(",") if options.peers else known)}
    pythons, ran, absent = {}, {}, {}
    for name, peer in chosen.items():
        if peer.kind == "ours":
            peer.package = options.source
        if peer.package and not (peer.package / "pyproject.toml").is_file():
            absent[name] = "not installed: its source tree is not there"
            continue
        try:
            pythons[name] = install(peer.home.name, peer.home / "requirements.txt", peer.package)
            ran[name] = versions(pythons[name], peer.reports)
        except subprocess.CalledProcessError as fault:
            absent[name] = f"not installed: pip ended with {fault.returncode}"
    for name, reason in absent.items():
        say(f"{name}: {reason}")
    load.build()
    made = models.make(cache() / "models")
    names = (
        options.models.split(",")
        if options.models
        else (["logistic", "mlp"] if options.quick else list(made))
    )
    server_core, load_core = (int(core) for core in options.cores.split(","))
    os.sched_setaffinity(0, {load_core})
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sb-") as work:
        rounds = Rounds(
            server_core=server_core,
            load_core=load_core,
            work=Path(work),
            pythons=pythons,
            models=made,
            peers={n: p for n, p in chosen.items() if n not in absent},
            names=names,
            quick=options.quick,
        )
        rounds.run(
            options.rounds or (1 if options.quick else 3),
            with_beside=not options.no_beside,
            minutes=options.minutes,
        )
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python3 -m benchmarks.serving " + shown(options),
        "minutes": round((time.monotonic() - started) / 60, 1),
        "machine": report.machine(),
        "versions": ran,
        "labels": {n: [p.kind, p.label] for n, p in chosen.items()},
        "models": names,
        "forms": {n: list(p.forms()) for n, p in chosen.items()},
        "forms_lacking": {n: {f: p.lacks(f) for f in ("binary", "grpc")} for n, p in chosen.items()},
        "absent": absent,
        "reasons": rounds.reasons,
        "records": [vars(record) for record in rounds.records],
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    text = report.markdown(result)
    options.output.with_suffix(".md").write_text(text)
    print(text)
    return 1 if any("wrong and" in reason for reason in rounds.reasons.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
