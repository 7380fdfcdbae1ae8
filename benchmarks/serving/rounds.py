"""Everybody in turn, round after round, so that a noisy minute hits no one server alone."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.serving import plan as plans
from benchmarks.serving.environments import PROJECT, cache, say
from benchmarks.serving.measure import Bench, Record, RefusedError
from benchmarks.serving.models import Model
from benchmarks.serving.peers import Peer


@dataclass
class Rounds:
    server_core: int
    load_core: int
    work: Path
    pythons: dict[str, Path]
    models: dict[str, Model]
    peers: dict[str, Peer]
    names: list[str]
    quick: bool
    records: list[Record] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    """By `peer/model`: why there are no figures."""
    deadline: float = 0

    def run(self, count: int, *, with_beside: bool, minutes: float) -> None:
        plan = plans.QUICK if self.quick else plans.FULL
        bench = Bench(self.server_core, self.load_core, self.work, self.pythons, self.models)
        say(f"{count} rounds of {len(self.peers)} servers and {len(self.names)} models")
        started = time.monotonic()
        self.deadline = started + 60 * minutes
        for turn in range(1, count + 1):
            for name in self.names:
                half = plans.best_peer_rate(self.records, self.peers, name) / 2
                self.alone(name, turn)
                for peer in self.order(turn):
                    visit = partial(plans.visit, bench, plan, peer, self.models[name], turn, half)
                    self.attempt(f"{peer.name}/{name}", visit, started, turn)
            if with_beside and turn == 1:
                fast, slow = self.models["logistic"], self.models["convnet"]
                for peer in self.order(turn):
                    if peer.kind != "limit":
                        visit = partial(plans.beside, bench, plan, peer, fast, slow, turn)
                        self.attempt(f"{peer.name}/beside", visit, started, turn)

    def order(self, turn: int) -> list[Peer]:
        """Another server begins in every round."""
        listed = list(self.peers.values())
        shift = (turn - 1) * max(1, len(listed) // 3) % len(listed)
        return listed[shift:] + listed[:shift]

    def attempt(self, key: str, visit: Callable[[], list[Record]], started: float, turn: int) -> None:
        if time.monotonic() > self.deadline:
            self.reasons.setdefault(key, "no time was left in this run (--minutes)")
        if key in self.reasons:
            return
        minutes = (time.monotonic() - started) / 60
        try:
            got = visit()
        except (RefusedError, RuntimeError, subprocess.TimeoutExpired) as fault:
            self.reasons[key] = str(fault)
            say(f"[{minutes:4.1f} min] round {turn} {key}: {fault}")
            return
        self.records += got
        rates = {r.what: r.value for r in got if r.what.endswith((".rate", "at_200.p99_us", "beside.ratio"))}
        told = ", ".join(f"{what} {value:,.1f}" for what, value in rates.items())
        say(f"[{minutes:4.1f} min] round {turn} {key}: {told}")

    def alone(self, name: str, turn: int) -> None:
        seconds = "0.7" if self.quick else "1.5"
        command = ["taskset", "-c", str(self.server_core), sys.executable, "-m", "benchmarks.serving.alone"]
        command += [str(cache() / "models"), seconds, name]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=PROJECT)
        for what, value in json.loads(done.stdout)[name].items():
            self.records.append(Record("onnxruntime", name, what, value, turn))
