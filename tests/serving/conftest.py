"""Servers for the tests: one shared by those that do not change it, or one made to measure."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import onnx_models
from running_server import Server


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ONNX models, named for the functions of onnx_models."""
    folder = tmp_path_factory.mktemp("models")
    for make in (
        onnx_models.scale,
        onnx_models.echo,
        onnx_models.centred,
        onnx_models.lookup,
        onnx_models.slow,
    ):
        make(folder / f"{make.__name__}.onnx")
    return folder


@pytest.fixture(scope="session")
def shared(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with every model; tests leave it as they found it."""
    declared = [{"name": path.stem, "source": str(path)} for path in sorted(models.glob("*.onnx"))]
    http = {
        "header_timeout_seconds": 0.5,
        "body_timeout_seconds": 0.7,
        "idle_timeout_seconds": 5,
        "max_body_bytes": 1_000_000,
        "max_header_bytes": 8192,
    }
    server = Server(tmp_path_factory.mktemp("shared"), {"models": declared, "http": http})
    try:
        yield server.until_ready()
    finally:
        server.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers with settings of one's own; they end with the test."""
    servers: list[Server] = []

    def begin(settings: dict[str, Any], **environment: str) -> Server:
        folder = tmp_path / str(len(servers))
        folder.mkdir()
        servers.append(Server(folder, settings, **environment))
        return servers[-1]

    yield begin
    for server in servers:
        server.close()
