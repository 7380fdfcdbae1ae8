"""The table: medians over the rounds, ratios to ours from the same round, reasons for what is missing."""

import math
import platform
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

Figures = dict[tuple[str, str, str], dict[int, float]]


def machine() -> str:
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    cores = sum(line.startswith("processor") for line in Path("/proc/cpuinfo").read_text().splitlines())
    return f"{model}, {cores} cores, Linux {platform.release()}, Python {platform.python_version()}"


def figures(result: dict[str, Any]) -> Figures:
    found: Figures = {}
    for r in result["records"]:
        found.setdefault((r["peer"], r["model"], r["what"]), {})[r["round"]] = r["value"]
    return found


def middle(values: dict[int, float]) -> float:
    real = [v for v in values.values() if not math.isnan(v)]
    return median(real) if real else math.nan


class Table:
    def __init__(self, result: dict[str, Any]) -> None:
        self.result, self.figures = result, figures(result)
        self.notes: list[str] = []

    def why(self, peer: str, model: str, what: str) -> str:
        """A footnote that says why there is no figure."""
        reason = self.result["absent"].get(peer) or self.result["reasons"].get(f"{peer}/{model}")
        for r in self.result["records"]:
            if (r["peer"], r["model"]) == (peer, model) and same(r["what"], what):
                reason = reason or r["detail"].get("reason")
        form = what.partition(".")[0]
        if form not in self.result["forms"].get(peer, [form]) and form in ("binary", "grpc"):
            reason = reason or self.result["forms_lacking"][peer][form]
        reason = (reason or "not measured in this run").replace("\n", " ").replace("|", "/")[:300]
        if reason not in self.notes:
            self.notes.append(reason)
        return f"[{self.notes.index(reason) + 1}]"

    def cell(
        self, peer: str, model: str, what: str, show: Callable[[float], str], *, ratio: bool = True
    ) -> str:
        values = self.figures.get((peer, model, what))
        if not values or math.isnan(middle(values)):
            return self.why(peer, model, what)
        text = show(middle(values))
        ours = self.figures.get(("ours", model, what), {})
        shared = [
            better(what, ours[turn], v)
            for turn, v in values.items()
            if turn in ours and v and not math.isnan(better(what, ours[turn], v))
        ]
        if ratio and peer != "ours" and shared:
            text += f" ({shorter(median(shared))} ×)"  # noqa: RUF001
        return text

    def rows(self) -> list[tuple[str, str]]:
        return [(name, label) for name, (_, label) in self.result["labels"].items()]


def same(recorded: str, wanted: str) -> bool:
    """A reason is recorded once for all figures of a window: `json.at_200.p99_us` for `.p50_us` too."""
    return recorded.rpartition(".")[0] == wanted.rpartition(".")[0]


def better(what: str, ours: float, theirs: float) -> float:
    """How many times better ours is: more of a rate, less of anything else."""
    more, less = (ours, theirs) if what.endswith(".rate") else (theirs, ours)
    return more / less if less else math.nan


