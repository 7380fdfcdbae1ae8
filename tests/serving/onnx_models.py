"""Small ONNX models for the tests, made with onnx.helper."""

import math
import tempfile
import time
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

ELEMENT_TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def save(
    path: Path, nodes: list, inputs: list, outputs: list, weights: dict[str, np.ndarray] | None = None
) -> Path:
    constants = [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def tensor(name: str, datatype: str, shape: list) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, ELEMENT_TYPES[datatype], shape)


def scale(path: Path, factor: float = 2.0, width: int = 3) -> Path:
    """y = factor * x, row by row."""
    node = helper.make_node("Mul", ["x", "factor"], ["y"])
    weights = {"factor": np.array(factor, np.float32)}
    return save(
        path, [node], [tensor("x", "FP32", ["n", width])], [tensor("y", "FP32", ["n", width])], weights
    )


def echo(path: Path) -> Path:
    """An input `in_X` and an output `out_X` for each datatype X, equal."""
    nodes = [helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]) for name in ELEMENT_TYPES]
    inputs = [tensor(f"in_{name}", name, ["n", 2]) for name in ELEMENT_TYPES]
    outputs = [tensor(f"out_{name}", name, ["n", 2]) for name in ELEMENT_TYPES]
    return save(path, nodes, inputs, outputs)


def centred(path: Path) -> Path:
    """y = x minus the mean of the batch: rows depend on each other, so stacking would be wrong."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    return save(path, nodes, [tensor("x", "FP32", ["n", 2])], [tensor("y", "FP32", ["n", 2])])


def lookup(path: Path) -> Path:
    """y = table[index]; an index of 10 and up makes the runtime fail."""
    node = helper.make_node("Gather", ["table", "index"], ["y"])
    weights = {"table": np.arange(10, dtype=np.float32) * 10}
    return save(path, [node], [tensor("index", "INT64", ["n"])], [tensor("y", "FP32", ["n"])], weights)


def slow(path: Path) -> Path:
    """Multiplies matrices for `turns` times half a millisecond of this machine, and returns `turns`."""
    return _turning(path, _products_in(0.0005))


@cache
def _products_in(seconds: float) -> int:
    """How many of the slow model's products fill the time on one undisturbed core of this machine."""
    with tempfile.TemporaryDirectory() as folder:
        model = str(_turning(Path(folder) / "one.onnx", products=1))
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

    def measure(turns: int = 2000) -> float:
        began = time.thread_time()  # other programs may use the cores now, and not when the model is asked
        session.run(None, {"turns": np.array([turns], np.int64)})
        return (time.thread_time() - began) / turns

    return math.ceil(seconds / min(measure() for _ in range(8)))


def _turning(path: Path, products: int) -> Path:
    """`products` matrix products a turn, each too small to be shared out among threads."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("MatMul", ["m", "w"], ["product"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("m", TensorProto.FLOAT, [32, 32]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("product", TensorProto.FLOAT, [32, 32]),
        ],
    )
    nodes = [
        helper.make_node("Squeeze", ["turns", "axis"], ["scalar"]),
        helper.make_node("Mul", ["scalar", "products"], ["count"]),
        helper.make_node("Loop", ["count", "yes", "w"], ["last"], body=body),
        helper.make_node("ReduceSum", ["last"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
        helper.make_node("Cast", ["turns"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["as_float", "nothing"], ["y"]),
    ]
    weights = {
        "w": np.eye(32, dtype=np.float32),
        "yes": np.array(True),
        "products": np.array(products, np.int64),
        "axis": np.array([0], np.int64),
        "zero": np.array(0, np.float32),
    }
    return save(path, nodes, [tensor("turns", "INT64", [1])], [tensor("y", "FP32", [1])], weights)
