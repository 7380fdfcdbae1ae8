"""ONNX models, run by ONNX Runtime."""

import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]

from model_server.errors import InvalidRequest, LoadFailed, ModelFailed
from model_server.models.artifact import Artifact
from model_server.models.format import Format, LoadOptions, Model
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

_ERRORS_ONLY = 3
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

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """See Model.run."""
        feed = inputs if not self._text_inputs else self._with_text(inputs)
        try:
            results: list[Array] = self._session.run(outputs, feed)
        except Exception as error:
            raise ModelFailed(f"the model failed: {error}") from error
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
            flavor = (artifact.mlmodel.get("flavors") or {}).get("onnx")
            return artifact.root / str(flavor["data"]) if flavor else None
        found = sorted(artifact.root.glob("*.onnx"))
        if len(found) > 1:
            raise LoadFailed(f"{artifact.uri}: more than one .onnx file: {', '.join(p.name for p in found)}")
        return found[0] if found else None

    def load(self, path: Path, options: LoadOptions) -> Model:
        """See Format.load."""
        session_options = ort.SessionOptions()
        session_options.intra_op_num_threads = options.threads
        session_options.inter_op_num_threads = 1
        session_options.log_severity_level = _ERRORS_ONLY
        # Idle pool threads that spin would take the CPU from the event loop.
        session_options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = ort.InferenceSession(
                str(path),
                session_options,
                providers=list(options.execution_providers) or ["CPUExecutionProvider"],
            )
        except Exception as error:
            raise LoadFailed(f"{path.name}: ONNX Runtime cannot load it: {error}") from error
        signature = Signature(
            inputs=tuple(_spec(path, node) for node in session.get_inputs()),
            outputs=tuple(_spec(path, node) for node in session.get_outputs()),
        )
        return OnnxModel(session, signature, steady=not _has_loops(path))


def _has_loops(path: Path) -> bool:
    """Whether values decide how long a run takes. A chance match in the weights only costs the fast path."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(_LOOP_NODE) != -1


def _spec(path: Path, node: Any) -> TensorSpec:
    datatype = _DATATYPES.get(node.type)
    if datatype is None:
        hint = " (scikit-learn exports: set zipmap to False)" if node.type.startswith("seq(map(") else ""
        raise LoadFailed(
            f"{path.name}: {node.name!r} is {node.type}, which is not a tensor of the protocol{hint}"
        )
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in node.shape)
    return TensorSpec(name=node.name, datatype=datatype, shape=shape)
