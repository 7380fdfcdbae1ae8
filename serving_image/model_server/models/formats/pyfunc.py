"""Any other MLflow model, through its Python function (extra `mlflow`).

Loading a pickle runs whatever code its author put there, with this server's rights. So only flavours known to
keep their model as plain data are loaded without being allowed by name: see `_DATA_LOADERS`.
"""

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from model_server.errors import InvalidRequest, LoadFailed, ModelFailed
from model_server.models.artifact import Artifact
from model_server.models.format import Format, LoadOptions, Model
from model_server.models.mlmodel import COLUMN_DATATYPES, Column, Schema, read_schema
from model_server.tensors import Array, Signature, TensorSpec

_FLAVOR = "python_function"
_DATA_LOADERS = frozenset({"mlflow.catboost", "mlflow.lightgbm", "mlflow.onnx", "mlflow.xgboost"})
"""MLflow's loaders that read data and run none of it, as long as no file is a pickle."""
_PICKLE_ENDINGS = (
    *(".pkl", ".pickle", ".joblib", ".cloudpickle", ".dill"),
    *(".pt", ".pth", ".skops", ".npy", ".h5", ".keras"),
)
_PICKLE_STARTS = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
"""First bytes of a pickle of protocol 2 to 5."""
_ONLY_OUTPUT = "output"
_COLUMN_SHAPE = (-1, 1)

_import_lock = threading.Lock()


class PyfuncModel(Model):
    """An MLflow Python function. Columns are inputs of shape [rows, 1]; tensors are inputs as they are."""

    platform: ClassVar[str] = "mlflow_pyfunc"

    def __init__(self, function: Any, inputs: Schema, signature: Signature) -> None:
        self._function = function
        self._columns = inputs.columns
        self._unnamed = len(inputs.tensors) == 1 and not inputs.tensors[0].name
        self.signature = signature
        self.steady = False

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """See Model.run."""
        data = self._as_argument(inputs)
        try:
            answer = self._function.predict(data)
        except Exception as error:
            raise ModelFailed(f"the model failed: {error}") from error
        results = named_outputs(answer, len(self.signature.outputs))
        return [self._output(results, name) for name in outputs]

    def close(self) -> None:
        """See Model.close."""
        self._function = None

    def _as_argument(self, inputs: Mapping[str, Array]) -> Any:
        if self._columns:
            import pandas as pd  # type: ignore[import-untyped]

            return pd.DataFrame(
                {column.name: _column(inputs[column.name], column) for column in self._columns}
            )
        plain = {name: _text(array) if array.dtype.kind == "O" else array for name, array in inputs.items()}
        return next(iter(plain.values())) if self._unnamed else plain

    def _output(self, results: dict[str, Array], name: str) -> Array:
        spec = self.signature.outputs_by_name[name]
        array = results.get(name)
        if array is None and len(results) == 1 and len(self.signature.outputs) == 1:
            array = next(iter(results.values()))
        if array is None:
            raise ModelFailed(f"the model gave no output {name!r}, which its signature promises")
        if spec.shape == _COLUMN_SHAPE and array.ndim == 1:
            array = array.reshape(-1, 1)
        if spec.dtype.kind == "O":
            return _bytes(array)
        if not np.can_cast(array.dtype, spec.dtype, "same_kind") and array.size:
            raise ModelFailed(
                f"the model gave {array.dtype} for output {name!r}; its signature says {spec.datatype}"
            )
        return array.astype(spec.dtype, copy=False)


class PyfuncFormat(Format):
    """MLflow folders with the python_function flavour."""

    name: ClassVar[str] = "pyfunc"

    def find(self, artifact: Artifact) -> Path | None:
        """See Format.find."""
        return artifact.root if artifact.flavor(_FLAVOR) is not None else None

    def load(self, path: Path, options: LoadOptions, artifact: Artifact) -> Model:
        """See Format.load."""
        if not options.allow_pickle:
            refuse_code(artifact)
        inputs = read_schema(artifact, "inputs")
        if inputs is None:
            raise LoadFailed(
                "the model has no signature, so this server cannot know its inputs; log it with "
                "signature=mlflow.models.infer_signature(inputs, outputs)"
            )
        function = _load_function(path, options.allow_pickle)
        specs = _input_specs(inputs)
        outputs = read_schema(artifact, "outputs")
        if outputs is None:
            raise LoadFailed("the model's signature has no outputs; log it with the outputs of an example")
        return PyfuncModel(function, inputs, Signature(specs, _output_specs(outputs)))


