"""`model-server check`: load every model, run it once, say what it takes and how fast it answers."""

import asyncio
from statistics import median
from time import monotonic
from typing import Any

import orjson

from model_server.engine.service import InferenceService
from model_server.engine.warmup import made_up
from model_server.errors import ServerError
from model_server.models.repository import Repository, Served
from model_server.settings import Settings
from model_server.telemetry.metrics import Metrics

_RUNS = 50
_FAILED = 1


def check(settings: Settings, as_json: bool) -> int:
    """Print a report; return 0 if every declared model answers, else 1."""
    reports = asyncio.run(_check_all(settings))
    if as_json:
        print(orjson.dumps(reports, option=orjson.OPT_INDENT_2).decode())
    else:
        print("\n".join(_text(report) for report in reports))
    return _FAILED if any("error" in report for report in reports) else 0


async def _check_all(settings: Settings) -> list[dict[str, Any]]:
    repository = Repository(settings, Metrics())
    service = InferenceService(repository)
    reports: list[dict[str, Any]] = []
    for entry in repository.entries():
        name = entry.settings.name
        began = monotonic()
        try:
            served = await repository.load(name)
            reports.append(
                {"model": name, "load_seconds": monotonic() - began, **await _try(service, served)}
            )
        except ServerError as error:
            reports.append({"model": name, "error": error.message})
    await repository.close()
    return reports


async def _try(service: InferenceService, served: Served) -> dict[str, Any]:
    signature = served.lane.signature
    inputs = made_up(signature, 1)
    seconds: list[float] = []
    for _ in range(_RUNS):
        began = monotonic()
        await service.infer(served, inputs)
        seconds.append(monotonic() - began)
        if sum(seconds) > 1:
            break
    return {
        "version": served.version,
        "sha256": served.artifact.digest,
        "golden_requests": served.proof.golden_requests,
        "batch_rows": served.batch_rows,
        "inputs": [spec.metadata() for spec in signature.inputs],
        "outputs": [spec.metadata() for spec in signature.outputs],
        "latency_ms": {"median": median(seconds) * 1000, "worst": max(seconds) * 1000, "runs": len(seconds)},
    }


def _text(report: dict[str, Any]) -> str:
    if "error" in report:
        return f"{report['model']}: FAILED\n  {report['error']}"
    latency = report["latency_ms"]
    lines = [f"{report['model']} version {report['version']}: ok, loaded in {report['load_seconds']:.2f} s"]
    lines += [f"  in   {t['name']}  {t['datatype']} {t['shape']}" for t in report["inputs"]]
    lines += [f"  out  {t['name']}  {t['datatype']} {t['shape']}" for t in report["outputs"]]
    golden = report["golden_requests"]
    lines.append(f"  golden requests: {f'{golden}, answered as recorded' if golden else 'none came with it'}")
    lines.append(f"  one row: median {latency['median']:.2f} ms, worst {latency['worst']:.2f} ms")
    lines.append(f"  rows stacked at most: {report['batch_rows'] or 'none, requests run one by one'}")
    lines.append(f"  sha256 {report['sha256']}")
    return "\n".join(lines)
