"""JSON and bytes to arrays and back."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_server import fastjson
from model_server.errors import InvalidRequest
from model_server.tensors import NUMPY_TYPES, TensorSpec, from_bytes, from_json, to_bytes

NUMERIC = sorted(set(NUMPY_TYPES) - {"BYTES", "BF16", "BOOL"})


@given(st.sampled_from(NUMERIC), st.data())
def test_numbers_survive_bytes_and_json(datatype: str, data: st.DataObject) -> None:
    dtype = NUMPY_TYPES[datatype]
    if dtype.kind == "f":
        element = st.floats(width=8 * dtype.itemsize, allow_nan=False, allow_infinity=False)
    else:
        element = st.integers(int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    values = data.draw(st.lists(element, min_size=1, max_size=20))
    spec = TensorSpec("x", datatype, (-1,))
    array = from_json(values, spec, (len(values),), "x")
    assert array.dtype == dtype
    assert array.tolist() == np.array(values, dtype).tolist()
    again = from_bytes(to_bytes(array), spec, array.shape, "x")
    np.testing.assert_array_equal(again, array)


@given(st.lists(st.binary(max_size=20), max_size=10))
def test_bytes_elements_survive(values: list[bytes]) -> None:
    spec = TensorSpec("x", "BYTES", (-1,))
    array = np.empty(len(values), np.object_)
    array[:] = values
    assert from_bytes(to_bytes(array), spec, (len(values),), "x").tolist() == values


@given(st.binary(max_size=60), st.integers(0, 5))
def test_any_bytes_are_elements_or_a_refusal(raw: bytes, count: int) -> None:
    try:
        array = from_bytes(raw, TensorSpec("x", "BYTES", (-1,)), (count,), "x")
    except InvalidRequest:
        return
    assert to_bytes(array) == raw


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.sampled_from(sorted(NUMPY_TYPES)), st.lists(st.integers(0, 3), max_size=3))
def test_any_json_is_an_array_or_a_refusal(value: object, datatype: str, shape: list[int]) -> None:
    spec = TensorSpec("x", datatype, (-1,) * len(shape))
    try:
        array = from_json(value, spec, tuple(shape), "x")
    except InvalidRequest:
        return
    assert array.shape == tuple(shape)
    assert array.dtype == NUMPY_TYPES[datatype]


def request(datatype: str, data: object) -> bytes:
    tensor = {"name": "x", "datatype": datatype, "shape": [3], "data": data, "pad": "." * 3000}
    return json.dumps({"id": "1", "inputs": [tensor]}).encode()


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("FP32", [1, 2.5, -3]),
        ("INT64", [1, -2, 2**63 - 1]),
        ("UINT8", [0, 1, 255]),
        ("FP64", [1e300, 0.1, 5]),
    ],
)
def test_the_short_way_of_json_reads_what_the_long_way_reads(datatype: str, data: list) -> None:
    body = request(datatype, data)
    short = fastjson.loads_request(body)
    assert isinstance(short["inputs"][0]["data"], np.ndarray)
    spec = TensorSpec("x", datatype, (-1,))
    narrow = from_json(short["inputs"][0]["data"], spec, (3,), "x")
    assert narrow.tolist() == from_json(data, spec, (3,), "x").tolist()
    assert {**short, "inputs": []} == {"id": "1", "inputs": []}


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("FP32", [1, None, 2]),
        ("FP32", [True, 1, 2]),
        ("FP32", [[1], [2, 3]]),
        ("FP32", [1, [2], 3]),
        ("FP32", [[1], [2], [3]]),  # the shape says that it is flat
        ("INT64", [1.5, 2, 3]),
        ("BYTES", ["a"]),
    ],
)
def test_what_the_short_way_cannot_read_goes_the_long_way(datatype: str, data: list) -> None:
    assert fastjson.loads_request(request(datatype, data))["inputs"][0]["data"] == data


def read(loads: Callable[[bytes], Any], body: bytes) -> list | None:
    spec = TensorSpec("x", "FP32", (-1, -1, -1))
    try:
        (tensor,) = loads(body)["inputs"]
        return from_json(tensor["data"], spec, tuple(tensor["shape"]), "x").tolist()
    except (InvalidRequest, orjson.JSONDecodeError):
        return None


def in_pieces(body: bytes) -> Any:
    document, tensors = asyncio.run(fastjson.loads_big_request(body))
    for tensor, parts in tensors:
        tensor["data"] = np.concatenate(parts)
    return document


@pytest.mark.parametrize("part", [b'"data":[', b'"data":[[', b'"data":[1,[', b'"data":[["'])
def test_a_body_of_beginnings_is_refused_at_once(part: bytes) -> None:
    body = part * 400_000 + b"]}"
    began = time.process_time()
    assert read(in_pieces, body) is None
    assert time.process_time() - began < 2


def test_nested_numbers_are_read_in_pieces_and_faults_are_still_faults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each body with one change of its numbers, commas and brackets, cut at every place."""
    monkeypatch.setattr(fastjson, "_WORTH_IT_BYTES", 1)
    rng = np.random.default_rng(5)
    right = wrong = 0
    for _ in range(3000):
        monkeypatch.setattr(fastjson, "_PIECE_BYTES", int(rng.integers(1, 40)))
        shape = rng.integers(1, 4, 3)
        tensor = {"name": "x", "datatype": "FP32", "shape": shape.tolist(), "data": "?"}
        data = bytearray(json.dumps(rng.integers(-9, 9, shape).tolist()).encode())
        frame = json.dumps({"inputs": [tensor]}).encode()
        body = frame.replace(b'"?"', data)
        assert isinstance(in_pieces(body)["inputs"][0]["data"], np.ndarray)
        at = int(rng.integers(len(data)))
        change = rng.choice([b"", b"[", b"]", b",", b" ", b"1", b"-", b".", b"e", b'"', b"[]", b"],[", b"}"])
        data[at : at + int(rng.integers(2))] = bytes(change)
        body = frame.replace(b'"?"', data)
        expected = read(orjson.loads, body)
        assert read(in_pieces, body) == expected, body
        right, wrong = right + (expected is not None), wrong + (expected is None)
    assert min(right, wrong) > 300


@pytest.mark.parametrize(
    ("datatype", "value"), [("FP32", 1e39), ("FP16", 70000.0), ("INT8", 128), ("UINT8", 256)]
)
def test_out_of_range_is_refused_both_ways(datatype: str, value: float) -> None:
    spec = TensorSpec("x", datatype, (-1,))
    for data in (
        [value, 1, 2],
        fastjson.loads_request(request(datatype, [value, 1, 2]))["inputs"][0]["data"],
    ):
        with pytest.raises(InvalidRequest, match=r"element 0 is .* out of range"):
            from_json(data, spec, (3,), "x")


def test_a_huge_empty_shape_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="too large"):
        TensorSpec("x", "FP32", (-1, -1, -1)).check("FP32", [0, 2**40, 2**40], "x")
