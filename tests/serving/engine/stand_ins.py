"""Models that fail or dawdle for some inputs, models that can stand in for them, and ways to ask them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
from onnx import TensorProto, helper
from running_server import Server, infer_body


def table(path: Path, size: int, factor: float = 10.0) -> Path:
    """y = factor * index; an index of `size` and up makes the runtime fail."""
    node = helper.make_node("Gather", ["table", "index"], ["y"])
    weights = {"table": np.arange(size, dtype=np.float32) * np.float32(factor)}
    inputs = [onnx_models.tensor("index", "INT64", ["n"])]
    return onnx_models.save(path, [node], inputs, [onnx_models.tensor("y", "FP32", ["n"])], weights)


def quick(path: Path) -> Path:
    """Takes what onnx_models.slow takes, and answers -1 at once."""
    nodes = [
        helper.make_node("Cast", ["turns"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["as_float", "zero"], ["nothing"]),
        helper.make_node("Sub", ["nothing", "one"], ["y"]),
    ]
    weights = {"zero": np.array(0, np.float32), "one": np.array(1, np.float32)}
    inputs = [onnx_models.tensor("turns", "INT64", [1])]
    return onnx_models.save(path, nodes, inputs, [onnx_models.tensor("y", "FP32", [1])], weights)


def index_body(*index: int) -> dict[str, Any]:
    return infer_body(list(index), [len(index)], "index", "INT64")


def turns_body(turns: int) -> dict[str, Any]:
    return infer_body([turns], [1], "turns", "INT64")


def ask(server: Server, model: str, body: dict[str, Any], **headers: str) -> tuple[int, Any, dict[str, str]]:
    """Status, the first output's data or the error, and the headers."""
    status, answer, got = server.post(f"/v2/models/{model}/infer", body, **headers)
    return status, answer["outputs"][0]["data"] if status == 200 else answer["error"], got


def model(name: str, path: Path, **settings: Any) -> dict[str, Any]:
    return {"name": name, "source": str(path), **settings}


def runs(server: Server, name: str) -> float:
    return server.metric("model_server_batch_rows_count", model=name)
