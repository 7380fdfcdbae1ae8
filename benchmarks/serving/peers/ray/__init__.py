"""Ray Serve: proxy, controller and one replica, all on the one core."""

from benchmarks.serving.forms import Form, json_row
from benchmarks.serving.peers import Launch, Peer, Setup


class RayServe(Peer):
    name = "ray"
    label = "Ray Serve"
    reports = ("ray", "onnxruntime")

    def launch(self, setup: Setup) -> Launch:
        environment = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_LOG_TO_STDERR": "0", "RAY_DEDUP_LOGS": "0"}
        return Launch(setup.app(__file__), environment)

    def forms(self) -> dict[str, Form]:
        return {"json": json_row("/predict/{model}", "input", '"output":')}


PEERS = [RayServe()]
