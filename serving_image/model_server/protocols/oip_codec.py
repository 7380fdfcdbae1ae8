"""Open Inference Protocol v2 over REST: bodies to tensors and back, JSON and binary."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np
import orjson

from model_server.engine.call import Degraded
from model_server.errors import InvalidRequest
from model_server.fastjson import loads_big_request, loads_request
from model_server.http.exchange import JSON, Header
from model_server.tensors import (
    Array,
    BinaryLayout,
    Signature,
    TensorSpec,
    from_bytes,
    from_json,
    named,
    to_bytes,
    to_json,
)

BINARY = b"application/octet-stream"
HEADER_LENGTH = b"inference-header-content-length"

_T = TypeVar("_T")
_NOTHING: frozenset[str] = frozenset()
_BIG_ELEMENTS = 1 << 16
_PIECE_ELEMENTS = 1 << 13
"""Well under a millisecond of work."""
_NO_OUTPUTS: dict[str, Array] = {}
_NO_BYTES = memoryview(b"")
_REMEMBERED = 64
_REMEMBERED_BYTES = 1024


@dataclass(slots=True)
class InferRequest:
    """A decoded inference request."""

    inputs: dict[str, Array]
    outputs: tuple[str, ...]
    id: str | None = None
    binary_outputs: frozenset[str] = frozenset()
    """Outputs that the client wants as binary data."""
    parameters: dict[str, Any] = field(default_factory=dict)


def decode(body: bytes, header_length: bytes | None, signature: Signature) -> InferRequest:
    """Read a request body. `header_length` is the Inference-Header-Content-Length, if there is one.

    Raises InvalidRequest.
    """
    if header_length is None:
        return _decode_document(_parse(body), _NO_BYTES, signature)
    if not header_length.isdigit() or int(header_length) > len(body):
        raise InvalidRequest(
            f"Inference-Header-Content-Length is {header_length.decode('latin-1')!r:.50}, "
            f"expected a number of bytes up to the body's {len(body)}"
        )
    size = int(header_length)
    if size == 0:
        return _decode_raw(body, signature)
    head = body[:size]
    layout = signature.layouts.get(head)
    if layout is not None and len(body) == layout.body_bytes:
        inputs = {
            name: np.frombuffer(body, dtype, count, at).reshape(shape)
            for name, dtype, count, at, shape in layout.inputs
        }
        return InferRequest(inputs, layout.outputs, None, layout.binary_outputs, layout.parameters)
    request = _decode_document(_parse(head), memoryview(body)[size:], signature)
    _remember(head, len(body), request, signature)
    return request


def _remember(head: bytes, body_bytes: int, request: InferRequest, signature: Signature) -> None:
    """Clients send the same JSON before the binary data again and again: read it once.

    Only where it holds nothing of one request alone: no id, no data, no texts, whose lengths are in the data.
    """
    arrays = request.inputs.values()
    whole = len(head) + sum(array.nbytes for array in arrays) == body_bytes
    texts = any(array.dtype.kind == "O" for array in arrays)
    if request.id is not None or texts or not whole or len(head) > _REMEMBERED_BYTES:
        return
    inputs = []
    at = len(head)
    for name, array in request.inputs.items():
        inputs.append((name, array.dtype, array.size, at, array.shape))
        at += array.nbytes
    if len(signature.layouts) >= _REMEMBERED:
        signature.layouts.clear()
    signature.layouts[head] = BinaryLayout(
        body_bytes, tuple(inputs), request.outputs, request.binary_outputs, request.parameters
    )


async def decode_big(body: bytes, signature: Signature) -> InferRequest:
    """Read a long body that is all JSON, without stopping the event loop for long. Raises InvalidRequest."""
    try:
        document, tensors = await loads_big_request(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from None

    def finish() -> InferRequest:
        for tensor, parts in tensors:
            tensor["data"] = np.concatenate(parts)
        return _decode_document(_checked(document), _NO_BYTES, signature)

    # numpy copies and converts without the interpreter's lock: here a thread does help.
    return await asyncio.get_running_loop().run_in_executor(None, finish)


def encode(
    request: InferRequest,
    results: list[Array],
    model: str,
    version: str,
    signature: Signature,
    degraded: Degraded | None = None,
    written: Mapping[str, orjson.Fragment] | None = None,
) -> tuple[bytes, bytes, tuple[Header, ...]]:
    """The answer: body, content type and headers. `written`: the data of outputs that are JSON already."""
    outputs: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    for name, array in zip(request.outputs, results, strict=True):
        output: dict[str, Any] = {
            "name": name,
            "datatype": signature.outputs_by_name[name].datatype,
            "shape": array.shape,
        }
        if name in request.binary_outputs:
            blob = to_bytes(array)
            output["parameters"] = {"binary_data_size": len(blob)}
            blobs.append(blob)
        else:
            output["data"] = written[name] if written and name in written else to_json(array)
        outputs.append(output)
    document: dict[str, Any] = {"model_name": model, "model_version": version}
    if degraded is not None:
        document = {
            "model_name": degraded.model,
            "model_version": degraded.version,
            "parameters": degraded.parameters(),
        }
    if request.id is not None:
        document["id"] = request.id
    document["outputs"] = outputs
    head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if not blobs:
        return head, JSON, ()
    return b"".join((head, *blobs)), BINARY, ((HEADER_LENGTH, b"%d" % len(head)),)


def big_outputs(request: InferRequest, results: list[Array]) -> dict[str, Array]:
    """Outputs whose JSON would stop the event loop for long."""
    for array in results:
        if array.size >= _BIG_ELEMENTS:
            break
    else:
        return _NO_OUTPUTS
    return {
        name: array
        for name, array in zip(request.outputs, results, strict=True)
        if array.size >= _BIG_ELEMENTS and name not in request.binary_outputs
    }


async def write_big(outputs: Mapping[str, Array]) -> dict[str, orjson.Fragment]:
    """Their JSON, giving way to others after each piece: a thread would hold the interpreter's lock."""
    written: dict[str, orjson.Fragment] = {}
    for name, array in outputs.items():
        flat = to_json(array)
        pieces: list[bytes] = []
        for at in range(0, len(flat), _PIECE_ELEMENTS):
            part = flat[at : at + _PIECE_ELEMENTS]
            pieces.append(orjson.dumps(part, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1])
            await asyncio.sleep(0)
        written[name] = orjson.Fragment(b"".join((b"[", b",".join(pieces), b"]")))
    return written


