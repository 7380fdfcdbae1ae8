"""TensorFlow Serving's REST interface, as its clients see it."""

import base64

import numpy as np
import pytest
from iris import CLASSES, ROWS, probabilities, record
from running_server import Server

IRIS = "/v1/models/iris"
PERSON = {"age": 40, "city": "Ålesund", "height": 1.8, "member": True}


def test_status(server: Server) -> None:
    available = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in (IRIS, f"{IRIS}/versions/1"):
        assert server.get(path)[:2] == (200, {"model_version_status": [available]})
    for path in ("/v1/models/none", f"{IRIS}/versions/9", f"{IRIS}/labels/stable"):
        status, answer, _ = server.get(path)
        assert (status, list(answer)) == (404, ["error"])


def test_metadata(server: Server) -> None:
    status, answer, _ = server.get(f"{IRIS}/metadata")
    assert status == 200
    assert answer["model_spec"] == {"name": "iris", "signature_name": "", "version": "1"}
    signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"] == {
        "X": {
            "dtype": "DT_FLOAT",
            "tensor_shape": {
                "dim": [{"size": "-1", "name": ""}, {"size": "4", "name": ""}],
                "unknown_rank": False,
            },
            "name": "X:0",
        }
    }
    assert signature["outputs"]["label"]["dtype"] == "DT_INT64"


@pytest.mark.parametrize("path", ["/v1/models/scale:predict", "/v1/models/scale/versions/1:predict"])
@pytest.mark.parametrize(
    "instances", [[[1, 2, 3], [4, 5, 6]], [{"x": [1, 2, 3]}, {"x": [4, 5, 6]}]], ids=["values", "named"]
)
def test_rows_of_a_single_output(server: Server, path: str, instances: list) -> None:
    assert server.post(path, {"instances": instances})[:2] == (200, {"predictions": [[2, 4, 6], [8, 10, 12]]})


def test_columns_of_a_single_output(server: Server) -> None:
    for inputs in ([[1, 2, 3]], {"x": [[1, 2, 3]]}):
        body = {"signature_name": "serving_default", "inputs": inputs}
        assert server.post("/v1/models/scale:predict", body)[:2] == (200, {"outputs": [[2, 4, 6]]})


def test_several_outputs_are_named(server: Server) -> None:
    _, rows, _ = server.post(f"{IRIS}:predict", {"instances": ROWS})
    _, columns, _ = server.post(f"{IRIS}:predict", {"inputs": ROWS})
    assert [row["label"] for row in rows["predictions"]] == columns["outputs"]["label"]
    for found in ([row["probabilities"] for row in rows["predictions"]], columns["outputs"]["probabilities"]):
        np.testing.assert_allclose(found, probabilities(ROWS), rtol=1e-5)


def test_several_inputs(server: Server) -> None:
    columns = {name: [[value]] for name, value in PERSON.items()}
    same = {f"same_{name}": [[value]] for name, value in PERSON.items()}
    status, answer, _ = server.post("/v1/models/person:predict", {"inputs": columns})
    assert status == 200
    answer["outputs"]["same_height"] = [[1.8]]
    assert answer == {"outputs": same}
    instances = [{name: [value] for name, value in PERSON.items()}] * 2
    status, answer, _ = server.post("/v1/models/person:predict", {"instances": instances})
    assert [row["same_city"] for row in answer["predictions"]] == [["Ålesund"], ["Ålesund"]]


def test_b64_is_bytes_both_ways(server: Server) -> None:
    person = {**PERSON, "city": {"b64": base64.b64encode("Ålesund".encode()).decode()}}
    body = {"instances": [{name: [value] for name, value in person.items()}]}
    status, answer, _ = server.post("/v1/models/person:predict", body)
    assert (status, answer["predictions"][0]["same_city"]) == (200, ["Ålesund"])


def test_a_tensor_without_rows(server: Server) -> None:
    assert server.post("/v1/models/constant:predict", {"inputs": 2.5})[1] == {"outputs": 2.5}


def test_deep_tensors(server: Server) -> None:
    pixels = [[1, 2], [3, 4]]
    assert server.post("/v1/models/picture:predict", {"instances": [pixels, pixels]})[1] == {
        "predictions": [2.5, 2.5]
    }


