"""The three models, made the same on every machine: ONNX files and inputs that are all different."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray
INPUT, OUTPUT = "input", "probabilities"


@dataclass(frozen=True)
class Model:
    name: str
    path: Path
    shape: tuple[int, ...]
    """One row, without the batch."""
    outputs: int
    connections: int
    inputs: int
    """How many different requests there are: a multiple of `connections`."""
    slow: bool = False

    def rows(self) -> Array:
        """Inputs of the model, (inputs, *shape), rounded so that JSON carries them exactly enough."""
        return _INPUTS[self.name](self).astype(np.float32)

    def session(self) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return onnxruntime.InferenceSession(self.path, options, providers=["CPUExecutionProvider"])

    def answers(self, rows: Array) -> Array:
        """What ONNX Runtime alone says, a row at a time."""
        session = self.session()
        return np.concatenate([session.run(None, {INPUT: row[None]})[0] for row in rows])


def make(folder: Path) -> dict[str, Model]:
    folder.mkdir(parents=True, exist_ok=True)
    models = {
        m.name: m
        for m in (
            Model("logistic", folder / "logistic" / "model.onnx", (30,), 2, 64, 512),
            Model("mlp", folder / "mlp" / "model.onnx", (784,), 10, 64, 512),
            Model("convnet", folder / "convnet" / "model.onnx", (3, 224, 224), 10, 16, 32, slow=True),
        )
    }
    for model in models.values():
        graph = _GRAPHS[model.name](model)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(made)
        model.path.parent.mkdir(exist_ok=True)
        if not model.path.is_file() or model.path.read_bytes() != made.SerializeToString():
            model.path.write_bytes(made.SerializeToString())
    return models


class _Graph:
    """A chain of layers with weights from a seed."""

    def __init__(self, model: Model, seed: int) -> None:
        self.model, self.random = model, np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.last = INPUT

    def add(self, kind: str, *weights: Array, **attributes: object) -> None:
        names = [f"w{len(self.weights) + i}" for i in range(len(weights))]
        self.weights += [
            numpy_helper.from_array(w.astype(np.float32), n) for w, n in zip(weights, names, strict=True)
        ]
        out = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, [self.last, *names], [out], **attributes))
        self.last = out

    def dense(self, inputs: int, outputs: int, gain: float = 2.0) -> None:
        weights = self.random.normal(0, (gain / inputs) ** 0.5, (inputs, outputs))
        self.add("Gemm", weights, self.random.normal(0, 0.1, outputs))

    def conv(self, inputs: int, outputs: int, stride: int) -> None:
        weights = self.random.normal(0, (2 / (inputs * 9)) ** 0.5, (outputs, inputs, 3, 3))
        bias = self.random.normal(0, 0.05, outputs)
        self.add("Conv", weights, bias, kernel_shape=[3, 3], strides=[stride, stride], pads=[1, 1, 1, 1])
        self.add("Relu")

    def done(self) -> onnx.GraphProto:
        self.nodes[-1].output[0] = OUTPUT
        given = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", *self.model.shape])
        taken = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", self.model.outputs])
        return helper.make_graph(self.nodes, self.model.name, [given], [taken], self.weights)


def _cancer() -> tuple[Array, Array]:
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    return data.data, data.target


def _logistic(model: Model) -> onnx.GraphProto:
    """Fitted on scaled features; the scaling is folded into the weights, so clients send raw features."""
    from sklearn.linear_model import LogisticRegression

    rows, target = _cancer()
    mean, scale = rows.mean(0), rows.std(0)
    fitted = LogisticRegression(C=0.01, max_iter=1000).fit((rows - mean) / scale, target)
    weights = np.round(fitted.coef_[0], 6) / scale
    bias = float(fitted.intercept_[0]) - float(weights @ mean)
    graph = _Graph(model, 0)
    graph.add("Gemm", np.stack([-weights, weights], 1), np.array([-bias, bias]))
    graph.add("Sigmoid")
    return graph.done()


def _mlp(model: Model) -> onnx.GraphProto:
    graph = _Graph(model, 1)
    for inputs, outputs in ((784, 512), (512, 512)):
        graph.dense(inputs, outputs)
        graph.add("Relu")
    graph.dense(512, 10)
    graph.add("Softmax", axis=1)
    return graph.done()


def _convnet(model: Model) -> onnx.GraphProto:
    graph = _Graph(model, 2)
    channels = 3
    for outputs, stride in ((32, 2), (64, 2), (96, 1), (128, 1), (160, 2), (192, 1), (256, 2), (256, 1)):
        graph.conv(channels, outputs, stride)
        channels = outputs
    graph.add("GlobalAveragePool")
    graph.add("Flatten")
    graph.dense(channels, model.outputs, gain=20.0)
    graph.add("Softmax", axis=1)
    return graph.done()


def _patients(model: Model) -> Array:
    """Mixtures of two real rows: as varied as the data, and as many as asked for."""
    rows, _ = _cancer()
    random = np.random.default_rng(10)
    first, second = (rows[random.integers(0, len(rows), model.inputs)] for _ in range(2))
    share = random.random((model.inputs, 1))
    return np.round(first * share + second * (1 - share), 4)


def _pictures(model: Model) -> Array:
    return np.round(np.random.default_rng(11).random((model.inputs, *model.shape)), 4)


def _photographs(model: Model) -> Array:
    """Coarse random tiles under fine noise: pictures that a convolutional net can tell apart."""
    random = np.random.default_rng(12)
    tiles = random.random((model.inputs, 3, 7, 7)).repeat(32, 2).repeat(32, 3)
    return np.round(0.9 * tiles + 0.1 * random.random((model.inputs, *model.shape)), 4)


_GRAPHS: dict[str, Callable[[Model], onnx.GraphProto]] = {
    "logistic": _logistic,
    "mlp": _mlp,
    "convnet": _convnet,
}
_INPUTS: dict[str, Callable[[Model], Array]] = {
    "logistic": _patients,
    "mlp": _pictures,
    "convnet": _photographs,
}
