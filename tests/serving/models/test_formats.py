"""ONNX and pyfunc files of every awkward kind: served, or refused with the reason and the mend."""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnx
import onnx_models
import pandas as pd
import pytest
from mlflow.types import ColSpec, Schema
from model_server.errors import LoadFailed, ModelFailed
from model_server.models.artifact import Artifact, digest_tree
from model_server.models.format import LoadOptions, Model
from model_server.models.formats import load_artifact
from model_server.models.mlmodel import check_signature, read_example
from onnx import TensorProto, helper, numpy_helper

X = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])


def save(
    path: Path, nodes: list, inputs: list, outputs: list, opset: int = 17, ir: int = 10, **more: Any
) -> Path:
    graph = helper.make_graph(nodes, "g", inputs, outputs, **more)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = ir
    path.write_bytes(model.SerializeToString())
    return path


def load(root: Path, **options: Any) -> Model:
    return load_artifact(Artifact(root, str(root), digest_tree(root)), LoadOptions(threads=1, **options))


def refused(root: Path, says: str) -> None:
    with pytest.raises(LoadFailed, match=says):
        load(root)


def test_what_onnx_runtime_does_not_know_is_explained(tmp_path: Path) -> None:
    relu = [helper.make_node("Relu", ["x"], ["y"])]
    refused(save(tmp_path / "a.onnx", relu, [X], [Y], opset=99), "needs opset 99.*lower opset_version")
    refused(save(tmp_path / "b.onnx", relu, [X], [Y], ir=99), "IR version 99.*older onnx package")
    good = save(tmp_path / "c.onnx", relu, [X], [Y]).read_bytes()
    for index, content in enumerate((b"", b"no model at all", good[:30])):
        (tmp_path / f"{index}.onnx").write_bytes(content)
        refused(tmp_path / f"{index}.onnx", "not an ONNX model, or only a part of one")
    custom = [helper.make_node("Nope", ["x"], ["y"], domain="my.ops")]
    refused(save(tmp_path / "d.onnx", custom, [X], [Y]), "my.ops")


def test_external_data_is_loaded_digested_and_missed(tmp_path: Path) -> None:
    weights = numpy_helper.from_array(np.full((2, 2), 3, np.float32), "w")
    matmul = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = save(tmp_path / "m.onnx", matmul, [X], [Y], initializer=[weights])
    onnx.save_model(onnx.load(path), path, save_as_external_data=True, location="w.data", size_threshold=0)
    (result,) = load(path).run({"x": np.ones((1, 2), np.float32)}, ["y"])
    assert result.tolist() == [[6, 6]]
    assert sorted(digest_tree(path)) == ["m.onnx", "w.data"]
    data = tmp_path / "w.data"
    data.write_bytes(data.read_bytes()[:4])
    refused(path, "external data.*cannot be used")
    data.unlink()
    refused(path, "external data.*does not exist")
    proto = onnx.load(path, load_external_data=False)
    proto.graph.initializer[0].external_data[0].value = "../../etc/hostname"
    path.write_bytes(proto.SerializeToString())
    refused(path, "external data.*escapes")


def test_no_inputs_dynamic_dimensions_and_text(tmp_path: Path) -> None:
    value = helper.make_tensor("v", TensorProto.FLOAT, [2], [1, 2])
    fixed = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    model = load(
        save(tmp_path / "a.onnx", [helper.make_node("Constant", [], ["y"], value=value)], [], [fixed])
    )
    assert model.run({}, ["y"])[0].tolist() == [1, 2]
    text_in = helper.make_tensor_value_info("x", TensorProto.STRING, ["n", "m", 3])
    text_out = helper.make_tensor_value_info("y", TensorProto.STRING, ["n", "m", 3])
    model = load(
        save(tmp_path / "b.onnx", [helper.make_node("Identity", ["x"], ["y"])], [text_in], [text_out])
    )
    assert model.signature.inputs[0].shape == (-1, -1, 3)
    words = np.array([[[b"a", "é".encode(), b""]]], object)
    assert model.run({"x": words}, ["y"])[0].tolist() == [[["a", "é", ""]]]


