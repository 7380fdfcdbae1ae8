"""A trained example into MLflow's registry."""

import tempfile
from importlib.metadata import version as version_of
from pathlib import Path

import mlflow
import onnx
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from model_server.golden import write_golden

from stacks.models.trained import Trained

ALIASES = {1: "champion", 2: "challenger"}
"""The alias of each version."""


def register(trained: Trained) -> str:
    """Log and register a version unless it is there already; returns what was done, for people."""
    client = mlflow.MlflowClient()
    name, version = trained.name, trained.version
    try:
        client.get_model_version(name, str(version))
        done = f"{name} version {version} is registered already"
    except MlflowException:
        _log(trained, client)
        done = f"{name} version {version}: accuracy {trained.metrics['accuracy']:.3f} on held-out rows"
    # Also when it was there: a run that was killed may have got no further.
    client.set_registered_model_alias(name, ALIASES[version], str(version))
    return done


def _log(trained: Trained, client: mlflow.MlflowClient) -> None:
    mlflow.set_experiment("examples")
    inputs = {"input": trained.sample}
    with mlflow.start_run(run_name=f"{trained.name}-{trained.version}"):
        mlflow.log_params({"estimator": trained.estimator, "rows": trained.rows})
        mlflow.log_metrics(dict(trained.metrics))
        logged = mlflow.onnx.log_model(
            onnx.load_from_string(trained.onnx),
            name=trained.name,
            signature=infer_signature(inputs, dict(trained.answers)),
            input_example=inputs,
            # Told rather than found out: MLflow would load the model in a new interpreter to see.
            pip_requirements=[f"onnxruntime=={version_of('onnxruntime')}"],
            onnx_execution_providers=["CPUExecutionProvider"],
        )
    # What scikit-learn answers travels along: a server that answers otherwise does not become ready.
    with tempfile.TemporaryDirectory() as folder:
        write_golden(Path(folder), [inputs], lambda _: trained.answers)
        client.log_model_artifacts(logged.model_id, folder)
    mlflow.register_model(logged.model_uri, trained.name)
