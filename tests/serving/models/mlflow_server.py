"""A real MLflow server as a subprocess, and what tests register with it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
from mlflow import MlflowClient
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from model_server.golden import onnx_predict, write_golden

START_SECONDS = 180.0
SIGNATURE = ModelSignature(
    Schema([TensorSpec(np.dtype("float32"), (-1, 3), "x")]),
    Schema([TensorSpec(np.dtype("float32"), (-1, 3), "y")]),
)


class MlflowServer:
    """`mlflow server` on a port of its own; it can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()
        self.client = MlflowClient(self.uri, self.uri)
        self._names: set[str] = set()
        self.experiment = self.client.create_experiment("models")

    def start(self) -> None:
        environment = {
            **os.environ,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http",
            "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
            "MLFLOW_WEBHOOK_CACHE_TTL": "0",  # else a webhook made just now is not known yet
        }
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "mlflow.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        limit = time.monotonic() + START_SECONDS
        while not self._answers():
            if time.monotonic() > limit:
                self.stop()
                raise TimeoutError((self.folder / "mlflow.log").read_text()[-3000:])
            time.sleep(0.2)

    def stop(self) -> None:
        if self.process is not None:
            # Its workers are in the session that we started with it.
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def register(self, name: str, folder: Path, tags: dict[str, str] | None = None) -> str:
        """Upload a model folder in a run and register it; return the version."""
        run = self.client.create_run(self.experiment).info
        self.client.log_artifacts(run.run_id, str(folder), "model")
        if name not in self._names:
            self.client.create_registered_model(name)
            self._names.add(name)
        source = f"{run.artifact_uri}/model"
        return str(self.client.create_model_version(name, source, run.run_id, tags=tags).version)


def model_folder(folder: Path, factor: float, *, golden_factor: float | None = None, width: int = 3) -> Path:
    """An MLflow folder of a model that multiplies by a factor, with golden answers of `golden_factor`."""
    folder = folder.with_name(f"model-{folder.name}")
    folder.mkdir()
    path = onnx_models.scale(folder / "model.onnx", factor, width)
    write_mlmodel(folder, "onnx: {data: model.onnx}", SIGNATURE if width == 3 else None)
    if golden_factor is not None:
        rows = [
            {"x": np.arange(width, dtype=np.float32).reshape(1, -1)},
            {"x": np.ones((2, width), np.float32)},
        ]
        truth = onnx_models.scale(folder.parent / f"{folder.name}-truth.onnx", golden_factor, width)
        write_golden(folder, rows, onnx_predict(truth))
    assert path.is_file()
    return folder


def write_mlmodel(folder: Path, flavors: str, signature: ModelSignature | None) -> None:
    document: dict[str, Any] = {} if signature is None else {"signature": signature.to_dict()}
    text = f"flavors:\n  {flavors}\n"
    if document:
        text += f"signature: {json.dumps(document['signature'])}\n"
    (folder / "MLmodel").write_text(text)
