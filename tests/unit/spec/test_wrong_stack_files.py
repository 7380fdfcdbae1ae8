"""Wrong stack files: each gives the messages that stand beside it in wrong_stack_files.yaml."""

import json
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from stacks.configuration import read

PREFIX = "serving-estate:"
CASES: list[dict[str, Any]] = yaml.safe_load(
    Path(__file__).with_name("wrong_stack_files.yaml").read_text(encoding="utf-8")
)


def handed_over(text: str) -> dict[str, str]:
    """The configuration in a stack file as the engine hands it to a program.

    tests/engine/test_wrong_stack_files.py holds that against the engine.
    """
    config = (yaml.safe_load(text) or {}).get("config") or {}
    return {
        key if ":" in key else f"{PREFIX}{key}": ""
        if value is None
        else value
        if isinstance(value, str)
        else json.dumps(value)
        for key, value in config.items()
    }


def messages(text: str, folder: Path) -> list[str]:
    """What the user of a stack file is told, without the folder's name."""
    file = folder / "stacks" / "Pulumi.test.yaml"
    file.parent.mkdir()
    file.write_text(text, encoding="utf-8")
    with pytest.raises(pulumi.RunError) as caught:
        read(handed_over(text), PREFIX, file)
    head, *faults = str(caught.value).split("\n")
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    assert head == f"{count} in the configuration of this stack; nothing was changed:"
    assert all(fault.startswith("  stacks/Pulumi.test.yaml:") for fault in faults)
    return [fault.removeprefix("  stacks/Pulumi.test.yaml:") for fault in faults]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_wrong_stack_file_is_explained(case: dict[str, Any], tmp_path: Path) -> None:
    assert messages(case["file"], tmp_path) == case["says"]


def test_the_cases_are_many_and_different() -> None:
    assert len({case["name"] for case in CASES}) == len(CASES) >= 40
    assert len({case["file"] for case in CASES}) == len(CASES)
    assert len({str(case["says"]) for case in CASES}) > len(CASES) * 0.9


def test_a_block_of_an_environment_that_has_no_file_is_explained_without_a_line(tmp_path: Path) -> None:
    with pytest.raises(pulumi.RunError) as caught:
        read({}, PREFIX, tmp_path / "Pulumi.none.yaml")
    assert str(caught.value).endswith("changed:\n  serving-estate:platform: is required; e.g. local")


def test_other_namespaces_are_for_others(tmp_path: Path) -> None:
    spec = read({"aws:region": "x", "serving-estate:platform": "local"}, PREFIX, tmp_path / "none")
    assert spec.endpoints == {}