def parse_object(body: bytes) -> dict[str, Any]:
    """A JSON object. Raises InvalidRequest."""
    return _parse(body, orjson.loads)


def _parse(body: bytes, loads: Callable[[bytes], Any] = loads_request) -> dict[str, Any]:
    try:
        document = loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not JSON: {error}" if body else "the body is empty") from None
    return _checked(document)


def _checked(document: Any) -> dict[str, Any]:
    if type(document) is not dict:
        raise InvalidRequest("the body is not a JSON object")
    return cast(dict[str, Any], document)


def _decode_document(document: dict[str, Any], binary: memoryview, signature: Signature) -> InferRequest:
    parameters = _member(document, "parameters", dict, dict) if "parameters" in document else {}
    tensors: Any = document.get("inputs")
    if type(tensors) is not list:
        raise InvalidRequest(f"inputs: expected a list of tensors, got {named(tensors)}")
    inputs: dict[str, Array] = {}
    used = 0
    for index, tensor in enumerate(tensors):
        where = f"inputs[{index}]"
        if type(tensor) is not dict:
            raise InvalidRequest(f"{where}: expected an object, got {named(tensor)}")
        spec = _input_spec(tensor.get("name"), where, signature)
        if spec.name in inputs:
            raise InvalidRequest(f"{where}: input {spec.name!r} is given twice")
        shape = spec.check(tensor.get("datatype"), tensor.get("shape"), where)
        size = _binary_size(tensor, where) if "parameters" in tensor else None
        if size is None:
            if "data" not in tensor:
                raise InvalidRequest(f"{where}: has neither data nor parameters.binary_data_size")
            inputs[spec.name] = from_json(tensor["data"], spec, shape, where)
            continue
        if "data" in tensor:
            raise InvalidRequest(f"{where}: has both data and parameters.binary_data_size; send one")
        if used + size > len(binary):
            raise InvalidRequest(
                f"{where}: binary_data_size {size} runs past the binary data, "
                f"of which {len(binary) - used} bytes are left"
            )
        inputs[spec.name] = from_bytes(binary[used : used + size], spec, shape, where)
        used += size
    if used != len(binary):
        raise InvalidRequest(f"{len(binary) - used} bytes of binary data belong to no input")
    if len(inputs) != len(signature.inputs):
        missing = ", ".join(repr(spec.name) for spec in signature.inputs if spec.name not in inputs)
        raise InvalidRequest(f"inputs: missing {missing}")
    outputs, binary_outputs = _wanted_outputs(document, parameters, signature)
    return InferRequest(
        inputs,
        outputs,
        _member(document, "id", str, lambda: None) if "id" in document else None,
        binary_outputs,
        parameters,
    )


