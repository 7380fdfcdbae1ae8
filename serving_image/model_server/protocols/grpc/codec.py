"""ModelInfer over gRPC: messages to tensors and back, typed contents and raw."""

from typing import Any

import numpy as np

from model_server.engine.call import Degraded
from model_server.errors import InvalidRequest
from model_server.models.repository import Served
from model_server.protocols.grpc.messages import message
from model_server.protocols.oip_codec import InferRequest
from model_server.tensors import Array, Signature, TensorSpec, from_bytes, to_bytes

INFER_REQUEST = message("inference.ModelInferRequest")
INFER_RESPONSE = message("inference.ModelInferResponse")

_FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Datatype -> field of InferTensorContents. FP16 and BF16 have none."""

_ID_TAG = 3 << 3 | 2
_RAW_TAG = 6 << 3 | 2
_CACHE_SIZE = 1024

_descriptions: dict[tuple[Any, ...], bytes] = {}


def decode(request: Any, signature: Signature) -> InferRequest:
    """Read a ModelInferRequest. Raises InvalidRequest."""
    raw = request.raw_input_contents
    tensors = request.inputs
    if raw and len(raw) != len(tensors):
        raise InvalidRequest(
            f"raw_input_contents: {len(raw)} elements, expected one for each of the {len(tensors)} inputs"
        )
    by_name = signature.inputs_by_name
    inputs: dict[str, Array] = {}
    for index, tensor in enumerate(tensors):
        where = f"inputs[{index}]"
        name = tensor.name
        spec = by_name.get(name)
        if spec is None:
            known = ", ".join(map(repr, by_name))
            raise InvalidRequest(f"{where}.name: got {name!r:.100}, expected one of {known}")
        if name in inputs:
            raise InvalidRequest(f"{where}: input {name!r} is given twice")
        shape = spec.check(tensor.datatype, list(tensor.shape), where)
        if not raw:
            inputs[name] = _from_contents(tensor.contents, spec, shape, where)
        elif tensor.HasField("contents"):
            raise InvalidRequest(f"{where}: has both contents and raw_input_contents; send one")
        else:
            inputs[name] = from_bytes(raw[index], spec, shape, where)
    if len(inputs) != len(signature.inputs):
        missing = ", ".join(repr(spec.name) for spec in signature.inputs if spec.name not in inputs)
        raise InvalidRequest(f"inputs: missing {missing}")
    outputs = _wanted_outputs(request.outputs, signature) if request.outputs else signature.output_names
    parameters = read_parameters(request.parameters) if request.parameters else {}
    # `binary_outputs` here: the client sent raw contents, so that it can read them too.
    binary = frozenset(outputs) if raw else frozenset[str]()
    return InferRequest(inputs, outputs, request.id or None, binary, parameters)


def encode(
    request: InferRequest, results: list[Array], served: Served, degraded: Degraded | None = None
) -> bytes:
    """The serialized ModelInferResponse: raw if the request was, or if a datatype has no other form."""
    specs = served.lane.signature.outputs_by_name
    datatypes = [specs[name].datatype for name in request.outputs]
    if not request.binary_outputs and all(datatype in _FIELDS for datatype in datatypes):
        return _encode_typed(request, results, datatypes, _response(served, degraded))
    # Fields of a message may come in any order, and messages can be joined: what is the same in all answers
    # of a shape is serialized once.
    key = (served.name, served.version, request.outputs, *datatypes, *[array.shape for array in results])
    description = _descriptions.get(key) if degraded is None else None
    if description is None:
        response = _response(served, degraded)
        _describe(response, request.outputs, results, datatypes)
        description = response.SerializeToString()
        if degraded is None:
            if len(_descriptions) >= _CACHE_SIZE:
                _descriptions.clear()
            _descriptions[key] = description
    parts = [description]
    if request.id is not None:
        parts += _field(_ID_TAG, request.id.encode())
    for array in results:
        parts += _field(_RAW_TAG, to_bytes(array))
    return b"".join(parts)


def read_parameters(parameters: Any) -> dict[str, Any]:
    """A map of InferParameters as Python values."""
    values: dict[str, Any] = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        values[name] = None if choice is None else getattr(parameter, choice)
    return values


def _from_contents(contents: Any, spec: TensorSpec, shape: tuple[int, ...], where: str) -> Array:
    field = _FIELDS.get(spec.datatype)
    if field is None:
        raise InvalidRequest(f"{where}: {spec.datatype} has no typed contents; send it in raw_input_contents")
    values = list(getattr(contents, field))
    wrong = [other.name for other, _ in contents.ListFields() if other.name != field]
    if wrong:
        raise InvalidRequest(f"{where}.contents: has {wrong[0]}, expected {field} for {spec.datatype}")
    count = 1
    for size in shape:
        count *= size
    if len(values) != count:
        raise InvalidRequest(
            f"{where}.contents.{field}: {len(values)} elements, expected {count} for shape {list(shape)}"
        )
    if spec.datatype == "BYTES":
        array = np.empty(count, dtype=np.object_)
        array[:] = values
        return array.reshape(shape)
    lowest, highest = spec.limits
    if values and spec.dtype.kind in "iu" and not (lowest <= min(values) and max(values) <= highest):
        at = next(index for index, value in enumerate(values) if not lowest <= value <= highest)
        raise InvalidRequest(
            f"{where}.contents.{field}: element {at} is {values[at]}, out of range for {spec.datatype}"
        )
    return np.array(values, dtype=spec.dtype).reshape(shape)


def _response(served: Served, degraded: Degraded | None) -> Any:
    """An answer that says who gives it."""
    if degraded is None:
        return INFER_RESPONSE(model_name=served.name, model_version=served.version)
    response = INFER_RESPONSE(model_name=degraded.model, model_version=degraded.version)
    for name, value in degraded.parameters().items():
        if isinstance(value, str):
            response.parameters[name].string_param = value
        else:
            response.parameters[name].double_param = value
    return response


def _encode_typed(request: InferRequest, results: list[Array], datatypes: list[str], response: Any) -> bytes:
    response.id = request.id or ""
    _describe(response, request.outputs, results, datatypes)
    for output, array, datatype in zip(response.outputs, results, datatypes, strict=True):
        values = array.ravel().tolist()
        if datatype == "BYTES":
            values = [value if isinstance(value, bytes) else str(value).encode() for value in values]
        getattr(output.contents, _FIELDS[datatype]).extend(values)
    serialized: bytes = response.SerializeToString()
    return serialized


def _describe(response: Any, names: tuple[str, ...], results: list[Array], datatypes: list[str]) -> None:
    for name, array, datatype in zip(names, results, datatypes, strict=True):
        response.outputs.add(name=name, datatype=datatype, shape=array.shape)


def _wanted_outputs(asked: Any, signature: Signature) -> tuple[str, ...]:
    names: list[str] = []
    for index, output in enumerate(asked):
        where = f"outputs[{index}]"
        name = output.name
        if name not in signature.outputs_by_name:
            known = ", ".join(map(repr, signature.output_names))
            raise InvalidRequest(f"{where}.name: got {name!r:.100}, expected one of {known}")
        if name in names:
            raise InvalidRequest(f"{where}: output {name!r} is asked for twice")
        if "classification" in output.parameters:
            raise InvalidRequest(f"{where}.parameters.classification: is not supported by this server")
        names.append(name)
    # The model's own tuple where it is equal: calls share a run only with the same outputs.
    wanted = tuple(names)
    return signature.output_names if wanted == signature.output_names else wanted


def _field(tag: int, value: bytes) -> tuple[bytes, bytes]:
    """A length-delimited field of the wire format."""
    size = len(value)
    out = bytearray((tag,))
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    out.append(size)
    return bytes(out), value
