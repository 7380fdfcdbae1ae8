"""The real engine for tests: found or made as `make setup` does, with its state in a temporary folder."""

import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from toolchain.engine import apart, engine


class Pulumi(Protocol):
    """Runs a pulumi command; fails the test with what it said, unless `check` is off."""

    def __call__(
        self, *args: str, cwd: Path, env: Mapping[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture(scope="session")
def engine_folder() -> Path:
    """The folder of the engine under test."""
    return engine()


@pytest.fixture
def engine_env(tmp_path: Path) -> dict[str, str]:
    """An environment in which `pulumi` touches nothing outside the test's folder."""
    backend = tmp_path / "backend"
    backend.mkdir()
    return apart(tmp_path) | {"PULUMI_BACKEND_URL": f"file://{backend}", "NO_COLOR": "1"}


@pytest.fixture
def pulumi(engine_env: dict[str, str]) -> Pulumi:
    """Run a pulumi command without a terminal."""

    def run(
        *args: str, cwd: Path, env: Mapping[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["pulumi", "--non-interactive", *args],
            cwd=cwd,
            env=dict(env or engine_env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if check and done.returncode:
            pytest.fail(
                f"`pulumi {' '.join(args)}` exited with code {done.returncode}\n{done.stdout}\n{done.stderr}",
                pytrace=False,
            )
        return done

    return run


Files = Mapping[str, str]


@pytest.fixture
def folder_of(tmp_path: Path) -> Callable[[str, Files], Path]:
    """Write files below a new folder; a dedent saves the tests from walls of escaped text."""

    def write(name: str, files: Files) -> Path:
        for path, text in files.items():
            target = tmp_path / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(textwrap.dedent(text).lstrip("\n"))
        return tmp_path / name

    return write


@pytest.fixture
def project_of(folder_of: Callable[[str, Files], Path], pulumi: Pulumi) -> Callable[..., Path]:
    """Write a project of one program, with a stack `test` in it."""

    def write(program: str, *, settings: str = "", name: str = "sample", **more: str) -> Path:
        head = f"name: {name}\nruntime: {{name: python, options: {{virtualenv: {sys.prefix}}}}}\n"
        folder = folder_of(
            name, {"Pulumi.yaml": head + textwrap.dedent(settings), "__main__.py": program} | more
        )
        pulumi("stack", "init", "test", cwd=folder)
        return folder

    return write
