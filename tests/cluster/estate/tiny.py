"""Models so small that they load at once, registered by a program that needs nothing but MLflow."""

import base64
import http.client
import json
import random
from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ENDPOINT = "tiny"

# Runs in the cluster, in the image of the registry: the models travel with the program.
_SEED = """
import base64, json, os, sys, tempfile
from mlflow import MlflowClient
client = MlflowClient()
known = {model.name for model in client.search_registered_models()}
for name, versions in json.loads(sys.argv[1]).items():
    if name in known:
        continue
    client.create_registered_model(name)
    for content in versions:
        run = client.create_run("0")
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "model.onnx"), "wb") as file:
                file.write(base64.b64decode(content))
            with open(os.path.join(folder, "MLmodel"), "w") as file:
                json.dump({"flavors": {"onnx": {"data": "model.onnx", "onnx_version": "1"}}}, file)
            client.log_artifacts(run.info.run_id, folder, "model")
        version = client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id)
        print("registered", name, version.version)
"""


def seed(factors: Iterable[int]) -> dict[str, object]:
    """The seed block that registers `models:/tiny/1`, `/2`, …: version n multiplies by the n-th factor."""
    models = {ENDPOINT: [base64.b64encode(model(factor)).decode() for factor in factors]}
    return {"command": ["python3", "-c", _SEED, json.dumps(models)], "timeout_s": 300}


def model(factor: int) -> bytes:
    """The ONNX model of y = factor * x."""
    shape = ["rows", 3]
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        "times",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.array(factor, np.float32), "factor")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


def ask(
    gateway: str, host: str, headers: Mapping[str, str] | None = None, connection: object = None
) -> tuple[int, str]:
    """Ask the endpoint once: the factor of the answer and the variant that it says it is from.

    Args:
        gateway: `host:port` at which the gateway is reached.
        host: the endpoint's host name.
        headers: further headers.
        connection: a connection to use again; a new one where there is none.

    Raises:
        AssertionError: the answer is not a right one.
    """
    x = [random.randint(1, 1000) for _ in range(3)]  # small enough to be exact
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": x}]})
    used = connection if isinstance(connection, http.client.HTTPConnection) else None
    link = used or http.client.HTTPConnection(gateway, timeout=30)
    link.request("POST", f"/v2/models/{ENDPOINT}/infer", body, {"Host": host, **(headers or {})})
    answer = link.getresponse()
    text = answer.read().decode()
    assert answer.status == 200, f"{answer.status}: {text}"
    if used is None:
        link.close()
    y = json.loads(text)["outputs"][0]["data"]
    factors = {result / number for result, number in zip(y, x, strict=True)}
    assert len(factors) == 1, f"{x} gave {y}"
    return int(factors.pop()), answer.headers["x-variant"] or ""
