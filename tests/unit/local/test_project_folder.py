"""Where the user's project is, in a program and in the plugin."""

from pathlib import Path

import pulumi
import pytest

from components.local.platform import project_folder


def test_a_program_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pulumi, "get_root_directory", lambda: str(tmp_path))
    assert project_folder() == tmp_path


@pytest.mark.parametrize("file", ["Pulumi.yaml", "Pulumi.yml", "Pulumi.json"])
def test_the_plugin_finds_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: str) -> None:
    monkeypatch.setattr(pulumi, "get_root_directory", lambda: None)
    (tmp_path / "project" / "program").mkdir(parents=True)
    (tmp_path / "project" / file).touch()
    monkeypatch.chdir(tmp_path / "project" / "program")
    assert project_folder() == tmp_path / "project"
    monkeypatch.chdir(tmp_path)
    assert project_folder() == tmp_path, "a program without a project file: its own folder"
