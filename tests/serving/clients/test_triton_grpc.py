"""tritonclient.grpc, unmodified, sync and asyncio."""

import asyncio
import queue
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from grpc_calls import X, url
from onnx_models import ELEMENT_TYPES
from running_server import Server
from tritonclient import grpc as triton
from tritonclient import http as triton_http
from tritonclient.grpc import aio
from tritonclient.utils import InferenceServerException, triton_to_np_dtype


def scale_input(x: np.ndarray = X) -> triton.InferInput:
    return triton.InferInput("x", list(x.shape), "FP32").set_data_from_numpy(x)


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
@pytest.mark.parametrize("version", ["", "1"])
def test_infer(shared: Server, version: str, compression: str | None) -> None:
    with triton.InferenceServerClient(url(shared)) as client:
        result = client.infer(
            "scale",
            [scale_input()],
            model_version=version,
            outputs=[triton.InferRequestedOutput("y")],
            request_id="7",
            priority=1,
            timeout=5_000_000,
            client_timeout=5,
            headers={"x-request-id": "abc"},
            compression_algorithm=compression,
        )
    np.testing.assert_array_equal(result.as_numpy("y"), X * 2)
    answer = result.get_response()
    assert (answer.id, answer.model_name, answer.model_version) == ("7", "scale", "1")


def test_every_datatype(shared: Server) -> None:
    rng = np.random.default_rng(0)
    inputs, values = [], {}
    for name in ELEMENT_TYPES:
        if name == "BYTES":
            value = np.array([[b"", "grüße 🦀".encode()]], dtype=np.object_)
        else:
            dtype = np.dtype(triton_to_np_dtype(name))
            value = np.frombuffer(rng.bytes(2 * dtype.itemsize), dtype).reshape(1, 2)
            if dtype.kind in "bf":
                value = rng.integers(0, 2, (1, 2)).astype(dtype)
        values[name] = value
        inputs.append(triton.InferInput(f"in_{name}", [1, 2], name).set_data_from_numpy(value))
    with triton.InferenceServerClient(url(shared)) as client:
        result = client.infer("echo", inputs)
    for name, value in values.items():
        np.testing.assert_array_equal(result.as_numpy(f"out_{name}"), value)


def test_management(start: Callable[..., Server], models: Path) -> None:
    server = start({"models": [{"name": "scale", "source": str(models / "scale.onnx")}]}).until_ready()
    with (
        triton.InferenceServerClient(url(server)) as client,
        triton_http.InferenceServerClient(server.url) as rest,
    ):
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("scale")
        assert client.is_model_ready("scale", "1")
        with pytest.raises(InferenceServerException, match="'none' is not known to this server"):
            client.is_model_ready("none")
        assert client.get_server_metadata(as_json=True) == rest.get_server_metadata()
        metadata = client.get_model_metadata("scale", as_json=True)
        shapes = [[int(size) for size in t.pop("shape")] for t in (*metadata["inputs"], *metadata["outputs"])]
        assert shapes == [[-1, 3], [-1, 3]]
        assert metadata["versions"] == ["1"]
        assert metadata["inputs"] == [{"name": "x", "datatype": "FP32"}]
        config = client.get_model_config("scale").config
        told = rest.get_model_config("scale")
        assert config.name == told["name"] == "scale"
        assert config.max_batch_size == told["max_batch_size"] == 64
        assert list(config.input[0].dims) == told["input"][0]["dims"] == [3]

        client.infer("scale", [scale_input()])
        (stats,) = client.get_inference_statistics("scale").model_stats
        assert stats.inference_stats.success.count == 1
        assert stats.inference_count == 2
        assert stats.execution_count == 1
        assert stats.inference_stats.compute_infer.ns > 0
        assert len(client.get_inference_statistics().model_stats) == 1

        (row,) = client.get_model_repository_index().models
        assert (row.name, row.version, row.state) == ("scale", "1", "READY")
        client.unload_model("scale")
        assert not client.is_model_ready("scale")
        assert not client.is_server_ready()
        assert client.get_model_repository_index().models[0].reason == "it was unloaded"
        with pytest.raises(InferenceServerException, match="is not ready") as failed:
            client.infer("scale", [scale_input()])
        assert failed.value.status() == "StatusCode.UNAVAILABLE"
        client.load_model("scale")
        assert client.is_server_ready()
        client.infer("scale", [scale_input()])
        with pytest.raises(InferenceServerException, match="'none' is not known"):
            client.load_model("none")


def test_a_timeout_is_a_timeout(shared: Server) -> None:
    turns = triton.InferInput("turns", [1], "INT64").set_data_from_numpy(np.array([4000], np.int64))
    with triton.InferenceServerClient(url(shared)) as client:
        with pytest.raises(InferenceServerException) as failed:
            client.infer("slow", [turns], client_timeout=0.2)
        assert failed.value.status() == "StatusCode.DEADLINE_EXCEEDED"
        with pytest.raises(InferenceServerException, match="time ran out") as failed:
            client.infer("slow", [turns], timeout=200_000)
        assert failed.value.status() == "StatusCode.DEADLINE_EXCEEDED"


def test_callbacks(shared: Server) -> None:
    answers: queue.Queue = queue.Queue()
    with triton.InferenceServerClient(url(shared)) as client:
        for n in range(50):
            x = np.full((1, 3), n, np.float32)
            client.async_infer(
                "scale", [scale_input(x)], lambda result, error, n=n: answers.put((n, result, error))
            )
        for _ in range(50):
            n, result, error = answers.get(timeout=10)
            assert error is None
            assert result.as_numpy("y").tolist() == [[2.0 * n] * 3]


def test_a_stream_keeps_its_order_and_survives_faults(shared: Server) -> None:
    answers: queue.Queue = queue.Queue()
    with triton.InferenceServerClient(url(shared)) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        turns = triton.InferInput("turns", [1], "INT64").set_data_from_numpy(np.array([300], np.int64))
        client.async_stream_infer("slow", [turns], request_id="slow")
        for n in range(20):
            x = np.full((1, 3), n, np.float32)
            client.async_stream_infer("scale" if n != 7 else "none", [scale_input(x)], request_id=str(n))
        result, error = answers.get(timeout=20)
        assert error is None
        assert result.get_response().id == "slow"
        for n in range(20):
            result, error = answers.get(timeout=10)
            if n == 7:
                assert "'none' is not known" in str(error)
            else:
                assert result.get_response().id == str(n)
                assert result.as_numpy("y").tolist() == [[2.0 * n] * 3]
        client.stop_stream()


def test_asyncio(shared: Server) -> None:
    async def ask() -> None:
        async with aio.InferenceServerClient(url(shared)) as client:
            assert await client.is_server_ready()
            assert (await client.get_model_metadata("scale")).name == "scale"

            async def one(n: int) -> None:
                tensor = aio.InferInput("x", [1, 3], "FP32")
                tensor.set_data_from_numpy(np.full((1, 3), n, np.float32))
                result = await client.infer("scale", [tensor], priority=n % 3, client_timeout=20)
                assert result.as_numpy("y").tolist() == [[2.0 * n] * 3]

            await asyncio.gather(*(one(n) for n in range(200)))

    asyncio.run(ask())


def test_a_big_tensor(shared: Server) -> None:
    x = np.random.default_rng(1).standard_normal((1_000_000, 3)).astype(np.float32)
    with triton.InferenceServerClient(url(shared)) as client:
        np.testing.assert_array_equal(client.infer("scale", [scale_input(x)]).as_numpy("y"), x * 2)
