"""The image of a driver, as its Dockerfile says, with the project of a stack; imported into the node."""

import os
import shutil
from pathlib import Path

from tests.cluster.estate.stack import ClusterStack
from toolchain import image as builder
from toolchain.cluster import images, node
from toolchain.cluster.commands import run
from toolchain.engine import engine
from toolchain.lock import ROOT

NAME = "docker.io/serving-estate/driver:dev"
_ENGINE = "localhost/pulumi-python:dev"
_DRIVER = "localhost/driver:dev"
_IGNORED = shutil.ignore_patterns("__pycache__", "*.egg-info")


def load(stack: ClusterStack, folder: Path) -> None:
    """Build it in a folder, and give it to the node.

    Raises:
        ToolError: it cannot be built.
    """
    builder.debian()
    _build(_ENGINE, _engine(folder / "engine"), ROOT / "tests/cluster/rollout/Containerfile", builder.DEBIAN)
    project = _project(stack, folder / "project")
    _build(_DRIVER, project, project / "stacks" / "rollout" / "Dockerfile", _ENGINE)
    archive = folder / "driver.tar"
    builder.run(["buildah", "push", "--quiet", _DRIVER, f"docker-archive:{archive}:{NAME}"])
    run(*images.CTR, "images", "import", "--snapshotter", node.snapshotter(), archive, seconds=600)
    archive.unlink()


def unload() -> None:
    """Take it from the node."""
    run(*images.CTR, "images", "remove", NAME)


def _engine(context: Path) -> Path:
    """What the base is built from."""
    shutil.copytree(engine().parent, context / "engine", symlinks=True)
    (context / "tests" / "cluster").mkdir(parents=True)
    shutil.copytree(
        ROOT / "tests" / "cluster" / "provider", context / "tests" / "cluster" / "provider", ignore=_IGNORED
    )
    return context


def _project(stack: ClusterStack, context: Path) -> Path:
    """The stack's project, as a user has it in a folder."""
    context.mkdir()
    for name in ("components", "policies", "stacks"):
        shutil.copytree(ROOT / name, context / name, ignore=_IGNORED)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, context / name)
    settings = (stack.folder / "Pulumi.yaml").read_text()
    # Where its packages lie differs from machine to machine; everything else is the project's.
    for here, there in ((os.fspath(ROOT / "components"), "./components"), (_prefix(settings), ".venv")):
        settings = settings.replace(here, there)
    (context / "Pulumi.yaml").write_text(settings.replace("stackConfigDir: config", "stackConfigDir: stacks"))
    for file in (stack.folder / "config").glob("*.yaml"):
        shutil.copy(file, context / "stacks" / file.name)
    return context


def _prefix(settings: str) -> str:
    (line,) = [line for line in settings.splitlines() if "virtualenv:" in line]
    return line.partition(":")[2].strip()


def _build(name: str, context: Path, file: Path, base: str) -> None:
    command = ["buildah", "build", "--layers", "--tag", name, "--file", str(file)]
    command += ["--build-arg", f"BASE={base}", *builder.certificates("buildah")]
    builder.run([*command, str(context)])