def test_classify_and_regress(server: Server) -> None:
    examples = [record(row) for row in ROWS[1:]]
    status, answer, _ = server.post(f"{IRIS}:classify", {"examples": examples})
    assert status == 200, answer
    assert [[label for label, _ in row] for row in answer["results"]] == [CLASSES] * 2
    found = [[score for _, score in row] for row in answer["results"]]
    np.testing.assert_allclose(found, probabilities(ROWS[1:]), rtol=1e-5)
    homes = {"context": {"garden": True}, "examples": [{"rooms": [3], "area": 70.5}, {"rooms": 4}]}
    assert server.post("/v1/models/house:regress", homes)[:2] == (200, {"results": [74.5, None]})


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("scale:predict", b"", "the body is empty"),
        ("scale:predict", b"{", "not JSON"),
        ("scale:predict", b'{"instances": [[NaN, 1, 2]]}', "not JSON"),
        ("scale:predict", [], "expected an object with instances or inputs"),
        ("scale:predict", {}, "exactly one of 'instances'"),
        ("scale:predict", {"inputs": [], "instances": []}, "exactly one of 'instances'"),
        ("scale:predict", {"instances": []}, "instances: got an empty list"),
        ("scale:predict", {"instances": {}}, "instances: got an object, expected a list"),
        (
            "scale:predict",
            {"instances": [[1, 2, 3], [1, 2]]},
            "instances[1]: got a list of 2, expected a list of 3",
        ),
        (
            "scale:predict",
            {"instances": [[1, 2, 3], [4, "x", 6]]},
            "instances[1][1]: got the string 'x', expected a number",
        ),
        ("scale:predict", {"instances": [[1, 2, True]]}, "instances[0][2]: got true, expected a number"),
        ("scale:predict", {"instances": [[1, 2, None]]}, "instances[0][2]: got null"),
        ("scale:predict", {"instances": [[1, 2, 1e300]]}, "instances[0][2]: 1e+300 is out of range for FP32"),
        ("scale:predict", {"instances": [[1, 2, [3]]]}, "instances[0][2]: got a list"),
        ("scale:predict", {"instances": [[1, 2]]}, "dimension 1 is 2, expected 3"),
        ("scale:predict", {"instances": [1]}, "instances[0]: got 1, expected a list"),
        ("scale:predict", {"instances": [{"z": [1, 2, 3]}]}, "instances[0]: missing 'x'"),
        ("scale:predict", {"instances": [{"x": [1, 2, 3]}, [1, 2, 3]]}, "instances[1]: got a list"),
        (
            "scale:predict",
            {"instances": [[1, 2, 3]], "signature_name": "other"},
            "signature_name: got 'other'",
        ),
        ("scale:predict", {"inputs": {"q": 1}}, "inputs: missing 'x'"),
        ("person:predict", {"inputs": [[1]]}, "expected an object with 'age'"),
        (
            "person:predict",
            {"instances": [{**{n: [v] for n, v in PERSON.items()}, "age": [1.5]}]},
            "instances[0].age[0]: got 1.5, expected an integer",
        ),
        (
            "person:predict",
            {"instances": [{**{n: [v] for n, v in PERSON.items()}, "city": [{"b64": "*"}]}]},
            "expected base64",
        ),
        ("constant:predict", {"instances": [1]}, "instances: got a list, expected a number"),
        ("scale:classify", {"examples": []}, "expected a list of objects"),
        ("house:classify", {"examples": [{}]}, "cannot classify"),
        ("echo:regress", {"examples": [{}]}, "cannot regress"),
        ("iris:classify", {"examples": [{"sepal lenght": 1}]}, "is 'sepal lenght' meant to be it?"),
    ],
)
def test_a_bad_request_says_what_and_where(server: Server, path: str, body: object, says: str) -> None:
    status, answer, _ = server.post(f"/v1/models/{path}", body)
    assert (status, list(answer)) == (400, ["error"]), answer
    assert says in answer["error"]


def test_wrong_method_and_type(server: Server) -> None:
    status, _, headers = server.get(f"{IRIS}:predict")
    assert (status, headers["allow"]) == (405, "POST")
    assert server.post(f"{IRIS}:predict", {"instances": ROWS}, Content_Type="text/csv")[0] == 415
    curl = "application/x-www-form-urlencoded"
    assert server.post(f"{IRIS}:predict", {"instances": ROWS}, Content_Type=curl)[0] == 200
