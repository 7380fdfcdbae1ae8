"""BentoML: one service, one worker, inference in the worker."""

from benchmarks.serving.forms import Form, json_rows
from benchmarks.serving.peers import Launch, Peer, Setup


class BentoMl(Peer):
    name = "bentoml"
    label = "BentoML"
    reports = ("bentoml", "onnxruntime")

    def launch(self, setup: Setup) -> Launch:
        argv = [str(setup.python.with_name("bentoml")), "serve", "app:Onnx", "--working-dir", str(self.home)]
        argv += ["--host", "127.0.0.1", "--port", str(setup.port)]
        environment = {
            "PATH": f"{setup.python.parent}:/usr/local/bin:/usr/bin:/bin",
            "BENTOML_HOME": str(setup.folder / "home"),
            "BENTOML_DO_NOT_TRACK": "true",
            "BENCH_MODELS": ":".join(str(model.path) for model in setup.models),
        }
        return Launch(argv, environment)

    def forms(self) -> dict[str, Form]:
        return {"json": json_rows("/{model}", "rows", "")}


PEERS = [BentoMl()]
