"""`mlflow models serve`: the same ONNX file as an MLflow model, one uvicorn worker."""

import shutil

from benchmarks.serving.forms import Form, json_rows
from benchmarks.serving.models import INPUT, OUTPUT
from benchmarks.serving.peers import Launch, Peer, Setup

MLMODEL = """\
flavors:
  onnx:
    data: model.onnx
    onnx_version: 1.23.2
    providers: [CPUExecutionProvider]
    onnx_session_options:
      intra_op_num_threads: 1
      inter_op_num_threads: 1
  python_function:
    loader_module: mlflow.onnx
    data: model.onnx
    env: {{}}
    python_version: 3.11.0
signature:
  inputs: '[{{"type": "tensor", "name": "{input}", "tensor-spec": {{"dtype": "float32", "shape": {shape}}}}}]'
  outputs: '[{{"type": "tensor", "name": "{output}", "tensor-spec": {{"dtype": "float32", "shape": {out}}}}}]'
"""


class MlFlow(Peer):
    name = "mlflow"
    label = "mlflow models serve"
    several = False
    reports = ("mlflow", "onnxruntime")

    def launch(self, setup: Setup) -> Launch:
        (model,) = setup.models
        home = setup.folder / "model"
        home.mkdir(exist_ok=True)
        shutil.copy(model.path, home / "model.onnx")
        shape = [-1, *model.shape]
        described = MLMODEL.format(input=INPUT, output=OUTPUT, shape=shape, out=[-1, model.outputs])
        (home / "MLmodel").write_text(described)
        argv = [str(setup.python), "-m", "mlflow", "models", "serve", "--model-uri", str(home)]
        argv += ["--port", str(setup.port), "--host", "127.0.0.1", "--workers", "1", "--env-manager", "local"]
        path = f"{setup.python.parent}:/usr/local/bin:/usr/bin:/bin"
        return Launch(
            argv, {"PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_TRACKING_URI": "file:none"}
        )

    def forms(self) -> dict[str, Form]:
        return {"json": json_rows("/invocations", "inputs", '"probabilities":')}


PEERS = [MlFlow()]
