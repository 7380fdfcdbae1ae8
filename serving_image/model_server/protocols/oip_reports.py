"""Triton's configuration and statistics of a model, in the names of its JSON and its messages."""

from time import time
from typing import Any

from model_server.models.repository import Served
from model_server.telemetry.metrics import Metrics

_TRITON_TYPES = {"BYTES": "TYPE_STRING"}


def configuration(served: Served) -> dict[str, Any]:
    """The ModelConfig of a model version.

    `max_batch_size` is 0, as Triton has it for models whose shapes are given whole.
    """
    signature = served.lane.signature
    platform = served.model.platform
    return {
        "name": served.name,
        "platform": platform,
        "backend": platform.partition("_")[0],
        "max_batch_size": 0,
        "input": [
            {"name": spec.name, "data_type": _type(spec.datatype), "dims": list(spec.shape)}
            for spec in signature.inputs
        ],
        "output": [
            {"name": spec.name, "data_type": _type(spec.datatype), "dims": list(spec.shape)}
            for spec in signature.outputs
        ],
    }


def statistics(served: Served, metrics: Metrics) -> dict[str, Any]:
    """The ModelStatistics of a model version, over all workers and since the server started."""
    labels = {"model": served.name, "version": served.version}

    def duration(name: str, **more: str) -> dict[str, int]:
        numbers = metrics.sums(name, {**labels, **more})
        return {"count": int(sum(numbers[:-1])), "ns": int(numbers[-1] * 1e9)} if numbers else _NONE

    phases = {
        phase: duration("model_server_phase_seconds", phase=phase)
        for phase in ("queue", "decode", "inference", "encode")
    }
    runs = metrics.sums("model_server_batch_rows", labels)
    failed = metrics.sums("model_server_errors_total", labels)
    last = served.lane.last_run_ago()
    return {
        "name": served.name,
        "version": served.version,
        "last_inference": 0 if last is None else int((time() - last) * 1000),
        "inference_count": int(runs[-1]) if runs else 0,
        "execution_count": int(sum(runs[:-1])) if runs else 0,
        "inference_stats": {
            "success": duration("model_server_request_seconds"),
            "fail": {"count": int(sum(failed)), "ns": 0},
            "queue": phases["queue"],
            "compute_input": phases["decode"],
            "compute_infer": phases["inference"],
            "compute_output": phases["encode"],
            "cache_hit": _NONE,
            "cache_miss": _NONE,
        },
    }


_NONE = {"count": 0, "ns": 0}


def _type(datatype: str) -> str:
    return _TRITON_TYPES.get(datatype, f"TYPE_{datatype}")
