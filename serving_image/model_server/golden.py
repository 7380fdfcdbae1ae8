"""Golden requests: answers that a model must give before it serves.

A model's folder may hold `golden.json` (beside a lone `fraud.onnx`: `fraud.golden.json`): a list of requests
with the outputs that were right when the model was made, in the JSON form of the Open Inference Protocol:

    [{"inputs":  [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 1.5]}],
      "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 1], "data": [0.25]}],
      "rtol": 1e-4, "atol": 1e-6}]

Numbers may differ by atol + rtol * |expected|; text, integers and truth values must be equal. Outputs that
are left out are not compared. A version that answers otherwise does not become ready.

Training code makes the file with `write_golden`; this module needs numpy and orjson, not the server.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from model_server.errors import InvalidRequest, LoadFailed
from model_server.tensors import NUMPY_TYPES, Array, Signature, TensorSpec, from_json, to_json

FILE_NAME = "golden.json"
DEFAULT_RTOL = 1e-4
DEFAULT_ATOL = 1e-6

Predict = Callable[[Mapping[str, Array]], Mapping[str, Array]]
"""Inputs by name to outputs by name."""


@dataclass(frozen=True)
class GoldenRequest:
    """One request and what must come back."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]
    rtol: float = DEFAULT_RTOL
    atol: float = DEFAULT_ATOL


def golden_path(root: Path) -> Path:
    """Where the golden file of a model's folder, or of its only file, would be."""
    return root / FILE_NAME if root.is_dir() else root.with_suffix(".golden.json")


def read_golden(path: Path, signature: Signature) -> list[GoldenRequest]:
    """Read the requests for a model with this signature; none if there is no file. Raises LoadFailed."""
    if not path.is_file():
        return []
    try:
        document = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise LoadFailed(f"{path.name}: cannot be read: {error}") from error
    if not isinstance(document, list):
        raise LoadFailed(f"{path.name}: expected a list of requests")
    return [_request(item, f"{path.name}[{index}]", signature) for index, item in enumerate(document)]


def check_golden(requests: Sequence[GoldenRequest], predict: Predict) -> None:
    """Raise LoadFailed, with the first difference, unless every answer is as it should be."""
    for index, request in enumerate(requests):
        answers = predict(request.inputs)
        for name, expected in request.outputs.items():
            difference = _difference(np.asarray(answers[name]), expected, request)
            if difference:
                raise LoadFailed(f"golden request {index}: output {name!r}: {difference}")


def write_golden(
    model: Path,
    examples: Sequence[Mapping[str, Any]],
    predict: Predict,
    *,
    rtol: float = DEFAULT_RTOL,
    atol: float = DEFAULT_ATOL,
) -> Path:
    """Write the golden file of a model (its folder or only file) from examples of inputs; return its path.

    `predict` should be the model as it was trained, so that a faulty conversion is noticed. Raises ValueError
    for what JSON cannot hold: numbers that are not finite, complex numbers, times.
    """
    document: list[dict[str, Any]] = []
    for example in examples:
        inputs = {name: np.asarray(value) for name, value in example.items()}
        outputs = predict(inputs)
        document.append(
            {
                "inputs": [_tensor(name, value) for name, value in inputs.items()],
                "outputs": [_tensor(name, np.asarray(value)) for name, value in outputs.items()],
                "rtol": rtol,
                "atol": atol,
            }
        )
    path = golden_path(model)
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_INDENT_2))
    return path


def onnx_predict(path: Path) -> Predict:
    """The answers of an ONNX file, for write_golden. Needs onnxruntime."""
    import onnxruntime as ort  # type: ignore[import-untyped]

    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, dict(inputs)), strict=True))


def _request(item: object, where: str, signature: Signature) -> GoldenRequest:
    if not isinstance(item, dict):
        raise LoadFailed(f"{where}: expected an object")
    unknown = sorted(set(item) - {"inputs", "outputs", "rtol", "atol"})
    if unknown:
        raise LoadFailed(f"{where}: unknown member {unknown[0]!r}; known: inputs, outputs, rtol, atol")
    inputs = _tensors(item.get("inputs"), f"{where}.inputs", signature.inputs_by_name)
    missing = [name for name in signature.inputs_by_name if name not in inputs]
    if missing:
        raise LoadFailed(f"{where}.inputs: missing {missing[0]!r}")
    outputs = _tensors(item.get("outputs"), f"{where}.outputs", signature.outputs_by_name)
    if not outputs:
        raise LoadFailed(f"{where}.outputs: expected at least one")
    tolerances = item.get("rtol", DEFAULT_RTOL), item.get("atol", DEFAULT_ATOL)
    if any(type(value) not in (int, float) or value < 0 for value in tolerances):
        raise LoadFailed(f"{where}: rtol and atol must be numbers of 0 and up")
    return GoldenRequest(inputs, outputs, *map(float, tolerances))


def _tensors(items: object, where: str, known: Mapping[str, TensorSpec]) -> dict[str, Array]:
    if not isinstance(items, list):
        raise LoadFailed(f"{where}: expected a list of tensors")
    tensors: dict[str, Array] = {}
    for index, item in enumerate(items):
        at = f"{where}[{index}]"
        spec = known.get(str(item.get("name"))) if isinstance(item, dict) else None
        if spec is None:
            raise LoadFailed(f"{at}: expected a tensor with one of the names {', '.join(map(repr, known))}")
        try:
            shape = spec.check(item.get("datatype"), item.get("shape"), at)
            tensors[spec.name] = from_json(item.get("data"), spec, shape, at)
        except InvalidRequest as error:
            raise LoadFailed(error.message) from error
    return tensors


def _difference(got: Array, expected: Array, request: GoldenRequest) -> str:
    """The first difference in words; empty if there is none that counts."""
    if got.shape != expected.shape:
        return f"expected shape {list(expected.shape)}, got {list(got.shape)}"
    if expected.dtype.kind == "f":
        same = np.isclose(got, expected, rtol=request.rtol, atol=request.atol)
        allowed = f" (rtol {request.rtol:g}, atol {request.atol:g})"
    else:
        same = np.asarray(_as_bytes(got) == expected)
        allowed = ""
    wrong = np.flatnonzero(~same.reshape(-1))
    if not wrong.size:
        return ""
    at = int(wrong[0])
    more = f"; {wrong.size} of {same.size} elements differ" if wrong.size > 1 else ""
    return f"element {at}: expected {expected.ravel()[at]!s}, got {got.ravel()[at]!s}{allowed}{more}"


def _as_bytes(array: Array) -> Array:
    """Text as the protocol holds it, whichever way the model gave it."""
    if array.dtype.kind not in "OUS":
        return array
    text = np.empty(array.size, dtype=np.object_)
    text[:] = [value if isinstance(value, bytes) else str(value).encode() for value in array.ravel()]
    return text.reshape(array.shape)


def _tensor(name: str, array: Array) -> dict[str, Any]:
    array = _as_bytes(array)
    datatype = next((key for key, dtype in NUMPY_TYPES.items() if dtype == array.dtype), None)
    if datatype is None:
        raise ValueError(f"{name!r} is {array.dtype}, which is not a datatype of the protocol")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(
            f"{name!r} holds a number that is not finite, which JSON cannot; leave that example out"
        )
    data = to_json(array)
    return {
        "name": name,
        "datatype": datatype,
        "shape": list(array.shape),
        # orjson does not write numpy's half precision.
        "data": data.tolist() if isinstance(data, np.ndarray) else data,
    }