def test_class_probabilities_as_maps_become_a_matrix(tmp_path: Path) -> None:
    classifier = helper.make_node(
        "LinearClassifier",
        ["x"],
        ["label", "p"],
        domain="ai.onnx.ml",
        coefficients=[1.0, 0.0, 0.0, 1.0],
        intercepts=[0.0, 0.0],
        classlabels_ints=[0, 1],
        post_transform="SOFTMAX",
    )
    zipmap = helper.make_node("ZipMap", ["p"], ["prob"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    number = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    maps = helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.INT64, number))
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
        helper.make_value_info("prob", maps),
    ]
    model = load(save(tmp_path / "m.onnx", [classifier, zipmap], [X], outputs))
    assert model.signature.outputs_by_name["prob"].shape == (-1, -1)
    label, probabilities = model.run({"x": np.float32([[9, 0], [0, 0], [0, 9]])}, ["label", "prob"])
    assert label.tolist() == [0, 0, 1]
    np.testing.assert_allclose(probabilities, [[1, 0], [0.5, 0.5], [0, 1]], atol=1e-3)
    assert model.run({"x": np.zeros((0, 2), np.float32)}, ["prob"])[0].shape == (0, 0)


def test_sequences_of_tensors_are_refused(tmp_path: Path) -> None:
    sequence = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    node = helper.make_node("SequenceConstruct", ["x", "x"], ["s"])
    path = save(tmp_path / "m.onnx", [node], [X], [helper.make_value_info("s", sequence)])
    refused(path, r"'s' is seq\(tensor\(float\)\), which is not a tensor.*export the model with tensors")


def test_an_mlmodel_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    onnx_models.scale(tmp_path / "outside.onnx")
    (folder / "MLmodel").write_text("flavors: {onnx: {data: ../outside.onnx}}")
    refused(folder, "names the file '../outside.onnx', which is not there")


class Doubler(mlflow.pyfunc.PythonModel):
    """Answers in the form it was told to."""

    def __init__(self, form: str) -> None:
        self.form = form

    def predict(self, context, model_input, params=None):
        if self.form == "frame":
            return pd.DataFrame({"twice": model_input["a"] * 2, "word": model_input["s"].str.upper()})
        if self.form == "named":
            return {"sum": model_input["p"] + model_input["q"]}
        if self.form == "liar":
            return np.array(["text"] * len(model_input))
        return model_input * 2


def pyfunc(folder: Path, form: str, inputs: Schema, outputs: Schema | None) -> Path:
    mlflow.pyfunc.save_model(
        folder,
        python_model=Doubler(form),
        signature=mlflow.models.ModelSignature(inputs, outputs),
        pip_requirements=[],
    )
    return folder


def test_pyfunc_with_columns(tmp_path: Path) -> None:
    folder = pyfunc(
        tmp_path / "m",
        "frame",
        Schema([ColSpec("long", "a"), ColSpec("string", "s")]),
        Schema([ColSpec("long", "twice"), ColSpec("string", "word")]),
    )
    refused(folder, "refused: its loader mlflow.pyfunc.model restores Python objects.*allow_pickle: true")
    model = load(folder, allow_pickle=True)
    assert [spec.metadata()["datatype"] for spec in model.signature.inputs] == ["INT64", "BYTES"]
    inputs = {"a": np.int64([[1], [2]]), "s": np.array([[b"x"], [b"y"]], object)}
    word, twice = model.run(inputs, ["word", "twice"])
    assert word.tolist() == [[b"X"], [b"Y"]]
    assert twice.tolist() == [[2], [4]]
    assert twice.dtype == np.int64


