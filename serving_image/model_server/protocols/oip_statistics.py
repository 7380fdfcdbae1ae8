"""Statistics and configuration of models, as Triton's extensions of the protocol give them."""

from typing import Any

from model_server.engine.service import InferenceService
from model_server.http.exchange import Exchange
from model_server.http.router import Router
from model_server.models.repository import Served
from model_server.telemetry.metrics import Metrics


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
        exchange.respond_json(200, {"model_stats": [self._of(one) for one in served]})

    def statistics(self, exchange: Exchange, model: str, version: str = "") -> None:
        """Of one model."""
        exchange.respond_json(200, {"model_stats": [self._of(self._repository.get(model, version))]})

    def configuration(self, exchange: Exchange, model: str, version: str = "") -> None:
        """How the model is served, in Triton's words."""
        served = self._repository.get(model, version)
        signature = served.lane.signature
        exchange.respond_json(
            200,
            {
                "name": model,
                "platform": served.model.platform,
                "max_batch_size": served.batch_rows,
                "input": [_triton_tensor(spec.metadata()) for spec in signature.inputs],
                "output": [_triton_tensor(spec.metadata()) for spec in signature.outputs],
            },
        )

    def _of(self, served: Served) -> dict[str, Any]:
        labels = {"model": served.name, "version": served.version}

        def phase(name: str) -> dict[str, int]:
            return self._duration("model_server_phase_seconds", {**labels, "phase": name})

        failed = self._metrics.totals("model_server_errors_total", labels)
        rows = self._metrics.totals("model_server_batch_rows", labels)
        return {
            "name": served.name,
            "version": served.version,
            "inference_count": int(rows[-1]),
            "execution_count": int(sum(rows[:-1])),
            "inference_stats": {
                "success": self._duration("model_server_request_seconds", labels),
                "fail": {"count": int(sum(failed)), "ns": 0},
                "queue": phase("queue"),
                "compute_input": phase("decode"),
                "compute_infer": phase("inference"),
                "compute_output": phase("encode"),
            },
            "batch_stats": [],
        }

    def _duration(self, name: str, labels: dict[str, str]) -> dict[str, int]:
        numbers = self._metrics.totals(name, labels)
        return {"count": int(sum(numbers[:-1])), "ns": int(numbers[-1] * 1e9)}


def _triton_tensor(spec: dict[str, Any]) -> dict[str, Any]:
    datatype = {"BYTES": "STRING"}.get(spec["datatype"], spec["datatype"])
    return {"name": spec["name"], "data_type": f"TYPE_{datatype}", "dims": spec["shape"]}
