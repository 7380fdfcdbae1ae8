"""Statistics and configuration of models, as Triton's extensions of the protocol give them."""

from typing import Any

from model_server.engine.service import InferenceService
from model_server.http.exchange import Exchange
from model_server.http.router import Router
from model_server.models.repository import Served
from model_server.telemetry.metrics import Metrics
from model_server.tensors import TensorSpec


class ModelStatistics:
    """What models have done since the server started, in all workers."""

    def __init__(self, service: InferenceService, metrics: Metrics) -> None:
        self._repository = service.repository
        self._metrics = metrics

    def add_routes(self, router: Router) -> None:
        """Put them on the router."""
        router.add("GET", "/v2/models/stats", self.all_statistics)
        for base in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            router.add("GET", f"{base}/stats", self.statistics)
            router.add("GET", f"{base}/config", self.configuration)

    def all_statistics(self, exchange: Exchange) -> None:
        """Of every version that serves."""
        served = [one for entry in self._repository.entries() for one in entry.versions.values()]
        exchange.respond_json(200, {"model_stats": [statistics_of(one, self._metrics) for one in served]})

    def statistics(self, exchange: Exchange, model: str, version: str = "") -> None:
        """Of one model."""
        served = self._repository.get(model, version)
        exchange.respond_json(200, {"model_stats": [statistics_of(served, self._metrics)]})

    def configuration(self, exchange: Exchange, model: str, version: str = "") -> None:
        """How the model is served, in Triton's words."""
        exchange.respond_json(200, configuration_of(self._repository.get(model, version)))


def configuration_of(served: Served) -> dict[str, Any]:
    """The ModelConfig of a model version. Where there is a batch size, `dims` leave the rows out."""
    signature = served.lane.signature
    start = 1 if served.batch_rows else 0
    return {
        "name": served.name,
        "platform": served.model.platform,
        "max_batch_size": served.batch_rows,
        "input": [_triton_tensor(spec, start) for spec in signature.inputs],
        "output": [_triton_tensor(spec, start) for spec in signature.outputs],
    }


def statistics_of(served: Served, metrics: Metrics) -> dict[str, Any]:
    """The ModelStatistics of a model version."""
    labels = {"model": served.name, "version": served.version}

    def duration(name: str, **more: str) -> dict[str, int]:
        numbers = metrics.totals(name, {**labels, **more})
        return {"count": int(sum(numbers[:-1])), "ns": int(numbers[-1] * 1e9)}

    failed = metrics.totals("model_server_errors_total", labels)
    rows = metrics.totals("model_server_batch_rows", labels)
    return {
        "name": served.name,
        "version": served.version,
        "inference_count": int(rows[-1]),
        "execution_count": int(sum(rows[:-1])),
        "inference_stats": {
            "success": duration("model_server_request_seconds"),
            "fail": {"count": int(sum(failed)), "ns": 0},
            "queue": duration("model_server_phase_seconds", phase="queue"),
            "compute_input": duration("model_server_phase_seconds", phase="decode"),
            "compute_infer": duration("model_server_phase_seconds", phase="inference"),
            "compute_output": duration("model_server_phase_seconds", phase="encode"),
        },
        "batch_stats": [],
    }


def _triton_tensor(spec: TensorSpec, start: int) -> dict[str, Any]:
    datatype = {"BYTES": "STRING"}.get(spec.datatype, spec.datatype)
    return {"name": spec.name, "data_type": f"TYPE_{datatype}", "dims": list(spec.shape[start:])}