def _decode_raw(body: bytes, signature: Signature) -> InferRequest:
    """A body that is nothing but the one input's bytes."""
    if len(signature.inputs) != 1:
        raise InvalidRequest(f"a raw body needs a model with one input; this one has {len(signature.inputs)}")
    spec = signature.inputs[0]
    open_axes = [axis for axis, size in enumerate(spec.shape) if size == -1]
    shape = [1 if size == -1 else size for size in spec.shape]
    if spec.dtype.kind != "O" and len(open_axes) == 1:
        row = spec.dtype.itemsize
        for size in shape:
            row *= size
        if row == 0 or len(body) % row or not body:
            raise InvalidRequest(f"raw body: {len(body)} bytes are not a whole number of rows of {row} bytes")
        shape[open_axes[0]] = len(body) // row
    elif open_axes and open_axes != [0]:
        raise InvalidRequest(f"a raw body cannot tell the shape of {spec.name!r}: {list(spec.shape)}")
    inputs = {spec.name: from_bytes(body, spec, tuple(shape), "raw body")}
    return InferRequest(inputs, signature.output_names, binary_outputs=frozenset(signature.output_names))


def _input_spec(name: object, where: str, signature: Signature) -> TensorSpec:
    spec = signature.inputs_by_name.get(name) if type(name) is str else None
    if spec is None:
        known = ", ".join(repr(known) for known in signature.inputs_by_name)
        raise InvalidRequest(f"{where}.name: got {name!r:.100}, expected one of {known}")
    return spec


def _binary_size(tensor: dict[str, Any], where: str) -> int | None:
    parameters = tensor.get("parameters")
    if parameters is None:
        return None
    if type(parameters) is not dict:
        raise InvalidRequest(f"{where}.parameters: expected an object, got {named(parameters)}")
    size = parameters.get("binary_data_size")
    if size is not None and (type(size) is not int or size < 0):
        raise InvalidRequest(
            f"{where}.parameters.binary_data_size: expected a number of bytes, got {size!r:.50}"
        )
    return size


def _wanted_outputs(
    document: dict[str, Any], parameters: dict[str, Any], signature: Signature
) -> tuple[tuple[str, ...], frozenset[str]]:
    binary_by_default = parameters.get("binary_data_output") is True
    asked = document.get("outputs")
    if asked is None or asked == []:
        names = signature.output_names
        return names, frozenset(names) if binary_by_default else _NOTHING
    if type(asked) is not list:
        raise InvalidRequest(f"outputs: expected a list, got {named(asked)}")
    names_asked: list[str] = []
    binary: set[str] = set()
    for index, output in enumerate(asked):
        where = f"outputs[{index}]"
        if type(output) is not dict:
            raise InvalidRequest(f"{where}: expected an object, got {named(output)}")
        name = output.get("name")
        if type(name) is not str or name not in signature.outputs_by_name:
            known = ", ".join(repr(known) for known in signature.output_names)
            raise InvalidRequest(f"{where}.name: got {name!r:.100}, expected one of {known}")
        if name in names_asked:
            raise InvalidRequest(f"{where}: output {name!r} is asked for twice")
        own = _member(output, "parameters", dict, dict)
        if own.get("classification") is not None:
            raise InvalidRequest(f"{where}.parameters.classification: is not supported by this server")
        names_asked.append(name)
        if own.get("binary_data", binary_by_default) is True:
            binary.add(name)
    names = tuple(names_asked)
    # The model's own tuple where it is equal: calls share a run only with the same outputs.
    return (signature.output_names if names == signature.output_names else names), frozenset(binary)


def _member(document: dict[str, Any], name: str, kind: type[_T], default: Callable[[], Any]) -> Any:
    value = document.get(name)
    if value is None:
        return default()
    if type(value) is not kind:
        raise InvalidRequest(
            f"{name}: expected {'an object' if kind is dict else 'a string'}, got {named(value)}"
        )
    return value
