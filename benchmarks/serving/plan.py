"""What a round does with each server, and the numbers that come out."""

import math
from dataclasses import dataclass
from statistics import median

from benchmarks.serving.measure import Bench, Record, RefusedError, Session, details, running
from benchmarks.serving.models import Model
from benchmarks.serving.peers import Peer

FIXED_RATE = 200


@dataclass(frozen=True)
class Plan:
    seconds: float
    slow_seconds: float
    latency_seconds: float

    def throughput(self, model: Model) -> float:
        return self.slow_seconds if model.slow else self.seconds


FULL = Plan(seconds=2.5, slow_seconds=4, latency_seconds=4)
QUICK = Plan(seconds=1.5, slow_seconds=2, latency_seconds=2)


def visit(bench: Bench, plan: Plan, peer: Peer, model: Model, turn: int, half_rate: float) -> list[Record]:
    """One server with one model: check the answers, then throughput, then latency."""
    records: list[Record] = []

    def note(what: str, value: float, **detail: object) -> None:
        records.append(Record(peer.name, model.name, what, value, turn, detail))

    with running(bench, peer, (model,)) as session:
        note("start_s", session.start_seconds)
        for form in peer.forms():
            if form == "grpc" and model.slow:
                continue
            try:
                alone = session.check(form, model)
                report, cpu_us, others = session.window(form, model, plan.throughput(model))
            except (RefusedError, RuntimeError) as fault:
                if form == "json":
                    raise
                note(f"{form}.rate", math.nan, reason=f"{form}: {fault}")
                continue
            note(f"{form}.lone_p50_us", alone.p50_us)
            note(f"{form}.rate", report.rate, **details(report, others))
            note(f"{form}.cpu_us", cpu_us)
        note("memory_mb", session.server.memory_mb())
        if not model.slow:
            open_loop(session, plan, model, "at_200", FIXED_RATE, records, turn)
        if half_rate:
            open_loop(session, plan, model, "at_half", half_rate, records, turn)
    return records


def open_loop(
    session: Session,
    plan: Plan,
    model: Model,
    what: str,
    rate: float,
    records: list[Record],
    turn: int,
) -> None:
    """Latency at a rate that the server does not set. One that cannot keep up says so instead of a number."""
    form = "json"
    seconds = plan.latency_seconds * (2 if model.slow else 1)
    saturated = max((r.value for r in records if r.what == f"{form}.rate"), default=0)
    if saturated < rate * 1.02:
        detail: dict[str, object] = {"reason": f"saturates at {saturated:,.0f}/s, asked for {rate:,.0f}/s"}
        records.append(Record(session.peer.name, model.name, f"{form}.{what}.p99_us", math.nan, turn, detail))
        return
    report, cpu_us, others = session.window(form, model, seconds, rate=rate)
    for name, value in (("p50_us", report.p50_us), ("p99_us", report.p99_us), ("cpu_us", cpu_us)):
        detail = details(report, others) | {"asked": rate}
        records.append(Record(session.peer.name, model.name, f"{form}.{what}.{name}", value, turn, detail))


def beside(bench: Bench, plan: Plan, peer: Peer, fast: Model, slow: Model, turn: int) -> list[Record]:
    """The fast model's p99 at a fixed rate, alone and while a slow model beside it works."""
    if not peer.several:
        raise RefusedError("serves one model a process")
    with running(bench, peer, (fast, slow)) as session:
        session.check("json", fast)
        alone, _, _ = session.window("json", fast, plan.latency_seconds, rate=FIXED_RATE)
        slow_load = session.send("json", slow, plan.latency_seconds + 1.5, connections=4, rate=10)
        try:
            together, _, others = session.window("json", fast, plan.latency_seconds, rate=FIXED_RATE)
            slow_report = slow_load.report()
        finally:
            slow_load.close()
    if not slow_report.clean:
        raise RefusedError(f"slow model: {slow_report.fault()}")
    numbers = {
        "beside.alone_p99_us": alone.p99_us,
        "beside.together_p99_us": together.p99_us,
        "beside.ratio": together.p99_us / alone.p99_us,
        "beside.slow_p50_us": slow_report.p50_us,
    }
    return [
        Record(peer.name, fast.name, what, v, turn, details(together, others)) for what, v in numbers.items()
    ]


def best_peer_rate(records: list[Record], peers: dict[str, Peer], model: str) -> float:
    """The saturation of the fastest real peer over JSON, from the rounds so far."""
    rates: dict[str, list[float]] = {}
    for r in records:
        if r.model == model and r.what == "json.rate" and peers[r.peer].kind == "peer":
            rates.setdefault(r.peer, []).append(r.value)
    return max((median(values) for values in rates.values()), default=0.0)