def shorter(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def count(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def milliseconds(us: float) -> str:
    return f"{us / 1000:.2f}" if us < 10_000 else f"{us / 1000:,.0f}"


def grid(head: list[str], rows: list[list[str]]) -> list[str]:
    rule = ["---", *(["---:"] * (len(head) - 1))]
    return ["| " + " | ".join(row) + " |" for row in [head, rule, *rows]] + [""]


def markdown(result: dict[str, Any]) -> str:
    table = Table(result)
    models = result["models"]
    lines = [
        "# Model servers side by side",
        "",
        f"{result['date'][:10]}, {result['minutes']} minutes, `{result['command'].strip()}`.",
        f"{result['machine']}.",
        "",
        "Servers on one core, load on another; every answer of every timed request was checked. Medians",
        "over the rounds. In brackets: how many times better ours is, from the same round (more of a rate,",
        "less of CPU, time or memory); below 1 ours is worse.",
        "",
        noise(result),
        "",
    ]
    for model in models:
        lines += throughput(table, model)
    lines += latency(table, models)
    lines += other(table, models)
    if table.notes:
        lines += [
            "Why a figure is missing:",
            "",
            *(f"{i}. {note}" for i, note in enumerate(table.notes, 1)),
            "",
        ]
    lines += ["Versions:", ""]
    for name, ran in result["versions"].items():
        lines.append(f"- {name}: " + ", ".join(f"{package} {version}" for package, version in ran.items()))
    return "\n".join(lines) + "\n"


def noise(result: dict[str, Any]) -> str:
    details = [
        r["detail"] for r in result["records"] if r["what"].endswith(".rate") and "others" in r["detail"]
    ]
    if not details:
        return "No timed window."
    others, load = ([d[name] for d in details] for name in ("others", "load_cpu"))
    noisy = sum(share > 0.15 for share in others)
    return (
        f"Noise: others took {median(others):.0%} of the server's core in the middle window, more than 15 %\n"
        f"in {noisy} of {len(others)}; CPU per request suffers least from that. "
        f"The load generator used at most {max(load):.0%} of its core."
    )


def throughput(table: Table, model: str) -> list[str]:
    forms = [
        f
        for f in ("json", "binary", "grpc")
        if any(k[1] == model and k[2] == f"{f}.rate" for k in table.figures)
    ]
    head = ["requests/s"]
    for form in forms:
        head += [form.upper() if form == "json" else form, "µs CPU"]
    rows = []
    for name, label in table.rows():
        row = [label]
        for form in forms:
            row.append(table.cell(name, model, f"{form}.rate", count))
            row.append(table.cell(name, model, f"{form}.cpu_us", count))
        rows.append(row)
    for what, label in (
        ("alone.rate", "ONNX Runtime alone"),
        ("alone32.rate", "ONNX Runtime alone, batches of 32"),
    ):
        rows.append(
            [label, table.cell("onnxruntime", model, what, count, ratio=False), *[""] * (len(head) - 2)]
        )
    return [f"## Throughput: {model}", "", *grid(head, rows)]


def latency(table: Table, models: list[str]) -> list[str]:
    columns: list[tuple[str, str, str]] = []
    for model in models:
        columns.append((f"{model}, one client: p50", model, "json.lone_p50_us"))
        for what, name in (("at_200", "200/s"), ("at_half", "half of the best peer")):
            if any(k[1] == model and k[2].startswith(f"json.{what}") for k in table.figures):
                columns += [(f"{model}, {name}: {q}", model, f"json.{what}.{q}_us") for q in ("p50", "p99")]
    lines = ["## Latency over JSON, ms", ""]
    lines += ["Open loop with random arrivals, counted from the moment at which a request was due.", ""]
    for model in models:
        own = [c for c in columns if c[1] == model]
        rows = [
            [label, *(table.cell(name, m, w, milliseconds) for _, m, w in own)]
            for name, label in table.rows()
        ]
        lines += grid(["ms", *(title for title, _, _ in own)], rows)
    return lines


def other(table: Table, models: list[str]) -> list[str]:
    first = models[0]
    head = ["", "start to first right answer, s", "memory, MB", "p99 beside a slow model, times alone"]
    rows = []
    for name, (kind, label) in table.result["labels"].items():
        row = [
            label,
            table.cell(name, first, "start_s", "{:.2f}".format),
            table.cell(name, first, "memory_mb", count),
        ]
        values = table.figures.get((name, first, "beside.ratio"))
        if kind == "limit":
            row.append("")
        elif values:
            together = middle(table.figures[name, first, "beside.together_p99_us"])
            row.append(f"{middle(values):.1f} ({milliseconds(together)} ms)")
        else:
            row.append(table.why(name, "beside", "beside.ratio"))
        rows.append(row)
    title = f"## Start, memory and neighbours ({first})"
    note = "Memory is the proportional set size of all its processes after the load, with one small model."
    return [title, "", note, "", *grid(head, rows)]
