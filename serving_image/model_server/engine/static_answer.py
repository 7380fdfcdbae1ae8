"""The static default of a ladder: values from the settings, held to the model's signature when it loads."""

from typing import Any

import numpy as np

from model_server.engine.call import Call
from model_server.errors import InvalidRequest, LoadFailed
from model_server.settings import ModelSettings
from model_server.tensors import Array, Signature, TensorSpec, from_json


class StaticAnswer:
    """Outputs by name. Where an output has a row for each row of the input, the value is that of one row."""

    def __init__(self, value: dict[str, Any], signature: Signature, where: str) -> None:
        """Raises LoadFailed, whose message starts with `where`."""
        unknown = sorted(set(value) - set(signature.output_names))
        missing = [name for name in signature.output_names if name not in value]
        if unknown or missing:
            wrong = (
                f"has no output {unknown[0]!r}" if unknown else f"needs a value for output {missing[0]!r} too"
            )
            raise LoadFailed(
                f"{where}: the model {wrong}; its outputs are {', '.join(signature.output_names)}"
            )
        self._by_row = {spec.name: spec.shape[:1] == (-1,) for spec in signature.outputs}
        self._values = {
            spec.name: _array(value[spec.name], spec, f"{where}.{spec.name}", self._by_row[spec.name])
            for spec in signature.outputs
        }

    def results(self, call: Call) -> list[Array]:
        """What the call asked for, with a row for each of its rows."""
        first = next(iter(call.inputs.values()), None)
        rows = first.shape[0] if first is not None and first.ndim else 1
        return [
            np.repeat(self._values[name][np.newaxis], rows, axis=0)
            if self._by_row[name]
            else self._values[name]
            for name in call.outputs
        ]


def check_static_answers(settings: ModelSettings, signature: Signature) -> None:
    """Whether the settings' static defaults are answers that this model could give. Raises LoadFailed."""
    for index, rung in enumerate(settings.fallback.rungs):
        if rung.value is not None:
            StaticAnswer(rung.value, signature, f"model {settings.name!r}: fallback.rungs[{index}].value")


def _array(value: Any, spec: TensorSpec, where: str, by_row: bool) -> Array:
    expected = spec.shape[1:] if by_row else spec.shape
    try:
        shape = np.shape(value)
    except ValueError:
        raise LoadFailed(f"{where}: its lists differ in length: {value!r:.80}") from None
    if len(shape) != len(expected) or any(
        size not in (-1, got) for size, got in zip(expected, shape, strict=True)
    ):
        row = "one row of " if by_row else ""
        raise LoadFailed(f"{where}: expected {row}shape {list(expected)}, got {list(shape)}: {value!r:.80}")
    try:
        return from_json(value, TensorSpec(spec.name, spec.datatype, expected), shape, where)
    except InvalidRequest as error:
        raise LoadFailed(error.message) from error
