"""ONNX models, run by ONNX Runtime."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]

from model_server.errors import InvalidRequest, LoadFailed, ModelFailed
from model_server.models.artifact import Artifact
from model_server.models.format import Format, LoadOptions, Model
from model_server.models.scan import pieces
from model_server.tensors import Array, Signature, TensorSpec

_DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}

_TABLE = re.compile(r"seq\(map\((?:int64|string),(?P<values>tensor\(\w+\))\)\)")
"""What scikit-learn's exporters make of class probabilities: for each row a map from class to number."""

_NO_LOGS = 4
"""Errors come as exceptions; ONNX Runtime's own lines on standard error would repeat them."""
_LOOP_NODE = b'"\x04Loop'
"""`op_type: "Loop"` in protobuf's encoding."""


class OnnxModel(Model):
    """An ONNX Runtime session."""

    platform: ClassVar[str] = "onnx_onnxv1"

    def __init__(self, session: ort.InferenceSession, signature: Signature, steady: bool) -> None:
        self._session: Any = session
        self.signature = signature
        self.steady = steady
        self._text_inputs = tuple(spec.name for spec in signature.inputs if spec.datatype == "BYTES")
        self._tables = {node.name for node in session.get_outputs() if _TABLE.fullmatch(node.type)}

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """See Model.run."""
        feed = inputs if not self._text_inputs else self._with_text(inputs)
        try:
            results: list[Array] = self._session.run(outputs, feed)
        except Exception as error:
            raise ModelFailed(f"the model failed: {error}") from error
        if self._tables:
            return [
                _from_table(result, self.signature.outputs_by_name[name]) if name in self._tables else result
                for name, result in zip(outputs, results, strict=True)
            ]
        return results

    def close(self) -> None:
        """See Model.close."""
        self._session = None

    def _with_text(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        feed = dict(inputs)
        for name in self._text_inputs:
            array = inputs[name]
            text = np.empty(array.size, dtype=np.object_)
            try:
                text[:] = [element.decode() for element in array.ravel()]
            except UnicodeDecodeError as error:
                raise InvalidRequest(
                    f"input {name!r}: BYTES for an ONNX model must be UTF-8: {error}"
                ) from error
            feed[name] = text.reshape(array.shape)
        return feed


class OnnxFormat(Format):
    """`*.onnx` files, alone or in an MLflow folder with the onnx flavour."""

    name: ClassVar[str] = "onnx"

    def find(self, artifact: Artifact) -> Path | None:
        """See Format.find."""
        if artifact.root.is_file():
            return artifact.root if artifact.root.suffix == ".onnx" else None
        if artifact.mlmodel is not None:
            flavor = artifact.flavor("onnx")
            return artifact.file(str(flavor.get("data", "model.onnx"))) if flavor is not None else None
        found = sorted(artifact.root.glob("*.onnx"))
        if len(found) > 1:
            raise LoadFailed(f"more than one .onnx file: {', '.join(p.name for p in found)}")
        return found[0] if found else None

    def load(self, path: Path, options: LoadOptions, artifact: Artifact) -> Model:
        """See Format.load."""
        del artifact
        session_options = ort.SessionOptions()
        session_options.intra_op_num_threads = options.threads
        session_options.inter_op_num_threads = 1
        session_options.log_severity_level = _NO_LOGS
        # Idle pool threads that spin would take the CPU from the event loop.
        session_options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Weights are repacked at load; in the arena their old copy would stay for as long as the session.
        session_options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
        try:
            session = ort.InferenceSession(
                str(path),
                session_options,
                providers=list(options.execution_providers) or ["CPUExecutionProvider"],
            )
        except Exception as error:
            raise LoadFailed(f"{path.name}: ONNX Runtime cannot load it: {_explain(str(error))}") from error
        signature = Signature(
            inputs=tuple(_spec(path, node) for node in session.get_inputs()),
            outputs=tuple(_spec(path, node) for node in session.get_outputs()),
        )
        return OnnxModel(session, signature, steady=not _has_loops(path))


def _has_loops(path: Path) -> bool:
    """Whether values decide how long a run takes. A chance match in the weights only costs the fast path."""
    return any(_LOOP_NODE in piece for piece in pieces(path))


def _spec(path: Path, node: Any) -> TensorSpec:
    table = _TABLE.fullmatch(node.type)
    datatype = _DATATYPES.get(table["values"] if table else node.type)
    if datatype is None:
        raise LoadFailed(
            f"{path.name}: {node.name!r} is {node.type}, which is not a tensor of the protocol; "
            "export the model with tensors as inputs and outputs"
        )
    if table:
        return TensorSpec(name=node.name, datatype=datatype, shape=(-1, -1))
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in node.shape)
    return TensorSpec(name=node.name, datatype=datatype, shape=shape)


def _from_table(rows: Any, spec: TensorSpec) -> Array:
    """A matrix with a column for each class, in the order of the classes."""
    values = [list(row.values()) for row in rows]
    if spec.dtype.kind == "O":
        values = [[str(value).encode() for value in row] for row in values]
    return np.array(values, dtype=spec.dtype).reshape(len(values), -1 if values else 0)


def _explain(error: str) -> str:
    """ONNX Runtime's words, shorter and with the mend."""
    if "INVALID_PROTOBUF" in error or "No graph was found" in error:
        return "not an ONNX model, or only a part of one"
    if opset := re.search(r"Opset (\d+) is under development", error):
        return (
            f"it needs opset {opset[1]}, which ONNX Runtime {ort.__version__} does not know; "
            "export it with a lower opset_version, or install a newer onnxruntime"
        )
    if version := re.search(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)", error):
        return (
            f"it has IR version {version[1]}, ONNX Runtime {ort.__version__} reads up to {version[2]}; "
            "export it with an older onnx package, or install a newer onnxruntime"
        )
    # Source locations and error codes of C++ say nothing to whoever made the model.
    text = re.sub(
        r"\[ONNXRuntimeError\] : \d+ : \w+ : |\S*\.(?:cc|h):\d+ |Load model from \S+ failed:", "", error
    )
    if "xternal data" in text or "xternal initializer" in text:
        return f"its external data, weights in a file beside it, cannot be used: {text.strip()[:500]}"
    return text.strip()[:500]
