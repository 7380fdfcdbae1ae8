"""The image: small, without tools, and a good citizen of a container runtime."""

import json
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from .conftest import Container

LIMIT_MB = 250


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that squares."""
    shape = ["rows", 3]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy")
    graph = helper.make_graph([helper.make_node("Mul", ["x", "x"], ["y"])], "square", [x], [y])
    file = tmp_path / "square.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), file)
    return file


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def serving(run: Callable[..., Container], model: Path, tmp_path: Path) -> tuple[Container, int]:
    """A container that serves the model, and its port."""
    port = free_port()
    settings = tmp_path / "settings.yaml"
    server = {"http_port": port, "grpc_port": free_port(), "drain_seconds": 0.1}
    models = [{"name": "square", "source": "/models/square.onnx"}]
    settings.write_text(json.dumps({"server": server, "models": models}))
    container = run({settings: "/etc/model-server/settings.yaml", model: "/models/square.onnx"})
    container.wait_until_ready(port)
    return container, port


def test_it_answers_unprivileged_on_a_read_only_file_system(serving: tuple[Container, int]) -> None:
    container, port = serving
    body = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
    url = f"http://127.0.0.1:{port}/v2/models/square/infer"
    with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=30) as response:
        assert json.load(response)["outputs"][0]["data"] == [1, 4, 9]
    told = container.execute("python3", "-c", "import os; print(os.getuid()); open('/opt/x', 'w')")
    assert told.stdout.strip() == "65532"
    assert "Read-only file system" in told.stderr


def test_the_health_check_says_what_readiness_says(
    serving: tuple[Container, int], configuration: dict[str, Any]
) -> None:
    container, _ = serving
    kind, *command = configuration["Healthcheck"]["Test"]
    assert kind == "CMD"
    assert container.execute(*command).returncode == 0
    assert container.execute("model-server", "ready").returncode == 1  # nobody listens on the default port


def test_as_process_1_it_stops_in_order_on_sigterm(serving: tuple[Container, int]) -> None:
    container, _ = serving
    container.signal("TERM")
    assert container.wait() == 0, container.log.read_text()


def test_it_is_small(files: Path) -> None:
    size = sum(file.lstat().st_size for file in files.rglob("*") if not file.is_dir())
    print(f"unpacked: {size / 1e6:.0f} MB")
    assert size < LIMIT_MB * 1e6


def test_no_shell_compiler_or_package_manager_is_left(files: Path) -> None:
    tools = {
        "sh",
        "bash",
        "dash",
        "apt",
        "apt-get",
        "dpkg",
        "pip",
        "pip3",
        "gcc",
        "cc",
        "ld",
        "as",
        "perl",
        "curl",
    }
    found = {file.name for file in files.rglob("bin/*")} | {file.name for file in files.rglob("sbin/*")}
    assert not found & tools
    assert not list(files.rglob("site-packages/pip"))


def test_it_says_what_it_is_made_of(files: Path, configuration: dict[str, Any]) -> None:
    place = files / configuration["Labels"]["model-server.sbom"].lstrip("/")
    components = {part["name"] for part in json.loads((place / "python.cdx.json").read_text())["components"]}
    assert {"model-server", "onnxruntime", "numpy"} <= components
    assert "libc6 " in (place / "debian.txt").read_text()
    assert configuration["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
