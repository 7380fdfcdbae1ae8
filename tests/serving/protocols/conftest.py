"""A server with models that have feature names, several inputs, text, class labels, and none of these."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))

import onnx_models
from iris import CLASSES, FEATURES, WEIGHTS
from onnx import helper
from running_server import Server


def mlflow_folder(folder: Path, inputs: list[dict], **more: Any) -> Path:
    """An MLflow model around `model.onnx`, with this signature."""
    document = {
        "flavors": {"onnx": {"data": "model.onnx", "onnx_version": "1.19"}},
        "signature": {"inputs": json.dumps(inputs)},
        **more,
    }
    (folder / "MLmodel").write_text(yaml.safe_dump(document))
    return folder


def iris(folder: Path) -> Path:
    folder.mkdir()
    nodes = [
        helper.make_node("MatMul", ["X", "w"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
    ]
    onnx_models.save(
        folder / "model.onnx",
        nodes,
        [onnx_models.tensor("X", "FP32", ["n", 4])],
        [onnx_models.tensor("label", "INT64", ["n"]), onnx_models.tensor("probabilities", "FP32", ["n", 3])],
        {"w": WEIGHTS},
    )
    inputs = [{"type": "double", "name": name, "required": True} for name in FEATURES]
    return mlflow_folder(folder, inputs, metadata={"class_labels": CLASSES})


def person(folder: Path) -> Path:
    """Inputs of several types, each a column; the outputs are the same."""
    folder.mkdir()
    kinds = {"age": "INT64", "city": "BYTES", "height": "FP32", "member": "BOOL"}
    names = list(kinds)
    onnx_models.save(
        folder / "model.onnx",
        [helper.make_node("Identity", [name], [f"same_{name}"]) for name in names],
        [onnx_models.tensor(name, kinds[name], ["n", 1]) for name in names],
        [onnx_models.tensor(f"same_{name}", kinds[name], ["n", 1]) for name in names],
    )
    types = {"age": "long", "city": "string", "height": "double", "member": "boolean"}
    inputs = [{"type": types[name], "name": name, "required": name != "height"} for name in names]
    return mlflow_folder(folder, inputs)


def house(folder: Path) -> Path:
    """A regression of numbers that the signature says more of: an integer, a truth value, an optional one."""
    folder.mkdir()
    node = helper.make_node("ReduceSum", ["x", "axes"], ["price"], keepdims=1)
    onnx_models.save(
        folder / "model.onnx",
        [node],
        [onnx_models.tensor("x", "FP32", ["n", 3])],
        [onnx_models.tensor("price", "FP32", ["n", 1])],
        {"axes": np.array([1], np.int64)},
    )
    inputs = [
        {"type": "integer", "name": "rooms", "required": True},
        {"type": "boolean", "name": "garden", "required": True},
        {"type": "double", "name": "area", "required": False},
    ]
    return mlflow_folder(folder, inputs)


def picture(path: Path) -> Path:
    """A tensor of rank 3 a batch."""
    node = helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[1, 2], keepdims=0)
    return onnx_models.save(
        path,
        [node],
        [onnx_models.tensor("pixels", "FP32", ["n", 2, 2])],
        [onnx_models.tensor("mean", "FP32", ["n"])],
    )


def constant(path: Path) -> Path:
    """An input without rows."""
    node = helper.make_node("Identity", ["s"], ["t"])
    return onnx_models.save(
        path, [node], [onnx_models.tensor("s", "FP32", [])], [onnx_models.tensor("t", "FP32", [])]
    )


@pytest.fixture(scope="session")
def declared(models: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Settings of every model."""
    folder = tmp_path_factory.mktemp("protocols")
    sources = {
        "iris": iris(folder / "iris"),
        "person": person(folder / "person"),
        "house": house(folder / "house"),
        "picture": picture(folder / "picture.onnx"),
        "constant": constant(folder / "constant.onnx"),
        **{path.stem: path for path in sorted(models.glob("*.onnx"))},
    }
    return [{"name": name, "source": str(source)} for name, source in sources.items()]


@pytest.fixture(scope="session")
def server(declared: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of every model that tests leave as they found it; iris answers where no model is named."""
    settings = {
        "server": {"tells_answers": True},
        "models": declared,
        "default_model": "iris",
        "http": {"max_body_bytes": 1_000_000, "body_timeout_seconds": 2.0},
    }
    server = Server(tmp_path_factory.mktemp("server"), settings)
    try:
        yield server.until_ready()
    finally:
        server.close()
