"""The plain protocol: named features in, named outputs out."""

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from iris import CLASSES, FEATURES, ROWS, probabilities, record
from running_server import Server

GOOD = record(ROWS[0])


def test_one_row(server: Server) -> None:
    for path in ("/predict/iris", "/predict/iris/versions/1", "/predict"):
        status, answer, _ = server.post(path, dict(reversed(GOOD.items())))
        assert (status, answer["model"], answer["version"]) == (200, "iris", "1"), answer
        scores = answer["prediction"]["probabilities"]
        assert list(scores) == CLASSES
        assert list(scores.values()) == pytest.approx(probabilities(ROWS)[0].tolist(), rel=1e-5)
        assert answer["prediction"]["label"] == max(scores, key=scores.__getitem__)


def test_many_rows(server: Server) -> None:
    status, answer, _ = server.post("/predict/iris", [record(row) for row in ROWS])
    assert status == 200
    labels = [CLASSES[at] for at in probabilities(ROWS).argmax(axis=1)]
    assert [row["label"] for row in answer["predictions"]] == labels


def test_names_are_made_up_where_the_model_has_none(server: Server) -> None:
    body = {"x[2]": 3, "x[0]": 1, "x[1]": 2}
    assert server.post("/predict/scale", body)[1]["prediction"] == {"y": [2, 4, 6]}


def test_several_inputs_and_types(server: Server) -> None:
    person = {"age": 40, "city": "Ålesund", "height": 1.5, "member": True}
    expected = {f"same_{name}": value for name, value in person.items()}
    assert server.post("/predict/person", person)[1]["prediction"] == expected
    del person["height"]
    expected["same_height"] = None
    assert server.post("/predict/person", person)[1]["prediction"] == expected


def test_types_of_the_signature(server: Server) -> None:
    home = {"rooms": 3, "garden": True, "area": 70.5}
    assert server.post("/predict/house", home)[1]["prediction"] == {"price": 74.5}
    assert "expected an integer" in server.post("/predict/house", {**home, "rooms": 3.5})[1]["error"]
    assert "expected true or false" in server.post("/predict/house", {**home, "garden": 1})[1]["error"]
    assert server.post("/predict/house", {"rooms": 3, "garden": True})[1]["prediction"] == {"price": None}


def test_deep_tensors_are_one_feature(server: Server) -> None:
    assert server.post("/predict/picture", {"pixels": [[1, 2], [3, 4]]})[1]["prediction"] == {"mean": 2.5}
    answer = server.post("/predict/picture", [{"pixels": [[1, 2], [3, 4]]}, {"pixels": [[1, 2], [3, "4"]]}])[
        1
    ]
    assert answer["error"].startswith("row 1, feature 'pixels'[1][1]: got the string '4'")


def test_class_labels_of_the_settings(start: Callable[..., Server], declared: list[dict]) -> None:
    iris = next(model for model in declared if model["name"] == "iris")
    server = start({"models": [{**iris, "class_labels": ["I", "II", "III"]}]}).until_ready()
    assert set(server.post("/predict", GOOD)[1]["prediction"]["probabilities"]) == {"I", "II", "III"}


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("iris", b"", "the body is empty"),
        ("iris", b'{"sepal length": NaN}', "not JSON"),
        ("iris", b'"x"', "expected an object of features, or a list"),
        ("iris", [], "the body is an empty list"),
        ("iris", [GOOD, 5], "row 1: got 5, expected an object of features"),
        ("iris", {}, "missing 'sepal length', 'sepal width', 'petal length', 'petal width'"),
        ("iris", dict.fromkeys(FEATURES[:3], 1), "missing 'petal width'"),
        (
            "iris",
            {**GOOD, "petal_width": 1},
            "'petal_width' is not a feature of this model; did you mean 'petal width'?",
        ),
        (
            "iris",
            {**dict.fromkeys(FEATURES[:3], 1), "petal_width": 1},
            "missing 'petal width'; is 'petal_width' meant to be it?",
        ),
        ("iris", {**GOOD, "colour": 1}, "'colour' is not a feature of this model; expected 'sepal length'"),
        (
            "iris",
            {**GOOD, "petal width": "0.2"},
            "feature 'petal width': got the string '0.2', expected a number",
        ),
        ("iris", {**GOOD, "petal width": None}, "feature 'petal width': got null, expected a number"),
        ("iris", {**GOOD, "petal width": [1]}, "feature 'petal width': got a list"),
        ("iris", {**GOOD, "petal width": 1e39}, "feature 'petal width': 1e+39 is out of range for FP32"),
        ("iris", [GOOD, {**GOOD, "petal width": True}], "row 1, feature 'petal width': got true"),
        (
            "person",
            {"age": 2**63, "city": "", "height": 1, "member": True},
            "feature 'age': 9223372036854775808 is out of range",
        ),
        (
            "person",
            {"age": 1, "city": 5, "height": 1, "member": True},
            "feature 'city': got 5, expected a string",
        ),
        ("constant", {"s": 1}, "an input without rows"),
    ],
)
def test_a_bad_request_says_what_and_where(server: Server, path: str, body: object, says: str) -> None:
    status, answer, _ = server.post(f"/predict/{path}", body)
    assert (status, list(answer)) == (400, ["error"]), answer
    assert says in answer["error"]