def test_pyfunc_with_tensors(tmp_path: Path) -> None:
    spec = mlflow.types.TensorSpec
    one = Schema([spec(np.dtype("float64"), (-1, 2))])
    model = load(pyfunc(tmp_path / "one", "plain", one, one), allow_pickle=True)
    assert model.run({"input": np.array([[1.5, 2.5]])}, ["output"])[0].tolist() == [[3, 5]]
    named = Schema([spec(np.dtype("float64"), (-1,), "p"), spec(np.dtype("float64"), (-1,), "q")])
    total = Schema([spec(np.dtype("float64"), (-1,), "sum")])
    model = load(pyfunc(tmp_path / "named", "named", named, total), allow_pickle=True)
    assert model.run({"p": np.array([1.0]), "q": np.array([2.0])}, ["sum"])[0].tolist() == [3]
    model = load(pyfunc(tmp_path / "liar", "liar", one, one), allow_pickle=True)
    with pytest.raises(ModelFailed, match=r"gave .* for output 'output'; its signature says FP64"):
        model.run({"input": np.array([[1.5, 2.5]])}, ["output"])


def test_pyfunc_without_a_signature_is_refused(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {python_function: {loader_module: mlflow.xgboost}}")
    refused(tmp_path, "no signature.*infer_signature")


@pytest.mark.parametrize(
    ("flavor", "files", "says"),
    [
        ("loader_module: evil", {}, "its loader evil"),
        ("loader_module: mlflow.xgboost, code: code", {}, "it brings Python code of its own"),
        ("loader_module: mlflow.lightgbm", {"model.pkl": b"x"}, "its file model.pkl is a pickle"),
        (
            "loader_module: mlflow.xgboost",
            {"model.json": b"\x80\x04\x95abc"},
            "its file model.json is a pickle",
        ),
    ],
)
def test_whatever_may_run_code_is_refused(
    tmp_path: Path, flavor: str, files: dict[str, bytes], says: str
) -> None:
    (tmp_path / "MLmodel").write_text(f"flavors: {{python_function: {{{flavor}}}}}")
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    refused(tmp_path, f"refused: {says}")


def test_columns_of_the_signature_are_checked_against_the_onnx_file(tmp_path: Path) -> None:
    onnx_models.scale(tmp_path / "model.onnx", 2.0)
    flavors = "flavors: {onnx: {data: model.onnx}}\n"
    model = load(tmp_path / "model.onnx")
    for count, fits in ((3, True), (4, False)):
        schema = Schema([ColSpec("double", f"c{index}") for index in range(count)])
        text = mlflow.models.ModelSignature(schema).to_dict()["inputs"]
        (tmp_path / "MLmodel").write_text(f"{flavors}signature: {{inputs: '{text}'}}")
        artifact = Artifact(tmp_path, "here", digest_tree(tmp_path))
        if fits:
            check_signature(artifact, model.signature)
            continue
        with pytest.raises(LoadFailed, match=r"it has 4 columns, the file's input 'x' is \[-1, 3\]"):
            check_signature(artifact, model.signature)


@pytest.mark.parametrize(
    "example",
    [
        '{"inputs": [[1, 2, 3]]}',
        '{"inputs": {"x": [[1, 2, 3]]}}',
        '{"dataframe_split": {"columns": ["a", "b", "c"], "data": [[1, 2, 3]]}}',
    ],
)
def test_input_examples_are_read(tmp_path: Path, example: str) -> None:
    onnx_models.scale(tmp_path / "model.onnx", 2.0)
    (tmp_path / "serving_input_example.json").write_text(example)
    (tmp_path / "MLmodel").write_text(
        "flavors: {onnx: {data: model.onnx}}\n"
        "saved_input_example_info: {serving_input_path: serving_input_example.json}\n"
    )
    artifact = Artifact(tmp_path, "here", digest_tree(tmp_path))
    inputs = read_example(artifact, load(tmp_path).signature)
    assert inputs is not None
    assert inputs["x"].tolist() == [[1, 2, 3]]
    assert inputs["x"].dtype == np.float32
