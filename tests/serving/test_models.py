"""Models over their life: loaded, swapped, unloaded, freed; taken from an MLflow server."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import onnx_models
import pytest
from onnx import helper
from running_server import Server, infer_body, wait_until

BODY = infer_body([1, 2, 3], [1, 3])


def resident_mb(server: Server) -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def test_a_new_file_is_swapped_in_without_losing_a_request(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    path = onnx_models.scale(tmp_path / "m.onnx", 2.0)
    server = start({"models": [{"name": "m", "source": str(path)}]}).until_ready()
    answers: list[tuple[int, float]] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            status, answer, _ = server.post("/v2/models/m/infer", BODY)
            answers.append((status, answer["outputs"][0]["data"][0] if status == 200 else answer))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(answers) > 20)
    for factor in (3.0, 4.0, 5.0):
        onnx_models.scale(path, factor)
        assert server.post("/v2/repository/models/m/load")[0] == 200
    seen = len(answers)
    wait_until(lambda: len(answers) > seen + 10)
    done.set()
    for thread in threads:
        thread.join()
    assert {status for status, _ in answers} == {200}
    assert {value for _, value in answers} >= {2.0, 5.0}
    assert answers[-1][1] == 5.0


def test_a_corrupt_version_leaves_the_old_one_serving_and_says_so(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    path = onnx_models.scale(tmp_path / "m.onnx", 2.0)
    server = start({"models": [{"name": "m", "source": str(path)}]}).until_ready()
    path.write_bytes(path.read_bytes()[:40])
    status, answer, _ = server.post("/v2/repository/models/m/load")
    assert status == 500
    assert "ONNX Runtime cannot load it" in answer["error"]
    assert server.post("/v2/models/m/infer", BODY)[1]["outputs"][0]["data"] == [2, 4, 6]
    assert server.get("/v2/health/ready")[0] == 200
    (row,) = server.post("/v2/repository/index")[1]
    assert row["state"] == "READY"
    assert "ONNX Runtime cannot load it" in row["reason"]
    assert server.metric("model_server_model_loads_total", model="m", outcome="failed") == 1


def test_memory_is_freed_on_unload(start: Callable[..., Server], tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((4000, 4000)).astype(np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    inputs = [onnx_models.tensor("x", "FP32", ["n", 4000])]
    outputs = [onnx_models.tensor("y", "FP32", ["n", 4000])]
    path = onnx_models.save(tmp_path / "big.onnx", [node], inputs, outputs, {"w": weights})
    server = start({"models": [{"name": "big", "source": str(path)}]}).until_ready()
    loaded = resident_mb(server)
    assert server.post("/v2/repository/models/big/unload")[0] == 200
    wait_until(lambda: resident_mb(server) < loaded - 55, 5.0)
    empty = resident_mb(server)
    for _ in range(5):
        assert server.post("/v2/repository/models/big/load")[0] == 200
    assert server.post("/v2/repository/models/big/unload")[0] == 200
    wait_until(lambda: resident_mb(server) < empty + 15, 5.0)


class FakeMlflow(http.server.BaseHTTPRequestHandler):
    """The calls of an MLflow server that the model server makes."""

    files: dict[str, bytes]
    aliases: dict[str, str]

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path.endswith("/registered-models/alias"):
            self._answer({"model_version": {"name": "m", "version": self.aliases[query["alias"]]}})
        elif url.path.endswith("/model-versions/get") and query["version"] in ("1", "2"):
            self._answer({"model_version": {"name": "m", "version": query["version"]}})
        elif url.path.endswith("/get-download-uri") and query["version"] in ("1", "2"):
            self._answer({"artifact_uri": f"mlflow-artifacts:/0/v{query['version']}"})
        elif url.path.endswith("/artifacts"):
            names = [
                path.partition("/")[2] for path in self.files if path.startswith(query["path"][2:] + "/")
            ]
            self._answer({"files": [{"path": name, "is_dir": False} for name in names]})
        elif "/artifacts/0/" in url.path:
            self._answer(self.files[url.path.partition("/artifacts/0/")[2]])
        else:
            self._answer({"message": "no such version"}, 404)

    def _answer(self, content: dict | bytes, status: int = 200) -> None:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mlflow(tmp_path: Path) -> Iterator[tuple[str, type[FakeMlflow]]]:
    files = {}
    for version, factor in (("v1", 10.0), ("v2", 20.0)):
        files[f"{version}/model.onnx"] = onnx_models.scale(tmp_path / "model.onnx", factor).read_bytes()
        files[f"{version}/MLmodel"] = b"flavors: {onnx: {data: model.onnx}, python_function: {}}"
    handler = type("Handler", (FakeMlflow,), {"files": files, "aliases": {"champion": "1"}})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as fake:
        thread = threading.Thread(target=fake.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{fake.server_port}", handler
        fake.shutdown()


@pytest.mark.parametrize("by", ["settings", "environment"])
def test_versions_and_aliases_of_a_registry(
    start: Callable[..., Server], mlflow: tuple[str, type[FakeMlflow]], by: str
) -> None:
    uri, fake = mlflow
    models = [{"name": "one", "source": "models:/m/1"}, {"name": "now", "source": "models:/m@champion"}]
    settings = {"models": models} | ({"registry": {"tracking_uri": uri}} if by == "settings" else {})
    server = start(settings, **({} if by == "settings" else {"MLFLOW_TRACKING_URI": uri})).until_ready()
    answer = server.post("/v2/models/now/infer", BODY)[1]
    assert (answer["model_version"], answer["outputs"][0]["data"]) == ("1", [10, 20, 30])
    fake.aliases["champion"] = "2"
    assert server.post("/v2/repository/models/now/load")[0] == 200
    answer = server.post("/v2/models/now/infer", BODY)[1]
    assert (answer["model_version"], answer["outputs"][0]["data"]) == ("2", [20, 40, 60])
    assert server.post("/v2/models/one/infer", BODY)[1]["outputs"][0]["data"] == [10, 20, 30]


def test_a_cached_file_that_changed_is_fetched_again(
    start: Callable[..., Server], mlflow: tuple[str, type[FakeMlflow]], tmp_path: Path
) -> None:
    settings = {
        "registry": {"tracking_uri": mlflow[0]},
        "models": [{"name": "m", "source": "models:/m/1"}],
        "cache_dir": str(tmp_path / "shared-cache"),
    }
    start(settings).until_ready()
    (cached,) = (tmp_path / "shared-cache").rglob("model.onnx")
    good = cached.read_bytes()
    onnx_models.scale(cached, 666.0)
    server = start(settings).until_ready()
    assert server.post("/v2/models/m/infer", BODY)[1]["outputs"][0]["data"] == [10, 20, 30]
    assert cached.read_bytes() == good


def test_a_registry_that_cannot_give_the_model_is_named(
    start: Callable[..., Server], mlflow: tuple[str, type[FakeMlflow]]
) -> None:
    for registry, source, says in (
        ({"tracking_uri": mlflow[0]}, "models:/m/7", "404: no such version"),
        ({"tracking_uri": "http://127.0.0.1:9", "retry_seconds": 1}, "models:/m/1", "cannot be reached"),
        ({}, "models:/m/1", "registry.tracking_uri or MLFLOW_TRACKING_URI"),
        ({"tracking_uri": mlflow[0]}, "models:/m/x", "expected models:/name/version"),
        ({}, "gopher://x/y", "no store for 'gopher'"),
    ):
        server = start({"registry": registry, "models": [{"name": "m", "source": source}]})
        assert server.process.wait(timeout=30) == 3
        assert says in server.log("cannot start")["message"]


def test_a_server_that_lists_paths_outside_is_not_obeyed(
    start: Callable[..., Server], mlflow: tuple[str, type[FakeMlflow]]
) -> None:
    mlflow[1].files["v1/../../evil"] = b"x"
    server = start(
        {"registry": {"tracking_uri": mlflow[0]}, "models": [{"name": "m", "source": "models:/m/1"}]}
    )
    assert server.process.wait(timeout=30) == 3
    assert "a name that is not one" in server.log("cannot start")["message"]
