"""The bundled model server: one worker, defaults, from its source tree beside this benchmark."""

from benchmarks.serving.environments import PROJECT
from benchmarks.serving.forms import Form, oip_binary, oip_grpc, oip_json
from benchmarks.serving.peers import Launch, Peer, Setup


class Ours(Peer):
    name = "ours"
    label = "**serving-estate**"
    kind = "ours"
    package = PROJECT / "serving_image"
    reports = ("serving-estate-model-server", "model-server", "onnxruntime")

    def __init__(self, extra: str = "") -> None:
        self.extra = extra
        """YAML that is appended to the settings."""

    def launch(self, setup: Setup) -> Launch:
        lines = [
            "server:",
            "  host: 127.0.0.1",
            f"  http_port: {setup.port}",
            f"  grpc_port: {setup.grpc_port}",
            "  workers: 1",
            "models:",
        ]
        for model in setup.models:
            lines += [f"  - name: {model.name}", f"    source: {model.path}"]
        settings = setup.folder / "settings.yaml"
        settings.write_text("\n".join([*lines, self.extra]) + "\n")
        return Launch([str(setup.python.with_name("model-server")), "serve", "--config", str(settings)], {})

    def forms(self) -> dict[str, Form]:
        return {"json": oip_json(), "binary": oip_binary(), "grpc": oip_grpc()}


PEERS = [Ours()]
