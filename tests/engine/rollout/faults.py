"""Model versions that do wrong, from the outside: an ONNX graph can be slow, wrong or refuse an input."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROWS = ["rows", 3]


def times(folder: Path, factor: float) -> str:
    """y = factor * x."""
    node = helper.make_node("Mul", ["x", "factor"], ["y"])
    return _save(folder / f"times{factor:g}.onnx", [node], {"factor": np.array(factor, np.float32)})


def slow(folder: Path, rounds: int) -> str:
    """y = 2 * x, after so many rounds of a loop that does sums of a matrix."""
    matrix = np.full((64, 64), 0.01, np.float32)
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "matrix"], ["next"]),
            helper.make_node("Identity", ["go"], ["go_on"]),
        ],
        "round",
        [
            helper.make_tensor_value_info("number", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [64, 64]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [64, 64]),
        ],
    )
    nodes = [
        helper.make_node("Loop", ["rounds", "true", "matrix"], ["end"], body=body),
        helper.make_node("ReduceSum", ["end"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "nothing"], ["zero"]),
        helper.make_node("Mul", ["x", "two"], ["twice"]),
        helper.make_node("Add", ["twice", "zero"], ["y"]),
    ]
    constants = {
        "rounds": np.array(rounds, np.int64),
        "true": np.array(True),
        "matrix": matrix,
        "nothing": np.array(0, np.float32),
        "two": np.array(2, np.float32),
    }
    return _save(folder / f"slow{rounds}.onnx", nodes, constants)


def failing(folder: Path, from_: int) -> str:
    """y = 2 * x; fails where the first number of a row is `from_` or more: it looks beyond a table's end."""
    return _by_first(folder / f"failing{from_}.onnx", np.full(from_, 2, np.float32))


def drifting(folder: Path, from_: int, factor: float) -> str:
    """y = 2 * x; another factor where the first number of a row is `from_` or more, up to 1000."""
    table = np.full(1001, 2, np.float32)
    table[from_:] = factor
    return _by_first(folder / f"drifting{from_}.onnx", table)


def growing(folder: Path, from_: int, step: int) -> str:
    """y = 2 * x; from a first number of `from_` on, it takes memory for `step` more numbers with each.

    What a run has taken, the server's allocator keeps for the next one: as with inputs that get ever longer.
    """
    nodes = [
        helper.make_node("Gather", ["x", "first"], ["head"], axis=1),
        helper.make_node("Cast", ["head"], ["numbers"], to=TensorProto.INT64),
        helper.make_node("ReduceMax", ["numbers"], ["most"], keepdims=0),
        helper.make_node("Sub", ["most", "from"], ["beyond"]),
        helper.make_node("Max", ["beyond", "nothing"], ["steps"]),
        helper.make_node("Mul", ["steps", "step"], ["size"]),
        helper.make_node("Unsqueeze", ["size", "axis"], ["shape"]),
        helper.make_node("Expand", ["zero", "shape"], ["taken"]),
        helper.make_node("ReduceSum", ["taken"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["x", "two"], ["twice"]),
        helper.make_node("Add", ["twice", "sum"], ["y"]),
    ]
    constants = {
        "first": np.array([0], np.int64),
        "from": np.array(from_, np.int64),
        "nothing": np.array(1, np.int64),
        "step": np.array(step, np.int64),
        "axis": np.array([0], np.int64),
        "zero": np.array([0], np.float32),
        "two": np.array(2, np.float32),
    }
    return _save(folder / f"growing{from_}.onnx", nodes, constants)


def _by_first(file: Path, table: np.ndarray) -> str:
    nodes = [
        helper.make_node("Gather", ["x", "first"], ["head"], axis=1),
        helper.make_node("Cast", ["head"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["factor"], axis=0),
        helper.make_node("Mul", ["x", "factor"], ["y"]),
    ]
    constants = {"first": np.array([0], np.int64), "table": table}
    return _save(file, nodes, constants)


def _save(file: Path, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> str:
    file.parent.mkdir(exist_ok=True)
    graph = helper.make_graph(
        nodes,
        file.stem,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ROWS)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ROWS)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(file))
    return str(file)
