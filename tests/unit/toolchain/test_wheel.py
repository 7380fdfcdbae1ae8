"""What is installed of this project where there is no checkout."""

import shutil
import subprocess
import zipfile
from pathlib import Path

from toolchain.lock import REQUIREMENTS, ROOT
from toolchain.uv import uv

ROOMS = ("components", "stacks", "policies")


def test_a_wheel_has_all_of_the_package(tmp_path: Path):
    project = tmp_path / "project"  # a copy: builds write beside what they read
    for room in ROOMS:
        shutil.copytree(ROOT / room, project / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, project)

    build = ["--build-constraints", str(REQUIREMENTS / "build.lock"), "--out-dir", str(tmp_path)]
    subprocess.run([uv(), "build", "--quiet", "--wheel", *build, str(project)], check=True)

    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    code = {path for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    beside = {ROOT / "components" / name for name in ("PulumiPlugin.yaml", "schema.json")}
    schema = ROOT / "components" / "spec" / "stack.schema.json"
    assert {str(path.relative_to(ROOT)) for path in code | beside | {schema}} <= held
