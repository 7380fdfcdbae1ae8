"""The estate on Kubernetes with the real engine, and a provider that answers at once in place of a cluster.

What a cluster does with the objects is for tests/cluster; this is what the engine makes of them.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ANSWERS = ROOT / "benchmarks" / "kubernetes" / "provider"
VARIANTS = {"blue": {"model": "models:/digits/1"}, "green": {"model": "models:/digits/2"}}

Run = Callable[..., dict[str, int]]


@pytest.fixture
def run(pulumi, engine_env, tmp_path: Path) -> Run:
    """Write a stack file and preview it, or bring it up first; how many resources change, by how."""
    folder = tmp_path / "estate"
    file = folder / "config" / "Pulumi.test.yaml"
    file.parent.mkdir(parents=True)
    settings = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
    settings["name"] = "estate"
    settings["runtime"]["options"]["virtualenv"] = sys.prefix
    settings["stackConfigDir"] = "config"
    settings["plugins"]["providers"][0]["path"] = str(ROOT / "components")
    settings.pop("backend", None)
    (folder / "Pulumi.yaml").write_text(yaml.safe_dump(settings))
    (folder / "stacks").symlink_to(ROOT / "stacks")
    engine_env["PATH"] = os.pathsep.join([str(ANSWERS), engine_env["PATH"]])
    engine_env["BENCH_PYTHON"] = sys.executable
    pulumi("stack", "init", "test", cwd=folder)
    kept = yaml.safe_load(file.read_text()) if file.exists() else {}

    def ran(up: bool = False, **blocks: Any) -> dict[str, int]:
        config = {f"estate:{name}": block for name, block in {"platform": "kubernetes", **blocks}.items()}
        file.write_text(yaml.safe_dump({**kept, "config": config}))
        if up:
            pulumi("up", "--yes", "--skip-preview", "--stack", "test", cwd=folder)
        said = json.loads(pulumi("preview", "--json", "--stack", "test", cwd=folder).stdout)
        return dict(said["changeSummary"])

    return ran


def test_a_second_run_changes_nothing_and_weights_change_the_routes_alone(run: Run) -> None:
    def blocks(blue: int) -> dict[str, Any]:
        digits = {
            "variants": VARIANTS,
            "traffic": {"blue": blue, "green": 100 - blue},
            "scaling": {"min": 2, "max": 4},
        }
        return {
            "registry": {"backup": {}, "seed": {"command": ["true"]}},
            "monitoring": {},
            "gpu": {},
            "endpoints": {"digits": digits},
        }

    again = run(up=True, **blocks(90))
    assert set(again) == {"same"}, "what is made at random or owned by others must not look like a change"
    assert run(**blocks(10)) == {"same": again["same"] - 2, "update": 2}
