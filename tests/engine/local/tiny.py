"""Models so small that a stack of them is up in seconds; an answer tells which version gave it."""

import json
import random
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tritonclient.grpc
import tritonclient.utils
from onnx import TensorProto, helper, numpy_helper

from tests.engine.local.load import Request
from tests.engine.local.stack import LocalStack, get

ENDPOINT = "tiny"
MODEL_PATH = f"/v2/models/{ENDPOINT}"


def model(folder: Path, factor: int) -> str:
    """The model file of y = factor * x."""
    file = folder / "models" / f"times{factor}.onnx"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        shape = ["rows", 3]
        graph = helper.make_graph(
            [helper.make_node("Mul", ["x", "factor"], ["y"])],
            "times",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
            [numpy_helper.from_array(np.array(factor, np.float32), "factor")],
        )
        onnx.save(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(file)
        )
    return str(file)


def endpoint(stack: LocalStack, factors: Mapping[str, int], traffic: Mapping[str, int], **more: Any) -> Any:
    """An endpoint block: each variant multiplies by its factor."""
    variants = {name: {"model": model(stack.home, factor)} for name, factor in factors.items()}
    return {"variants": variants, "traffic": dict(traffic), **more}


def configure(
    stack: LocalStack, factors: Mapping[str, int], traffic: Mapping[str, int], replicas: int = 1, **more: Any
) -> bool:
    """Write a stack file with one endpoint; whether that changes it."""
    block = endpoint(stack, factors, traffic, scaling={"min": replicas}, **more)
    return stack.configure(endpoints={ENDPOINT: block})


def request(headers: Mapping[str, str] | None = None, up_to: int = 1000) -> Request:
    """A request with numbers of its own, so that no other request's answer fits."""
    x = [random.randint(1, up_to) for _ in range(3)]  # small enough to be exact
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": x}
    body = json.dumps({"inputs": [tensor]}).encode()
    return Request(f"{MODEL_PATH}/infer", body, lambda answer: factor(x, answer), headers or {})


def factor(x: list[int], answer: bytes) -> str:
    """What an answer multiplied by.

    Raises:
        ValueError: it is no multiple of `x`.
    """
    y = json.loads(answer)["outputs"][0]["data"]
    quotients = {result / number for result, number in zip(y, x, strict=True)}
    if len(quotients) != 1:
        raise ValueError(f"{x} gave {y}")
    return f"{quotients.pop():g}"


def ask(url: str, headers: Mapping[str, str] | None = None) -> str:
    """The factor that one request is answered with."""
    one = request(headers)
    status, text = get(url + one.path, {"content-type": "application/json", **one.headers}, data=one.body)
    assert status == 200, f"{status}: {text}"
    return factor(json.loads(one.body)["inputs"][0]["data"], text.encode())


def fail_by_grpc(address: str, variant: str, authority: str | None = None) -> None:
    """Call a variant three times over gRPC: rightly, with a number of 999, and for a model that is not there.

    The last one is the client's fault.
    """
    channel = [("grpc.default_authority", authority)] if authority else None
    with tritonclient.grpc.InferenceServerClient(address, channel_args=channel) as client:
        for first, name in ((1, ENDPOINT), (999, ENDPOINT), (1, "nobody")):
            x = tritonclient.grpc.InferInput("x", [1, 3], "FP32")
            x.set_data_from_numpy(np.array([[first, 2, 3]], np.float32))
            with suppress(tritonclient.utils.InferenceServerException):
                client.infer(name, [x], headers={"x-variant": variant})