def refuse_code(artifact: Artifact) -> None:
    """Raise LoadFailed if loading this model may run code that comes with it."""
    flavor = artifact.flavor(_FLAVOR) or {}
    loader = str(flavor.get("loader_module"))
    reason = ""
    if loader not in _DATA_LOADERS:
        reason = f"its loader {loader} restores Python objects"
    elif flavor.get("code"):
        reason = f"it brings Python code of its own ({flavor['code']})"
    else:
        pickled = next((name for name in sorted(artifact.digests) if _is_pickle(artifact.root / name)), None)
        if pickled:
            reason = f"its file {pickled} is a pickle"
    if reason:
        raise LoadFailed(
            f"refused: {reason}, and that runs code from the model's files with this server's rights. "
            "Convert it to ONNX, or, if you trust its authors with this machine, set allow_pickle: true on "
            "this model in the settings"
        )


def named_outputs(answer: Any, expected: int) -> dict[str, Array]:
    """What a Python function returned, as arrays by name."""
    if isinstance(answer, dict):
        return {str(name): np.asarray(value) for name, value in answer.items()}
    columns = getattr(answer, "columns", None)
    if columns is not None:
        if expected == 1 and len(columns) > 1:
            return {_ONLY_OUTPUT: answer.to_numpy()}
        return {str(name): answer[name].to_numpy() for name in columns}
    return {_ONLY_OUTPUT: np.asarray(answer)}


def _load_function(path: Path, allow_pickle: bool) -> Any:
    with _import_lock:
        # MLflow reports its use to its makers unless told not to; a server tells nobody.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        if allow_pickle:
            os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
        try:
            import mlflow.pyfunc
        except ImportError as error:
            raise LoadFailed(
                f"MLflow models need the extra: pip install 'model-server[mlflow]' ({error})"
            ) from error
    try:
        return mlflow.pyfunc.load_model(str(path), suppress_warnings=True)
    except ImportError as error:
        raise LoadFailed(
            f"a package that the model needs is missing: {error}; its requirements.txt lists them"
        ) from error
    except Exception as error:
        raise LoadFailed(f"MLflow cannot load it: {type(error).__name__}: {error}") from error


def _is_pickle(path: Path) -> bool:
    if path.name.lower().endswith(_PICKLE_ENDINGS):
        return True
    with path.open("rb") as file:
        return file.read(2).startswith(_PICKLE_STARTS)


def _input_specs(schema: Schema) -> tuple[TensorSpec, ...]:
    if schema.columns:
        return tuple(TensorSpec(c.name, COLUMN_DATATYPES[c.type], _COLUMN_SHAPE) for c in schema.columns)
    return tuple(TensorSpec(spec.name or "input", spec.datatype, spec.shape) for spec in schema.tensors)


def _output_specs(schema: Schema) -> tuple[TensorSpec, ...]:
    if schema.columns:
        names = [
            _ONLY_OUTPUT if len(schema.columns) == 1 and c.name == "0" else c.name for c in schema.columns
        ]
        return tuple(
            TensorSpec(name, COLUMN_DATATYPES[c.type], _COLUMN_SHAPE)
            for name, c in zip(names, schema.columns, strict=True)
        )
    return tuple(TensorSpec(spec.name or _ONLY_OUTPUT, spec.datatype, spec.shape) for spec in schema.tensors)


def _column(array: Array, column: Column) -> Any:
    flat = array.ravel()
    if column.type == "binary":
        return flat
    if array.dtype.kind != "O":
        return flat
    text = _text(flat)
    if column.type != "datetime":
        return text
    import pandas as pd

    try:
        return pd.to_datetime(text)
    except ValueError as error:
        raise InvalidRequest(f"input {column.name!r}: expected ISO 8601 times: {error}") from error


def _text(array: Array) -> Array:
    """BYTES as Python text."""
    text = np.empty(array.size, dtype=np.object_)
    try:
        text[:] = [value.decode() for value in array.ravel()]
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"text must be UTF-8: {error}") from error
    return text.reshape(array.shape)


def _bytes(array: Array) -> Array:
    """Text, times or bytes as BYTES."""
    raw = np.empty(array.size, dtype=np.object_)
    raw[:] = [value if isinstance(value, bytes) else str(value).encode() for value in array.ravel().tolist()]
    return raw.reshape(array.shape)
