"""tritonclient, unmodified, sync and asyncio."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx_models import ELEMENT_TYPES
from running_server import Server
from tritonclient import http as sync_http
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def scale_input(binary: bool) -> sync_http.InferInput:
    tensor = sync_http.InferInput("x", [2, 3], "FP32")
    tensor.set_data_from_numpy(X, binary_data=binary)
    return tensor


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_infer(shared: Server, binary_in: bool, binary_out: bool, compression: str | None) -> None:
    with sync_http.InferenceServerClient(shared.url) as client:
        wanted = [sync_http.InferRequestedOutput("y", binary_data=binary_out)]
        result = client.infer(
            "scale",
            [scale_input(binary_in)],
            outputs=wanted,
            request_id="7",
            request_compression_algorithm=compression,
            response_compression_algorithm=compression,
        )
        np.testing.assert_array_equal(result.as_numpy("y"), X * 2)
        assert result.get_response()["id"] == "7"
        np.testing.assert_array_equal(client.infer("scale", [scale_input(binary_in)]).as_numpy("y"), X * 2)


def test_every_datatype_as_binary(shared: Server) -> None:
    rng = np.random.default_rng(0)
    inputs, values = [], {}
    for name in ELEMENT_TYPES:
        if name == "BYTES":
            value = np.array([[b"a\x00b", "ü".encode()]], dtype=np.object_)
        else:
            value = rng.integers(0, 2, (1, 2)).astype(triton_to_np_dtype(name))
        values[name] = value
        inputs.append(sync_http.InferInput(f"in_{name}", [1, 2], name).set_data_from_numpy(value))
    with sync_http.InferenceServerClient(shared.url) as client:
        result = client.infer("echo", inputs)
    for name, value in values.items():
        np.testing.assert_array_equal(result.as_numpy(f"out_{name}"), value)


def test_admin_calls(shared: Server) -> None:
    with sync_http.InferenceServerClient(shared.url) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("scale")
        assert client.is_model_ready("scale", "1")
        assert not client.is_model_ready("none")
        assert client.get_server_metadata()["name"] == "model-server"
        assert client.get_model_metadata("scale")["inputs"][0]["name"] == "x"
        assert client.get_model_config("scale")["name"] == "scale"
        assert any(row["name"] == "scale" for row in client.get_model_repository_index())
        client.load_model("scale")
        client.infer("scale", [scale_input(True)])
        (stats,) = client.get_inference_statistics("scale")["model_stats"]
        assert stats["inference_stats"]["success"]["count"] >= 1
        assert stats["inference_count"] >= 1
        assert len(client.get_inference_statistics()["model_stats"]) == 5


def test_errors_are_the_servers_words(shared: Server) -> None:
    with sync_http.InferenceServerClient(shared.url) as client:
        tensor = sync_http.InferInput("x", [1, 2], "FP32").set_data_from_numpy(X[:1, :2])
        with pytest.raises(InferenceServerException, match="dimension 1 is 2, expected 3"):
            client.infer("scale", [tensor])


def test_many_at_once_with_asyncio(start: Callable[..., Server], models: Path) -> None:
    """With a server of its own: the shared one gives a body 0.7 s, little where others use the cores."""
    server = start({"models": [{"name": "scale", "source": str(models / "scale.onnx")}]}).until_ready()

    async def ask() -> None:
        async with aio.InferenceServerClient(server.url) as client:

            async def one(n: int) -> None:
                tensor = aio.InferInput("x", [1, 3], "FP32")
                tensor.set_data_from_numpy(np.full((1, 3), n, np.float32))
                result = await client.infer("scale", [tensor], priority=n % 3, timeout=10_000_000)
                assert result.as_numpy("y").tolist() == [[2 * n] * 3]

            await asyncio.gather(*(one(n) for n in range(200)))

    asyncio.run(ask())
