"""An endpoint a model, without adaptive batching: on one core it made every model slower here."""

import os
from pathlib import Path

import bentoml
import numpy as np
import onnxruntime

PATHS = [Path(path) for path in os.environ["BENCH_MODELS"].split(":")]


def endpoint(name: str):
    """A coroutine for small models; a plain function, which BentoML runs in a thread, for the slow one."""

    def run(self, rows: np.ndarray) -> np.ndarray:
        return self.sessions[name].run(None, {"input": rows.astype(np.float32)})[0]

    async def run_here(self, rows: np.ndarray) -> np.ndarray:
        return run(self, rows)

    method = run if name == "convnet" else run_here
    method.__name__ = name  # BentoML looks the method up by its name
    return bentoml.api(method, route=f"/{name}")


class Models:
    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.sessions = {path.parent.name: onnxruntime.InferenceSession(path, options) for path in PATHS}


for _path in PATHS:
    setattr(Models, _path.parent.name, endpoint(_path.parent.name))

Onnx = bentoml.service(
    name="Onnx",
    workers=1,
    threads=1,
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
)(Models)
