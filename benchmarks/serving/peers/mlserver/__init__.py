"""MLServer with a runtime of ours for ONNX (it has none): in one process, with and without its batching."""

import json

from benchmarks.serving.forms import Form, oip_grpc, oip_json
from benchmarks.serving.peers import Launch, Peer, Setup


class MlServer(Peer):
    name = "mlserver"
    label = "MLServer, in-process"
    reports = ("mlserver", "onnxruntime")
    batching: dict[str, float] = {}  # noqa: RUF012

    def launch(self, setup: Setup) -> Launch:
        settings = {
            "host": "127.0.0.1",
            "http_port": setup.port,
            "grpc_port": setup.grpc_port,
            "metrics_endpoint": None,
            "parallel_workers": 0,  # a worker process costs a hop and shares the one core
            "debug": False,
            "gzip_enabled": False,
        }
        (setup.folder / "settings.json").write_text(json.dumps(settings))
        for model in setup.models:
            described = {
                "name": model.name,
                "implementation": "app.OnnxModel",
                "parameters": {"uri": str(model.path)},
                **self.batching,
            }
            home = setup.folder / model.name
            home.mkdir(exist_ok=True)
            (home / "model-settings.json").write_text(json.dumps(described))
        environment = {"PYTHONPATH": str(self.home), "MLSERVER_METRICS_DIR": str(setup.folder)}
        return Launch([str(setup.python.with_name("mlserver")), "start", str(setup.folder)], environment)

    def forms(self) -> dict[str, Form]:
        return {"json": oip_json(), "grpc": oip_grpc()}

    def lacks(self, form: str) -> str:
        return (
            "its REST server does not read the binary tensor extension"
            if form == "binary"
            else super().lacks(form)
        )


class Batching(MlServer):
    """A window of 1 ms: far shorter than its documentation's example (0.5 s)."""

    name = "mlserver-batching"
    label = "MLServer, adaptive batching"
    batching = {"max_batch_size": 32, "max_batch_time": 0.001}  # noqa: RUF012


PEERS = [MlServer(), Batching()]
