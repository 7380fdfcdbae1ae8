"""Golden files: written, read back, compared."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_models
import orjson
import pytest
import yaml
from model_server.errors import LoadFailed
from model_server.golden import (
    GoldenRequest,
    check_golden,
    golden_path,
    onnx_predict,
    read_golden,
    write_golden,
)
from model_server.tensors import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 3)),), (TensorSpec("y", "FP32", (-1, 3)),))
ROWS = [{"x": np.array([[1, 2, 3]], np.float32)}, {"x": np.array([[0.1, 0.2, 0.3]], np.float32)}]


def test_what_is_written_is_what_is_checked(tmp_path: Path) -> None:
    model = onnx_models.scale(tmp_path / "m.onnx", 2.0)
    path = write_golden(model, ROWS, onnx_predict(model))
    assert path == tmp_path / "m.golden.json" == golden_path(model)
    requests = read_golden(path, SIGNATURE)
    assert len(requests) == 2
    check_golden(requests, onnx_predict(model))
    other = onnx_models.scale(tmp_path / "other.onnx", 2.1)
    with pytest.raises(LoadFailed, match=r"golden request 0: output 'y': element 0: expected 2.0, got 2.1"):
        check_golden(requests, onnx_predict(other))


def test_check_tells_how_many_were_asked(tmp_path: Path) -> None:
    good, bad = (onnx_models.scale(tmp_path / f"{name}.onnx", 2.0) for name in ("good", "bad"))
    write_golden(good, ROWS, onnx_predict(good))
    write_golden(bad, ROWS, onnx_predict(onnx_models.scale(tmp_path / "other.onnx", 3.0)))
    models = [{"name": path.stem, "source": str(path)} for path in (good, bad)]
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump({"models": models}))
    command = [sys.executable, "-m", "model_server.cli.main", "check", "--config", str(settings)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "golden requests: 2, answered as recorded" in done.stdout
    assert "bad: FAILED" in done.stdout
    assert "golden request 0: output 'y': element 0: expected 3.0, got 2.0" in done.stdout


@pytest.mark.parametrize(
    ("got", "expected", "says"),
    [
        (np.float32([1.00001]), np.float32([1]), ""),
        (np.float32([1.001]), np.float32([1]), "element 0: expected 1.0, got 1.001"),
        (np.float32([np.nan]), np.float32([1]), "got nan"),
        (np.float32([[1]]), np.float32([1]), r"expected shape \[1\], got \[1, 1\]"),
        (np.int64([3, 4, 5]), np.int64([3, 5, 6]), "element 1: expected 5, got 4; 2 of 3 elements differ"),
        (np.array(["a"]), np.array([b"a"], object), ""),
        (np.array(["b"], object), np.array([b"a"], object), "expected b'a', got b"),
        (np.array([True]), np.array([False]), "expected False, got True"),
    ],
)
def test_how_answers_are_compared(got: np.ndarray, expected: np.ndarray, says: str) -> None:
    request = GoldenRequest({}, {"y": expected})
    if not says:
        check_golden([request], lambda _: {"y": got})
        return
    with pytest.raises(LoadFailed, match=says):
        check_golden([request], lambda _: {"y": got})


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({}, "expected a list"),
        ([{"inputs": []}], r"golden.json\[0\].inputs: missing 'x'"),
        ([{"inputs": [{"name": "z"}]}], r"inputs\[0\]: expected a tensor with one of the names 'x'"),
        (
            [{"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 3], "data": []}]}],
            "datatype: got 'FP64'",
        ),
        ([{"inputs": [], "tolerance": 1}], "unknown member 'tolerance'"),
    ],
)
def test_a_faulty_golden_file_is_explained(tmp_path: Path, document: object, says: str) -> None:
    path = tmp_path / "golden.json"
    path.write_bytes(orjson.dumps(document))
    with pytest.raises(LoadFailed, match=says):
        read_golden(path, SIGNATURE)


def test_numbers_that_json_cannot_hold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not finite"):
        write_golden(tmp_path, [{"x": [1.0]}], lambda _: {"y": np.array([np.inf])})


def test_training_code_needs_nothing_of_the_server(tmp_path: Path) -> None:
    import subprocess

    heavy = "[m for m in ('uvloop', 'httptools', 'onnxruntime', 'pydantic') if m in sys.modules]"
    code = f"import sys, model_server.golden; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
