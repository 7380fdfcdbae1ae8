"""Wrong stack files with the real engine: explained, without a stack trace, and nothing is made.

All of the messages are in tests/unit/spec; here a few of them go the whole way.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
_FILE = ROOT / "tests" / "unit" / "spec" / "wrong_stack_files.yaml"
CASES: dict[str, Any] = {case["name"]: case for case in yaml.safe_load(_FILE.read_text(encoding="utf-8"))}

THROUGH_THE_ENGINE = [
    "an empty file",
    "a key beside config",
    "a name that is not ASCII",
    "many faults at once",
]

# What the engine itself refuses, before it runs the program.
REFUSED_BY_THE_ENGINE = {
    "config:\n  serving-estate:platform: [local\n": "did not find expected ',' or ']'",
    "config:\n\tserving-estate:platform: local\n": "found character that cannot start any token",
    "config:\n  serving-estate:endpoints: {a: 1, a: 2}\n": 'mapping key "a" already defined at line 2',
    "config: []\n": "cannot unmarshal !!seq into map",
    "config:\n  serving-estate:endpoints:a: 1\n": "configuration keys should be of the form",
    "config:\n  serving-estate:endpoints: {a: .nan}\n": "unsupported value: NaN",
}


@pytest.fixture
def estate(tmp_path: Path, pulumi, engine_env: dict[str, str]) -> Callable[[str], Path]:
    """Writes a stack file for the project's own program, in a project of the test's."""
    engine_env["XDG_STATE_HOME"] = str(tmp_path / "state")

    def write(stack_file: str) -> Path:
        folder = tmp_path / "project"
        settings = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
        settings["runtime"]["options"]["virtualenv"] = str(ROOT / ".venv")
        settings["main"] = "program/"
        settings["plugins"]["providers"][0]["path"] = str(ROOT / "components")
        (folder / "stacks").mkdir(parents=True)
        (folder / "program").symlink_to(ROOT / "stacks")
        (folder / "Pulumi.yaml").write_text(yaml.safe_dump(settings))
        pulumi("stack", "init", "test", cwd=folder)
        # Without its salt the engine writes the file anew, less what it does not know.
        written = folder / "stacks" / "Pulumi.test.yaml"
        written.write_text(stack_file + written.read_text(), encoding="utf-8")
        return folder

    return write


def _resources(pulumi, folder: Path) -> list[str]:
    (folder / "stacks" / "Pulumi.test.yaml").write_text("config: {}\n")
    exported = json.loads(pulumi("stack", "export", "--stack", "test", cwd=folder).stdout)
    return [resource["type"] for resource in exported["deployment"].get("resources") or []]


@pytest.mark.parametrize("name", THROUGH_THE_ENGINE)
def test_a_wrong_stack_file_is_explained_and_nothing_is_made(name: str, estate, pulumi, tmp_path) -> None:
    folder = estate(CASES[name]["file"])
    for command in (["preview"], ["up", "--yes", "--skip-preview"]):
        done = pulumi(*command, "--stack", "test", cwd=folder, check=False)
        said = done.stdout + done.stderr
        assert done.returncode != 0, said
        for message in CASES[name]["says"]:
            assert f"stacks/Pulumi.test.yaml:{message}" in said
        assert "Traceback" not in said
    assert set(_resources(pulumi, folder)) <= {"pulumi:pulumi:Stack"}
    assert not (tmp_path / "state").exists(), "state folders, and with them processes and ports"


@pytest.mark.parametrize("stack_file", REFUSED_BY_THE_ENGINE)
def test_what_is_not_a_stack_file_is_refused_by_the_engine(stack_file: str, estate, pulumi, tmp_path) -> None:
    folder = estate(stack_file)
    done = pulumi("up", "--yes", "--stack", "test", cwd=folder, check=False)
    assert done.returncode != 0
    assert REFUSED_BY_THE_ENGINE[stack_file] in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "state").exists()


def test_configuration_reaches_a_program_as_the_unit_tests_take_for_granted(project_of, pulumi) -> None:
    folder = project_of(
        """
        import json, pulumi
        from pulumi.runtime.config import CONFIG
        pulumi.export("config", json.dumps(dict(CONFIG.get())))
        """
    )
    (folder / "Pulumi.test.yaml").write_text(
        "config:\n  sample:text: local\n  sample:nothing:\n  bare: {a: [1, true, null, x, 1.5, 90.0]}\n"
        "  sample:yes: true\n  other:number: 3\n"
    )
    pulumi("up", "--yes", "--skip-preview", "--stack", "test", cwd=folder)
    config = pulumi("stack", "output", "config", "--stack", "test", cwd=folder).stdout
    assert json.loads(config) == {
        "sample:text": "local",
        "sample:nothing": "",
        "sample:bare": '{"a":[1,true,null,"x",1.5,90]}',
        "sample:yes": "true",
        "other:number": "3",
    }
