"""Train the example models and register them; versions that are there already are left alone.

The registry is the one that `MLFLOW_TRACKING_URI` names.
"""

import logging
import tempfile
from collections.abc import Mapping
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from model_server.golden import write_golden
from skl2onnx import to_onnx
from sklearn.metrics import accuracy_score, log_loss

from stacks.models.catalog import EXAMPLES, Example

ALIASES = ("champion", "challenger")
"""The alias of each version, the first one first."""


def main() -> None:
    """Register every version of every example."""
    logging.getLogger("skl2onnx").setLevel(logging.ERROR)
    client = mlflow.MlflowClient()
    mlflow.set_experiment("examples")
    for name, example in EXAMPLES.items():
        for version, alias in enumerate(ALIASES, start=1):
            if _registered(client, name, version):
                print(f"{name} version {version} is registered already")
            else:
                accuracy = register(name, version, example)
                print(f"{name} version {version} ({alias}): accuracy {accuracy:.3f} on held-out rows")
            # Also when it was there: a run that was killed may have got no further.
            client.set_registered_model_alias(name, alias, str(version))


def _registered(client: mlflow.MlflowClient, name: str, version: int) -> bool:
    try:
        client.get_model_version(name, str(version))
    except MlflowException:
        return False
    return True


def register(name: str, version: int, example: Example) -> float:
    """Train, convert to ONNX, log and register one version; returns its accuracy on held-out rows."""
    estimator = example.train(version)
    train, held_out, _, classes = example.data()
    onnx = convert(estimator, train)
    sample = held_out[:3]

    def answers(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        rows = inputs["input"]
        probabilities = estimator.predict_proba(rows).astype(np.float32)
        return {"label": estimator.predict(rows), "probabilities": probabilities}

    with mlflow.start_run(run_name=f"{name}-{version}"):
        accuracy = float(accuracy_score(classes, estimator.predict(held_out)))
        mlflow.log_params({"estimator": type(estimator).__name__, "rows": len(train)})
        mlflow.log_metrics(
            {"accuracy": accuracy, "log_loss": log_loss(classes, estimator.predict_proba(held_out))}
        )
        logged = mlflow.onnx.log_model(
            onnx,
            name=name,
            signature=infer_signature({"input": sample}, answers({"input": sample})),
            input_example={"input": sample},
            # Told rather than found out: MLflow would load the model in a new interpreter to see.
            pip_requirements=[f"onnxruntime=={version_of('onnxruntime')}"],
            onnx_execution_providers=["CPUExecutionProvider"],
        )
    # What scikit-learn answers travels along: a server that answers otherwise does not become ready.
    with tempfile.TemporaryDirectory() as folder:
        write_golden(Path(folder), [{"input": sample}], answers)
        mlflow.MlflowClient().log_model_artifacts(logged.model_id, folder)
    mlflow.register_model(logged.model_uri, name)
    return accuracy


def convert(estimator: Any, rows: np.ndarray) -> Any:
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
    return model


if __name__ == "__main__":
    main()