def test_unknown_model_and_method(server: Server) -> None:
    assert server.post("/predict/none", GOOD)[0] == 404
    assert server.post("/predict/iris/versions/7", GOOD)[0] == 404
    status, _, headers = server.get("/predict/iris")
    assert (status, headers["allow"]) == (405, "POST")


def test_deadline(server: Server) -> None:
    assert server.post("/predict/iris", GOOD, X_Request_Timeout="0")[0] == 504
    assert server.post("/predict/iris", GOOD, X_Request_Timeout="soon")[0] == 400


def test_errors_are_counted(server: Server) -> None:
    before = server.metric("model_server_errors_total", model="iris", kind="invalid_request")
    server.post("/predict/iris", {})
    assert server.metric("model_server_errors_total", model="iris", kind="invalid_request") == before + 1


PACKED = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "identity": bytes,
}


@pytest.mark.parametrize("coding", PACKED)
def test_compressed_bodies(server: Server, coding: str) -> None:
    import json

    body = PACKED[coding](json.dumps(GOOD).encode())
    assert server.post("/predict/iris", body, Content_Encoding=coding)[0] == 200
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}
    body = PACKED[coding](json.dumps({"inputs": [tensor]}).encode())
    assert server.post("/v2/models/scale/infer", body, Content_Encoding=coding)[0] == 200


def gzipped(data: bytes) -> bytes:
    """Without the time: parameters name their test, and every worker must find the same tests."""
    return gzip.compress(data, mtime=0)


@pytest.mark.parametrize(
    ("coding", "body", "status"),
    [
        ("gzip", gzipped(b" " * 10_000_000), 413),
        ("gzip", gzipped(b" " * 10_000_000)[:5000], 413),
        ("gzip", gzipped(b'{"a": 1}')[:-4], 400),
        ("gzip", b"{}", 400),
        ("gzip", gzipped(b"{}") + b"more", 400),
        ("br", b"{}", 415),
        ("gzip, gzip", gzipped(gzipped(b"{}")), 415),
    ],
)
def test_bad_compression(server: Server, coding: str, body: bytes, status: int) -> None:
    got, answer, _ = server.post("/predict/iris", body, Content_Encoding=coding)
    assert (got, list(answer)) == (status, ["error"]), answer


def test_tritonclient_compresses(start: Callable[..., Server], models: Path) -> None:
    import numpy as np
    import tritonclient.http

    server = start({"models": [{"name": "scale", "source": str(models / "scale.onnx")}]}).until_ready()
    client = tritonclient.http.InferenceServerClient(server.url)
    tensor = tritonclient.http.InferInput("x", [1, 3], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 3), np.float32))
    for coding in ("gzip", "deflate"):
        answer = client.infer("scale", [tensor], request_compression_algorithm=coding)
        assert answer.as_numpy("y").tolist() == [[2, 2, 2]]
    client.close()
