"""Open Inference Protocol over REST: what a client sees."""

import json

import numpy as np
import pytest
from onnx_models import ELEMENT_TYPES
from running_server import Server, infer_body

VALUES = {
    "BOOL": [True, False],
    "UINT8": [0, 255],
    "UINT16": [0, 65535],
    "UINT32": [0, 2**32 - 1],
    "UINT64": [0, 2**64 - 1],
    "INT8": [-128, 127],
    "INT16": [-32768, 32767],
    "INT32": [-(2**31), 2**31 - 1],
    "INT64": [-(2**63), 2**63 - 1],
    "FP16": [0.5, -2.0],
    "FP32": [1.5, -3.25],
    "FP64": [0.1, 1e300],
    "BYTES": ["", "grüße 🦀"],
}


def echo_inputs(nested: bool = False) -> list[dict]:
    return [
        {"name": f"in_{t}", "datatype": t, "shape": [1, 2], "data": [VALUES[t]] if nested else VALUES[t]}
        for t in ELEMENT_TYPES
    ]


def test_health_and_metadata(shared: Server) -> None:
    assert shared.get("/v2/health/live")[0] == 200
    assert shared.get("/v2/health/ready")[:2] == (200, {"ready": True})
    status, metadata, _ = shared.get("/v2")
    assert status == 200
    assert {"name", "version", "extensions"} <= metadata.keys()
    for path in ("/v2/models/scale", "/v2/models/scale/versions/1"):
        metadata = shared.get(path)[1]
        parameters = metadata.pop("parameters")
        assert (parameters["version"], len(parameters["sha256"])) == ("1", 64)
        assert metadata == {
            "name": "scale",
            "versions": ["1"],
            "platform": "onnx_onnxv1",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
        }
        assert shared.get(f"{path}/ready")[0] == 200


@pytest.mark.parametrize("path", ["/v2/models/scale/infer", "/v2/models/scale/versions/1/infer"])
def test_infer(shared: Server, path: str) -> None:
    status, answer, _ = shared.post(path, infer_body([1, 2, 3, 4, 5, 6], [2, 3], id="abc"))
    assert status == 200
    assert answer == {
        "model_name": "scale",
        "model_version": "1",
        "id": "abc",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 3], "data": [2, 4, 6, 8, 10, 12]}],
    }


@pytest.mark.parametrize("nested", [False, True])
def test_every_datatype_both_ways(shared: Server, nested: bool) -> None:
    status, answer, _ = shared.post("/v2/models/echo/infer", {"inputs": echo_inputs(nested)})
    assert status == 200, answer
    assert {o["name"]: o["data"] for o in answer["outputs"]} == {f"out_{t}": v for t, v in VALUES.items()}


def test_only_the_outputs_asked_for_in_their_order(shared: Server) -> None:
    body = {"inputs": echo_inputs(), "outputs": [{"name": "out_INT8"}, {"name": "out_BOOL"}]}
    answer = shared.post("/v2/models/echo/infer", body)[1]
    assert [output["name"] for output in answer["outputs"]] == ["out_INT8", "out_BOOL"]


def test_big_json_gives_the_same_as_small(shared: Server) -> None:
    values = np.random.default_rng(1).standard_normal(3000).astype(np.float32)
    flat = shared.post("/v2/models/scale/infer", infer_body([float(v) for v in values], [1000, 3]))[1]
    nested = shared.post("/v2/models/scale/infer", infer_body(values.reshape(1000, 3).tolist(), [1000, 3]))[1]
    assert flat == nested
    np.testing.assert_allclose(flat["outputs"][0]["data"], values * 2, rtol=1e-6)


def binary(document: dict, *blobs: bytes) -> tuple[bytes, dict[str, str]]:
    head = json.dumps(document).encode()
    return b"".join((head, *blobs)), {"Inference-Header-Content-Length": str(len(head))}


def test_binary_in_and_out(shared: Server) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, 3], "parameters": {"binary_data_size": x.nbytes}}
    body, headers = binary({"inputs": [tensor], "parameters": {"binary_data_output": True}}, x.tobytes())
    status, answer, got = shared.request("POST", "/v2/models/scale/infer", body, headers)
    assert status == 200
    size = int(got["inference-header-content-length"])
    head = json.loads(answer[:size])
    assert head["outputs"][0]["parameters"] == {"binary_data_size": 24}
    np.testing.assert_array_equal(np.frombuffer(answer[size:], np.float32).reshape(2, 3), x * 2)


