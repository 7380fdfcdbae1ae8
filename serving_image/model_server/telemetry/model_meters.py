"""What is measured of each model version."""

from model_server.engine.call import Call
from model_server.telemetry.metrics import SIZE_BUCKETS, Counter, Metrics

_PHASE_HELP = "Seconds of a request by phase: decode, queue, inference, encode."


class ModelMeters:
    """The series of one model version, looked up once."""

    def __init__(self, metrics: Metrics, model: str, version: str) -> None:
        labels = {"model": model, "version": version}
        metrics.revive(labels)
        self._metrics = metrics
        self._labels = labels
        self._errors: dict[str, Counter] = {}
        phases = {
            phase: metrics.histogram("model_server_phase_seconds", _PHASE_HELP, {**labels, "phase": phase})
            for phase in ("decode", "queue", "inference", "encode")
        }
        self.decode = phases["decode"]
        self.queue = phases["queue"]
        self.inference = phases["inference"]
        self.encode = phases["encode"]
        self.request = metrics.histogram(
            "model_server_request_seconds", "Seconds from a request's last byte to its answer.", labels
        )
        self.batch_rows = metrics.histogram("model_server_batch_rows", "Rows of a run.", labels, SIZE_BUCKETS)
        self.rejected = metrics.counter(
            "model_server_rejected_total", "Requests refused because the queue was full.", labels
        )
        self.waiting = metrics.gauge("model_server_queue_length", "Requests that wait for a run.", labels)
        self.expired = metrics.counter(
            "model_server_expired_total", "Requests whose time ran out before the model answered.", labels
        )

    def retire(self) -> None:
        """The version is gone; what was counted can be read for a while."""
        self._metrics.retire(self._labels)

    def observe_batch(self, batch: list[Call]) -> None:
        """Count a run and its calls' time in the queue."""
        first = batch[0]
        started = first.started
        self.inference.observe(first.finished - started, len(batch))
        self.batch_rows.observe(first.batch_rows)
        observe_queue = self.queue.observe
        for call in batch:
            observe_queue(started - call.queued)

    def failed(self, kind: str) -> None:
        """Count a request that ended in an error of this kind."""
        counter = self._errors.get(kind)
        if counter is None:
            counter = self._metrics.counter(
                "model_server_errors_total",
                "Requests that ended in an error, by kind.",
                {**self._labels, "kind": kind},
            )
            self._errors[kind] = counter
        counter.add()
