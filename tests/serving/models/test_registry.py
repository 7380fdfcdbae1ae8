"""Models of a real MLflow server: resolved, verified, swapped, refused."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnx
import onnx_models
import pandas as pd
import pytest
from mlflow.entities.webhook import WebhookAction, WebhookEntity, WebhookEvent
from mlflow_server import SIGNATURE, MlflowServer, model_folder
from model_server.models.artifact import Artifact, digest_tree
from running_server import Server, infer_body, wait_until
from sklearn.linear_model import LinearRegression

BODY = infer_body([1, 2, 3], [1, 3])
Start = Callable[..., Server]


def settings(registry: MlflowServer, *models: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "registry": {"tracking_uri": registry.uri, "poll_seconds": 0.3, "retry_seconds": 5},
        "models": list(models),
        **more,
    }


def answer(server: Server, model: str = "m", version: str = "") -> tuple[str, float]:
    """Version and factor of the model that answers."""
    path = f"/v2/models/{model}/versions/{version}/infer" if version else f"/v2/models/{model}/infer"
    status, body, _ = server.post(path, BODY)
    assert status == 200, body
    first, second, third = body["outputs"][0]["data"]
    assert (second, third) == (2 * first, 3 * first)
    return body["model_version"], first


class Load:
    """Clients that ask without a pause; every answer must be of the version that it names."""

    def __init__(self, server: Server, factors: dict[str, float], clients: int = 3) -> None:
        self.server = server
        self.factors = factors
        self.wrong: list[Any] = []
        self.seconds: list[float] = []
        self.seen: set[str] = set()
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        while not self._done.is_set():
            began = time.monotonic()
            try:
                status, body, _ = self.server.post("/v2/models/m/infer", BODY)
                right = (
                    [self.factors[body["model_version"]] * x for x in (1, 2, 3)] if status == 200 else None
                )
                if status != 200 or body["outputs"][0]["data"] != right:
                    self.wrong.append((status, body))
                else:
                    self.seen.add(body["model_version"])
            except OSError as error:
                self.wrong.append(error)
            self.seconds.append(time.monotonic() - began)

    def stop(self) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()


def test_every_kind_of_reference_resolves(start: Start, registry: MlflowServer, tmp_path: Path) -> None:
    for number, factor in enumerate((1.0, 2.0, 3.0)):
        registry.register("kinds", model_folder(tmp_path / str(number), factor))
    registry.client.set_registered_model_alias("kinds", "champion", "2")
    mlflow.set_tracking_uri(registry.uri)
    path = onnx_models.scale(tmp_path / "logged.onnx", 4.0)
    with mlflow.start_run(experiment_id=registry.experiment) as run:
        info = mlflow.onnx.log_model(
            onnx.load(path), name="net", signature=SIGNATURE, pip_requirements=["onnxruntime"]
        )
        mlflow.log_artifact(str(path), "files")
    registry.client.create_registered_model("logged")
    registry.client.create_model_version("logged", info.model_uri, run.info.run_id, model_id=info.model_id)
    expected = {
        "models:/kinds/1": ("1", 1.0),
        "models:/kinds@champion": ("2", 2.0),
        "models:/kinds/latest": ("3", 3.0),
        "models:/kinds": ("3", 3.0),
        "models:/logged/1": ("1", 4.0),
        f"models:/{info.model_id}": ("1", 4.0),
        f"runs:/{run.info.run_id}/net": ("1", 4.0),
        f"runs:/{run.info.run_id}/files": ("1", 4.0),
    }
    models = [{"name": f"m{index}", "source": source} for index, source in enumerate(expected)]
    server = start(settings(registry, *models)).until_ready()
    found = {model["source"]: answer(server, model["name"]) for model in models}
    assert found == expected
    parameters = server.get("/v2/models/m1")[1]["parameters"]
    assert parameters["source"] == "models:/kinds/2"
    tree = digest_tree(tmp_path / "model-1")
    assert parameters["sha256"] == Artifact(tmp_path, "", tree).digest


def test_version_policies(start: Start, registry: MlflowServer, tmp_path: Path) -> None:
    for number, factor in enumerate((1.0, 2.0, 3.0)):
        registry.register("policy", model_folder(tmp_path / str(number), factor))
    registry.client.set_registered_model_alias("policy", "x", "1")
    policies = {"latest": {"latest": 2}, "specific": {"specific": ["1", "3"]}, "alias": {"alias": "x"}}
    models = [{"name": name, "source": "models:/policy", "versions": rule} for name, rule in policies.items()]
    server = start(settings(registry, *models)).until_ready()
    assert server.get("/v2/models/latest")[1]["versions"] == ["2", "3"]
    assert answer(server, "latest") == ("3", 3.0)
    assert answer(server, "latest", "2") == ("2", 2.0)
    assert server.post("/v2/models/latest/versions/1/infer", BODY)[0] == 404
    assert answer(server, "specific") == ("1", 1.0)
    assert answer(server, "specific", "3") == ("3", 3.0)
    assert answer(server, "alias") == ("1", 1.0)
    registry.register("policy", model_folder(tmp_path / "4", 4.0))
    wait_until(lambda: server.get("/v2/models/latest")[1]["versions"] == ["3", "4"])
    assert answer(server, "latest") == ("4", 4.0)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_alias_moves_under_load_and_nobody_notices(
    start: Start, registry: MlflowServer, tmp_path: Path, workers: int
) -> None:
    name = f"moving{workers}"
    for number, factor in enumerate((2.0, 5.0)):
        registry.register(name, model_folder(tmp_path / str(number), factor, golden_factor=factor))
    registry.client.set_registered_model_alias(name, "champion", "1")
    model = {"name": "m", "source": f"models:/{name}@champion"}
    server = start(settings(registry, model, server={"workers": workers})).until_ready()
    load = Load(server, {"1": 2.0, "2": 5.0})
    wait_until(lambda: len(load.seconds) > 100)
    for version in ("2", "1", "2"):
        registry.client.set_registered_model_alias(name, "champion", version)
        for index in range(workers):
            del index
            wait_until(lambda version=version: answer(server)[0] == version)
        # Every worker must have flipped, not only the one that was asked.
        wait_until(lambda version=version: {answer(server)[0] for _ in range(8)} == {version})
    load.stop()
    assert load.wrong == []
    assert load.seen == {"1", "2"}
    assert server.metric("model_server_model_change_refused", model="m") == 0


def test_a_version_with_other_golden_answers_does_not_become_ready(
    start: Start, registry: MlflowServer, tmp_path: Path
) -> None:
    registry.register("golden", model_folder(tmp_path / "1", 2.0, golden_factor=2.0))
    registry.register("golden", model_folder(tmp_path / "2", 3.0, golden_factor=2.0))
    registry.client.set_registered_model_alias("golden", "champion", "1")
    server = start(settings(registry, {"name": "m", "source": "models:/golden@champion"})).until_ready()
    load = Load(server, {"1": 2.0})
    registry.client.set_registered_model_alias("golden", "champion", "2")
    wait_until(lambda: server.metric("model_server_model_change_refused", model="m") == 1)
    status, body, _ = server.get("/v2/health/ready")
    assert status == 200
    (warning,) = body["warnings"]
    assert "version 1 goes on serving" in warning
    assert "models:/golden/2: golden request 0: output 'y': element 1: expected 2.0, got 3.0" in warning
    load.stop()
    assert load.wrong == []
    assert server.metric("model_server_model_loads_total", model="m", outcome="failed") == 1
    registry.client.set_registered_model_alias("golden", "champion", "1")
    wait_until(lambda: "warnings" not in server.get("/v2/health/ready")[1])
    alone = start(settings(registry, {"name": "m", "source": "models:/golden/2"}))
    assert alone.process.wait(timeout=60) == 3
    assert "golden request 0" in alone.log("cannot start")["message"]


def test_a_version_with_other_inputs_is_refused_unless_allowed(
    start: Start, registry: MlflowServer, tmp_path: Path
) -> None:
    registry.register("inputs", model_folder(tmp_path / "1", 2.0))
    registry.register("inputs", model_folder(tmp_path / "2", 3.0, width=5))
    source = {"source": "models:/inputs", "versions": {"specific": ["1"]}}
    server = start(settings(registry, {"name": "m", **source})).until_ready()
    assert answer(server) == ("1", 2.0)
    registry.client.set_registered_model_alias("inputs", "x", "1")
    models = [
        {"name": "strict", "source": "models:/inputs@x"},
        {"name": "free", "source": "models:/inputs@x", "allow_signature_change": True},
    ]
    server = start(settings(registry, *models)).until_ready()
    registry.client.set_registered_model_alias("inputs", "x", "2")
    wait_until(lambda: server.get("/v2/models/free")[1]["versions"] == ["2"])
    wait_until(lambda: server.get("/v2/health/ready")[1].get("warnings"))
    (warning,) = server.get("/v2/health/ready")[1]["warnings"]
    assert "input 'x' was [-1, 3] and is [-1, 5]" in warning
    assert answer(server, "strict") == ("1", 2.0)


def test_digests_are_compared_with_the_record(start: Start, registry: MlflowServer, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "1", 2.0)
    right = Artifact(folder, "", digest_tree(folder)).digest
    registry.register("digest", folder, tags={"sha256": right})
    registry.register("digest", folder, tags={"sha256": "0" * 64})
    models = [
        {"name": "tagged", "source": "models:/digest/1"},
        {"name": "wrong", "source": "models:/digest/2"},
        {"name": "set", "source": "models:/digest/1", "sha256": right},
        {"name": "set_wrong", "source": "models:/digest/1", "sha256": "1" * 64},
    ]
    server = start(settings(registry, *models))
    server.log("serving")
    rows = {row["name"]: row for row in server.post("/v2/repository/index")[1]}
    assert {name for name, row in rows.items() if row["state"] == "READY"} == {"tagged", "set"}
    assert f"SHA-256 is {right}, but the registry's tag sha256 says 000" in rows["wrong"]["reason"]
    assert "the settings' sha256 says 111" in rows["set_wrong"]["reason"]


def test_a_signature_that_does_not_fit_the_file_is_refused(
    start: Start, registry: MlflowServer, tmp_path: Path
) -> None:
    folder = model_folder(tmp_path / "1", 2.0)
    onnx_models.scale(folder / "model.onnx", 2.0, width=7)
    registry.register("unfit", folder)
    server = start(settings(registry, {"name": "m", "source": "models:/unfit/1"}))
    assert server.process.wait(timeout=60) == 3
    assert "input 'x' is [-1, 3] in one, [-1, 7] in the other" in server.log("cannot start")["message"]


def test_a_registry_that_is_down(start: Start, own_registry: MlflowServer, tmp_path: Path) -> None:
    registry = own_registry
    registry.register("down", model_folder(tmp_path / "1", 2.0))
    registry.client.set_registered_model_alias("down", "x", "1")
    model = {"name": "m", "source": "models:/down@x"}
    registry.stop()
    impatient = settings(registry, model)
    impatient["registry"]["retry_seconds"] = 1
    server = start(impatient)
    assert server.process.wait(timeout=60) == 3
    message = server.log("cannot start")["message"]
    assert f"{registry.uri}/api/2.0/mlflow/registered-models/alias" in message
    assert "cannot be reached" in message
    assert "tried" in message
    waiting = start({**impatient, "start_requires": "none", "server": {"workers": 2}})
    waiting.log("serving", times=2)
    assert "cannot be reached" in waiting.get("/v2/health/ready")[1]["error"]
    patient = start(
        settings(registry, model) | {"registry": {"tracking_uri": registry.uri, "retry_seconds": 60}}
    )
    registry.start()
    assert answer(patient.until_ready()) == ("1", 2.0)
    assert answer(waiting.until_ready()) == ("1", 2.0)
    registry.stop()
    wait_until(lambda: waiting.metric("model_server_source_unreachable", model="m") >= 1)
    status, body, _ = waiting.get("/v2/health/ready")
    assert status == 200
    assert "cannot be reached" in body.get("warnings", ["cannot be reached"])[0]
    # A worker that dies now comes back with what its sibling serves, out of the cache.
    worker = waiting.log("listening")["pid"]
    os.kill(worker, signal.SIGKILL)
    waiting.log("a worker died")
    waiting.until_ready()
    assert {answer(waiting) for _ in range(20)} == {("1", 2.0)}


def test_a_pickle_is_refused_unless_allowed_by_name(
    start: Start, registry: MlflowServer, tmp_path: Path
) -> None:
    rows = np.array([[1.0, 2.0], [2.0, 1.0], [3.0, 5.0]])
    model = LinearRegression().fit(rows, rows @ [2.0, 3.0])
    frame = pd.DataFrame(rows, columns=["a", "b"])
    folder = tmp_path / "sk"
    mlflow.sklearn.save_model(
        model,
        folder,
        signature=mlflow.models.infer_signature(frame, model.predict(rows)),
        pip_requirements=["scikit-learn"],
        serialization_format="cloudpickle",
        input_example=frame[:1],
    )
    registry.register("pickled", folder)
    models = [
        {"name": "refused", "source": "models:/pickled/1"},
        {"name": "allowed", "source": "models:/pickled/1", "allow_pickle": True},
    ]
    server = start(settings(registry, *models))
    # Importing MLflow and scikit-learn takes its time on a busy machine.
    wait_until(lambda: [entry for entry in server.logs if entry["message"] == "serving"], 150)
    rows_ = {row["name"]: row for row in server.post("/v2/repository/index")[1]}
    assert rows_["refused"]["state"] == "UNAVAILABLE"
    assert "allow_pickle: true" in rows_["refused"]["reason"]
    assert "runs code" in rows_["refused"]["reason"]
    inputs = server.get("/v2/models/allowed")[1]["inputs"]
    assert inputs == [{"name": name, "datatype": "FP64", "shape": [-1, 1]} for name in ("a", "b")]
    body = {
        "inputs": [
            {"name": "a", "datatype": "FP64", "shape": [2, 1], "data": [10.0, 20.0]},
            {"name": "b", "datatype": "FP64", "shape": [2, 1], "data": [1.0, 2.0]},
        ]
    }
    status, answer_, _ = server.post("/v2/models/allowed/infer", body)
    assert status == 200, answer_
    np.testing.assert_allclose(answer_["outputs"][0]["data"], [23.0, 46.0])


def test_a_webhook_of_mlflow_brings_the_change_at_once(
    start: Start, registry: MlflowServer, tmp_path: Path
) -> None:
    for number, factor in enumerate((2.0, 5.0)):
        registry.register("hooked", model_folder(tmp_path / str(number), factor))
    registry.client.set_registered_model_alias("hooked", "x", "1")
    calm = settings(registry, {"name": "m", "source": "models:/hooked@x"}, server={"workers": 2})
    calm["registry"]["poll_seconds"] = 0
    server = start(calm, MODEL_SERVER_WEBHOOK_SECRET="a secret").until_ready()
    url = f"http://{server.url}/v2/repository/webhook"
    event = WebhookEvent(WebhookEntity.MODEL_VERSION_ALIAS, WebhookAction.CREATED)
    registry.client.create_webhook("right", url, [event], secret="a secret")
    registry.client.create_webhook("forged", url, [event], secret="another secret")
    registry.client.set_registered_model_alias("hooked", "x", "2")
    wait_until(lambda: {answer(server)[0] for _ in range(8)} == {"2"})
    status, body, _ = server.post("/v2/repository/webhook", {"data": {"name": "hooked"}})
    assert (status, "X-MLflow-Signature" in body["error"]) == (401, True)
    closed = start(calm).until_ready()
    assert closed.post("/v2/repository/webhook", {})[0] == 404
