"""MLflow's scoring protocol, with MLflow's own client and by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from iris import CLASSES, FEATURES, ROWS, probabilities, record
from running_server import Server

SPLIT = {"dataframe_split": {"columns": FEATURES, "data": ROWS}}
SHUFFLED = [2, 0, 3, 1]


def check(predictions: Any) -> None:
    """Records of the iris model's outputs for ROWS."""
    expected = probabilities(ROWS)
    np.testing.assert_allclose([row["probabilities"] for row in predictions], expected, rtol=1e-5)
    assert [row["label"] for row in predictions] == expected.argmax(axis=1).tolist()


def test_mlflows_own_client(server: Server) -> None:
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    client = ScoringServerClient("127.0.0.1", server.port)
    client.wait_server_ready(timeout=10)
    assert client.get_version()
    frame = pd.DataFrame(ROWS, columns=FEATURES)
    answer = client.invoke(frame[[FEATURES[i] for i in SHUFFLED]], params={"ignored": 1})
    check(answer["predictions"])
    assert list(answer.get_predictions().columns) == ["label", "probabilities"]
    arrays = client.invoke(frame.to_numpy())["predictions"]
    np.testing.assert_allclose(arrays["probabilities"], probabilities(ROWS), rtol=1e-5)


def test_the_same_answers_as_mlflows_own_server(start: Callable[..., Server], tmp_path: Path) -> None:
    """The bodies that MLflow answers get the same answers here, but for float32's extra digits."""
    import mlflow.onnx
    import onnx
    import onnx_models
    from mlflow.models import infer_signature
    from mlflow.pyfunc import load_model
    from mlflow.pyfunc.scoring_server import invocations

    names = ["a", "b", "c"]
    frame = pd.DataFrame([[1.5, 2.5, 3.5], [4.0, 5.0, 6.0]], columns=names)
    onnx_models.scale(tmp_path / "scale.onnx")
    onnx_models.save(
        tmp_path / "sum.onnx",
        [onnx.helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)],
        [onnx_models.tensor("x", "FP32", ["n", 3])],
        [onnx_models.tensor("y", "FP32", ["n", 1])],
        {"axes": np.array([1], np.int64)},
    )
    mlflow.onnx.save_model(
        onnx.load(str(tmp_path / "sum.onnx")),
        str(tmp_path / "model"),
        signature=infer_signature(frame, pd.DataFrame({"y": [1.0]})),
    )
    theirs = load_model(str(tmp_path / "model"))
    ours = start({"models": [{"name": "sum", "source": str(tmp_path / "model")}]}).until_ready()
    bodies: list[dict[str, Any]] = [
        {"dataframe_split": {"columns": names[::-1], "data": [[3, 2, 1], [6.5, 5, 4]]}},
        {"dataframe_split": {"columns": [*names, "more"], "data": [[1, 2, 3, "x"]]}},
        {"dataframe_records": [{"a": 1, "b": 2, "c": 3}, {"c": 1.5, "b": 0, "a": 0}]},
    ]
    for body in bodies:
        raw = json.dumps(body)
        expected = invocations(raw, "application/json", theirs, theirs.metadata.get_input_schema())
        assert ours.post("/invocations", raw.encode())[:2] == (expected.status, json.loads(expected.response))
    csv = frame.to_csv(index=False)
    expected = invocations(csv, "text/csv", theirs, theirs.metadata.get_input_schema())
    got = ours.post("/invocations", csv.encode(), Content_Type="text/csv")
    assert got[:2] == (200, json.loads(expected.response))


