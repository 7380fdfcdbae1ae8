"""The package for others: a program outside the repository consumes one component through the engine.

The program declares the component as a generated SDK would. Generating one is tried as well, where the
engine's language host can: the official release can, one built from source cannot.
"""

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import psutil
import pytest
from onnx import TensorProto, helper

ROOT = Path(__file__).parents[2]
PLUGIN = f"""
plugins:
  providers:
    - {{name: serving-estate, path: {ROOT / "components"}}}
"""
PROGRAM = """
import json
import pulumi


class Remote(pulumi.ComponentResource):
    def __init__(self, kind, name, arguments, outputs):
        absent = dict.fromkeys(outputs)
        super().__init__(f"serving-estate:index:{kind}", name, {**absent, **arguments}, None, remote=True)


config = pulumi.Config()
kind, arguments = config.get("kind") or "ModelServer", json.loads(config.require("arguments"))
component = Remote(kind, "sums", arguments, ["addresses", "host"])
pulumi.export("addresses", component.addresses)
pulumi.export("host", component.host)
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that weighs two numbers: 2 a + 3 b."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])]
    weights = [helper.make_tensor("w", TensorProto.FLOAT, [2, 1], [2.0, 3.0])]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", inputs, outputs, weights)
    file = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(file))
    return file


@pytest.fixture
def outside(project_of: Callable[..., Path], pulumi, engine_env, tmp_path: Path):
    """Makes a project that uses the package; what it left running ends with the test."""
    engine_env["XDG_STATE_HOME"] = str(tmp_path / "state")
    made = []

    def make(name: str = "sample") -> Path:
        made.append(project_of(PROGRAM, settings=PLUGIN, name=name))
        return made[-1]

    yield make
    for folder in made:
        pulumi("destroy", "--yes", "--stack", "test", cwd=folder, check=False)


def _set(pulumi, folder: Path, kind: str = "ModelServer", **arguments: Any) -> None:
    pulumi("config", "set", "kind", kind, "--stack", "test", cwd=folder)
    pulumi("config", "set", "arguments", json.dumps(arguments), "--stack", "test", cwd=folder)


def _up(pulumi, folder: Path) -> dict[str, Any]:
    pulumi("up", "--yes", "--skip-preview", "--stack", "test", cwd=folder)
    outputs = pulumi("stack", "output", "--json", "--stack", "test", cwd=folder).stdout
    return dict(json.loads(outputs))


def _ask(address: str, model: str, rows: list[list[float]]) -> list[float]:
    values = [value for row in rows for value in row]
    body = {"inputs": [{"name": "x", "shape": [len(rows), 2], "datatype": "FP32", "data": values}]}
    request = urllib.request.Request(f"{address}/v2/models/{model}/infer", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=30) as response:
        return list(json.load(response)["outputs"][0]["data"])


def _running(below: Path) -> list[str]:
    """The processes that were started for state folders below a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("SERVING_ESTATE_HOST", "").startswith(str(below)):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def test_a_component_lives_and_ends_in_a_project_outside(
    outside, pulumi, model: Path, tmp_path: Path
) -> None:
    folder = outside()
    _set(pulumi, folder, model=str(model))

    (address,) = _up(pulumi, folder)["addresses"]
    assert _ask(address, "sums", [[1, 1], [0.5, 2]]) == [5.0, 7.0]
    pulumi("preview", "--expect-no-changes", "--stack", "test", cwd=folder)
    assert _running(tmp_path)

    pulumi("destroy", "--yes", "--stack", "test", cwd=folder)
    assert _running(tmp_path) == []
    assert [file for file in (tmp_path / "state").rglob("*") if not file.is_dir()] == []


def test_projects_with_the_same_names_do_not_share_a_state_folder(
    outside, pulumi, model: Path, tmp_path: Path, engine_env
) -> None:
    """Two folders with the same project and stack, each with a backend of its own."""
    hosts = []
    for name in ("one", "two"):
        folder = outside(name)
        (folder / "Pulumi.yaml").write_text(
            (folder / "Pulumi.yaml").read_text().replace(f"name: {name}\n", "name: same\n")
        )
        (tmp_path / f"backend-{name}").mkdir()
        engine_env["PULUMI_BACKEND_URL"] = f"file://{tmp_path / f'backend-{name}'}"
        pulumi("stack", "init", "test", cwd=folder)
        _set(pulumi, folder, model=str(model))
        pulumi("preview", "--stack", "test", "--save-plan", str(tmp_path / f"{name}.json"), cwd=folder)
        plan = (tmp_path / f"{name}.json").read_text()
        hosts += [
            goal["goal"]["inputDiff"]["adds"]["folder"]
            for goal in json.loads(plan)["resourcePlans"].values()
            if goal["goal"]["type"] == "serving-estate:local:Host"
        ]
    assert len(set(hosts)) == len(hosts) == 2


WRONG: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "none": ("ModelServer", {}, ["property model", "is required"]),
    "types and names": (
        "ModelServer",
        {"model": 3, "replicas": "two", "runtime": "bundeld", "replica": 2},
        [
            "must be text, got 3",
            "must be a whole number, got 'two'",
            "must be `bundled`, got 'bundeld' (did you mean `bundled`?)",
            "(did you mean `replicas`?)",
        ],
    ),
    "values": (
        "ModelServer",
        {"model": "models:/digits", "replicas": 0},
        ["write models:/digits/1 or models:/digits@champion", "must be between 1 and 64, got 0"],
    ),
    "blocks": (
        "ModelEndpoint",
        {"endpoint": {"variants": {"blue": {"model": "/x"}}, "timeoutMs": "30s", "trafic": {}}},
        [
            "endpoint.timeout_ms",
            "must be a whole number of milliseconds, got '30s'; write 30000",
            "(did you mean `traffic`?)",
        ],
    ),
}


def test_wrong_arguments_are_explained_and_nothing_is_made(outside, pulumi, tmp_path: Path) -> None:
    folder = outside()
    for kind, arguments, messages in WRONG.values():
        _set(pulumi, folder, kind, **arguments)
        done = pulumi("up", "--yes", "--skip-preview", "--stack", "test", cwd=folder, check=False)
        said = done.stdout + done.stderr
        assert done.returncode != 0
        assert "cannot be made" in said
        assert [message for message in messages if message not in said] == [], said
        assert "Traceback" not in said
    assert not (tmp_path / "state").exists()


def test_the_committed_schema_is_what_the_engine_reads(pulumi, tmp_path: Path) -> None:
    done = pulumi("package", "get-schema", str(ROOT / "components"), cwd=tmp_path)
    committed = json.loads((ROOT / "components" / "schema.json").read_text())
    assert json.loads(done.stdout) == committed, "run `make schema`"
    for text in _descriptions(committed):
        assert "\n" not in text
        assert "  " not in text


def _descriptions(node: Any) -> list[str]:
    if isinstance(node, list):
        return [text for item in node for text in _descriptions(item)]
    if not isinstance(node, dict):
        return []
    own = [node["description"]] if isinstance(node.get("description"), str) else []
    return own + [text for item in node.values() for text in _descriptions(item)]