def test_raw_body(shared: Server) -> None:
    x = np.arange(6, dtype=np.float32)
    headers = {"Inference-Header-Content-Length": "0"}
    status, answer, got = shared.request("POST", "/v2/models/scale/infer", x.tobytes(), headers)
    assert status == 200
    blob = answer[int(got["inference-header-content-length"]) :]
    np.testing.assert_array_equal(np.frombuffer(blob, np.float32), x * 2)


def bad(**changes: object) -> dict:
    tensor: dict = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}
    tensor.update(changes)
    return {"inputs": [{key: value for key, value in tensor.items() if value is not ...}]}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "the body is empty"),
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        ({}, "inputs: expected a list"),
        ({"inputs": [5]}, "inputs[0]: expected an object"),
        ({"inputs": []}, "missing 'x'"),
        (bad(name="z"), "inputs[0].name: got 'z', expected one of 'x'"),
        (bad(name=["x"]), "inputs[0].name"),
        (bad(datatype="FP64"), "inputs[0].datatype: got 'FP64', expected 'FP32'"),
        (bad(shape=[1, 4]), "dimension 1 is 4, expected 3"),
        (bad(shape=[3]), "has 1 dimensions, expected 2"),
        (bad(shape=[-1, 3]), "inputs[0].shape: expected a list of integers"),
        (bad(shape=[True, 3]), "inputs[0].shape: expected a list of integers"),
        (bad(shape=[10**15, 3]), "3 elements, expected"),
        (bad(shape=[10**30, 3]), "expected a list of integers"),
        (bad(shape="x"), "inputs[0].shape"),
        (bad(data=[1, 2]), "2 elements, expected 3"),
        (bad(data=[1, 2, None]), "element 2 is null, expected numbers"),
        (bad(data=[1, True, 3]), "element 1 is true, expected numbers"),
        (bad(data=["1", 2, 3]), "element 0 is the string '1', expected numbers"),
        (bad(data=[1e39, 2, 3]), "element 0 is 1e+39, out of range for FP32"),
        (bad(data=[[1, 2], [3]]), "nested data has 2 elements along dimension 0"),
        (bad(data=...), "has neither data nor"),
        (bad(parameters={"binary_data_size": 4}), "both data and parameters.binary_data_size"),
        (bad(parameters={"binary_data_size": -4}, data=...), "expected a number of bytes"),
        (bad(parameters={"binary_data_size": 12}, data=...), "runs past the binary data"),
        ({**bad(), "outputs": [{"name": "q"}]}, "outputs[0].name: got 'q', expected one of 'y'"),
        ({**bad(), "id": 5}, "id: expected a string"),
        ({**bad(), "parameters": []}, "parameters: expected an object"),
    ],
)
def test_a_bad_request_says_what_where_and_what_was_expected(shared: Server, body: object, says: str) -> None:
    status, answer, _ = shared.post("/v2/models/scale/infer", body)
    assert status == 400, answer
    assert list(answer) == ["error"]
    assert says in answer["error"]


@pytest.mark.parametrize("data", [[1.5, 2], ["1", 2], [2**63, 0], [True, 1]])
def test_integers_are_integers(shared: Server, data: list) -> None:
    inputs = [t if t["datatype"] != "INT64" else {**t, "data": data} for t in echo_inputs()]
    assert shared.post("/v2/models/echo/infer", {"inputs": inputs})[0] == 400


@pytest.mark.parametrize(
    "path", ["/v2/models/none", "/v2/models/scale/versions/9/infer", "/v3", "/v2/models//infer"]
)
def test_unknown_things_are_404(shared: Server, path: str) -> None:
    status, answer, _ = shared.request("POST" if path.endswith("infer") else "GET", path, b"{}")
    assert status == 404
    assert "error" in answer


def test_wrong_method_names_the_right_ones(shared: Server) -> None:
    status, _, headers = shared.get("/v2/models/scale/infer")
    assert status == 405
    assert headers["allow"] == "POST"


def test_a_fault_of_the_model_is_its_own(shared: Server) -> None:
    status, answer, _ = shared.post("/v2/models/lookup/infer", infer_body([99], [1], "index", "INT64"))
    assert status == 500
    assert "the model failed" in answer["error"]
    good = shared.post("/v2/models/lookup/infer", infer_body([3], [1], "index", "INT64"))[1]
    assert good["outputs"][0]["data"] == [30]


def test_repository_index(shared: Server) -> None:
    rows = shared.post("/v2/repository/index")[1]
    assert {"name": "scale", "version": "1", "state": "READY", "reason": ""} in rows
