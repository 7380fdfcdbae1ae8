"""An example model from its data to ONNX."""

import logging
from typing import Any

import numpy as np
from skl2onnx import to_onnx
from sklearn.metrics import accuracy_score, log_loss

from stacks.models.catalog import Example, Floats
from stacks.models.trained import Trained


def train(name: str, example: Example, version: int) -> Trained:
    """Train one version, ask it about held-out rows and convert it."""
    logging.getLogger("skl2onnx").setLevel(logging.ERROR)
    estimator = example.train(version)
    rows, held_out, _, classes = example.data()
    sample = held_out[:3]
    return Trained(
        name=name,
        version=version,
        estimator=type(estimator).__name__,
        rows=len(rows),
        onnx=convert(estimator, rows),
        metrics={
            "accuracy": float(accuracy_score(classes, estimator.predict(held_out))),
            "log_loss": float(log_loss(classes, estimator.predict_proba(held_out))),
        },
        sample=sample,
        answers={
            "label": estimator.predict(sample),
            "probabilities": estimator.predict_proba(sample).astype(np.float32),
        },
    )


def convert(estimator: Any, rows: Floats) -> bytes:
    """The estimator as ONNX: `input` is FP32 [rows, features]; out come `label` and `probabilities`."""
    classifier = estimator[-1] if hasattr(estimator, "steps") else estimator
    model = to_onnx(estimator, rows[:1], options={id(classifier): {"zipmap": False}}, target_opset=17)
    graph = model.graph
    old = graph.input[0].name
    for node in graph.node:
        for index, source in enumerate(node.input):
            if source == old:
                node.input[index] = "input"
    graph.input[0].name = "input"
    return bytes(model.SerializeToString())