@pytest.mark.parametrize(
    "body",
    [
        SPLIT,
        {"dataframe_split": {"data": ROWS}},
        {"dataframe_split": {"columns": [0, 1, 2, 3], "index": [7, 8, 9], "data": ROWS}},
        {"dataframe_split": {"columns": ["extra", *FEATURES], "data": [["x", *row] for row in ROWS]}},
        {
            "dataframe_split": {
                "columns": [FEATURES[i] for i in SHUFFLED],
                "data": [[row[i] for i in SHUFFLED] for row in ROWS],
            }
        },
        {"dataframe_records": [record(row) for row in ROWS]},
        {"dataframe_records": [{**record(row), "extra": None} for row in ROWS], "params": {"p": 1}},
    ],
)
def test_data_frames(server: Server, body: dict) -> None:
    status, answer, headers = server.post("/invocations", body)
    assert (status, headers["content-type"]) == (200, "application/json"), answer
    check(answer["predictions"])


@pytest.mark.parametrize(
    "body",
    [
        {"instances": ROWS},
        {"inputs": ROWS},
        {"inputs": {"X": ROWS}},
        {"instances": [record(row) for row in ROWS]},
        {"inputs": {name: [row[at] for row in ROWS] for at, name in enumerate(FEATURES)}},
    ],
)
def test_tensors(server: Server, body: dict) -> None:
    status, answer, _ = server.post("/invocations", body)
    assert status == 200, answer
    np.testing.assert_allclose(answer["predictions"]["probabilities"], probabilities(ROWS), rtol=1e-5)


@pytest.mark.parametrize("content_type", ["text/csv", "text/csv; charset=utf-8"])
def test_csv(server: Server, content_type: str) -> None:
    body = pd.DataFrame(ROWS, columns=FEATURES).to_csv(index=False)
    for text in (body, "\ufeff" + body.replace("\n", "\r\n")):
        status, answer, _ = server.post("/invocations", text.encode(), Content_Type=content_type)
        assert status == 200, answer
        check(answer["predictions"])


def test_csv_of_several_types(server: Server) -> None:
    text = 'city,age,member,height\n"Oslo, N",40,True,\n'
    headers = {"Content-Type": "text/csv", "X-Model-Name": "person"}
    status, answer, _ = server.request("POST", "/invocations", text.encode(), headers)
    same = {"same_age": 40, "same_city": "Oslo, N", "same_height": None, "same_member": True}
    assert (status, answer) == (200, {"predictions": [same]})


def test_several_inputs_and_nulls(server: Server) -> None:
    body = {"dataframe_split": {"columns": ["member", "age", "city"], "data": [[False, 7, "x"]]}}
    _, answer, _ = server.post("/invocations", body, X_Model_Name="person", X_Model_Version="1")
    same = {"same_age": 7, "same_city": "x", "same_height": None, "same_member": False}
    assert answer == {"predictions": [same]}
    inputs = {"age": [1, 2], "city": ["a", "b"], "height": [1.5, None], "member": [True, False]}
    _, answer, _ = server.post("/invocations", {"inputs": inputs}, X_Model_Name="person")
    assert answer["predictions"]["same_height"] == [[1.5], [None]]


def test_health(server: Server) -> None:
    assert server.get("/ping")[0] == server.get("/health")[0] == 200
    assert server.get("/version")[1] == b"3.0.0"


def test_which_model_answers(start: Callable[..., Server], models: Path) -> None:
    scale, lookup = ({"name": n, "source": str(models / f"{n}.onnx")} for n in ("scale", "lookup"))
    body = {"inputs": [[1, 2, 3]]}
    only = start({"models": [scale]}).until_ready()
    assert only.post("/invocations", body)[1] == {"predictions": {"y": [[2, 4, 6]]}}
    both = start({"models": [scale, lookup]}).until_ready()
    status, answer, _ = both.post("/invocations", body)
    assert status == 404
    assert "'scale', 'lookup'; name one in the X-Model-Name header" in answer["error"]
    assert both.post("/invocations", body, X_Model_Name="scale")[0] == 200
    assert both.post("/invocations", body, X_Model_Name="none")[0] == 404
    configured = start({"models": [scale, lookup], "default_model": "scale"}).until_ready()
    assert configured.post("/invocations", body)[0] == 200
    wrong = start({"models": [scale], "default_model": "scall"})
    assert wrong.process.wait(timeout=20) == 2
    assert any("default_model: 'scall' is not among the models" in e["message"] for e in wrong.logs)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "the body is empty"),
        (b"[1]", "the body is a list, expected an object with one of dataframe_split"),
        ({}, "the body has nothing"),
        ({"data": []}, "the body has 'data'"),
        ({"inputs": ROWS, "instances": ROWS}, "the body has instances and inputs, expected exactly one"),
        ({**SPLIT, "params": [1]}, "params: got [1], expected an object"),
        ({"dataframe_split": []}, "dataframe_split: got a list, expected an object"),
        ({"dataframe_split": {"columns": FEATURES}}, "dataframe_split.data: got null"),
        ({"dataframe_split": {"data": ROWS, "rows": 1}}, "unknown 'rows'"),
        ({"dataframe_split": {"columns": "a", "data": ROWS}}, "dataframe_split.columns: got the string 'a'"),
        ({"dataframe_split": {"columns": FEATURES, "data": [[1, 2]]}}, "data[0]: has 2 values, expected 4"),
        ({"dataframe_split": {"columns": FEATURES, "data": [5]}}, "row 0: got 5, expected a list"),
        ({"dataframe_split": {"data": [[1, 2]]}}, "row 0: has 2 values, expected 4"),
        (
            {"dataframe_split": {"columns": ["sepal lenght", *FEATURES[1:]], "data": ROWS}},
            "missing 'sepal length'; is 'sepal lenght' meant to be it?",
        ),
        (
            {"dataframe_split": {"columns": FEATURES, "data": [ROWS[0], [1, "big", 3, 4]]}},
            "dataframe_split row 1, column 'sepal width': got the string 'big', expected a number",
        ),
        ({"dataframe_records": {}}, "dataframe_records: got an object, expected a list"),
        ({"dataframe_records": [record(ROWS[0]), 3]}, "dataframe_records row 1: got 3"),
        ({"dataframe_records": [{**record(ROWS[0]), "sepal width": True}]}, "column 'sepal width': got true"),
        ({"dataframe_records": [{**record(ROWS[0]), "sepal width": 1e60}]}, "out of range for FP32"),
        ({"inputs": {name: [1, 2] if at else [1] for at, name in enumerate(FEATURES)}}, "differ in length"),
        ({"inputs": {"sepal length": [1]}}, "missing 'sepal width', 'petal length', 'petal width'"),
        ({"instances": [[1, 2, 3, "4"]]}, "instances[0][3]: got the string '4'"),
    ],
)
def test_a_bad_request_says_what_and_where(server: Server, body: object, says: str) -> None:
    status, answer, _ = server.post("/invocations", body)
    assert (status, list(answer)) == (400, ["error"]), answer
    assert says in answer["error"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the body is empty"),
        ("a,b\n1,2\n", "missing 'sepal length'"),
        (",".join(FEATURES) + "\n1,2,3\n", "csv row 0: has 3 values, expected 4"),
        (",".join(FEATURES) + "\n1,2,3,4\n1,2,x,4\n", "csv row 1, column 'petal length': got the string 'x'"),
        (",".join(FEATURES) + '\n1,2,3,"4\n', "not CSV"),
    ],
)
def test_bad_csv(server: Server, text: str, says: str) -> None:
    status, answer, _ = server.post("/invocations", text.encode(), Content_Type="text/csv")
    assert status == 400
    assert says in answer["error"]
    assert server.post("/invocations", b"\xff\xfe", Content_Type="text/csv")[0] == 400


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/xml", "application/json; charset=latin-1"]
)
def test_other_content_types_are_415(server: Server, content_type: str) -> None:
    assert server.post("/invocations", SPLIT, Content_Type=content_type)[0] == 415


def test_classes_are_named_by_the_plain_protocol_only(server: Server) -> None:
    """MLflow's answers carry the model's own outputs."""
    assert isinstance(server.post("/invocations", SPLIT)[1]["predictions"][0]["label"], int)
    assert server.post("/predict/iris", record(ROWS[0]))[1]["prediction"]["label"] in CLASSES
