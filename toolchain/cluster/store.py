"""What containerd made of the images, kept in the cache: unpacking them takes longer than all else.

A cluster and the cache share files by hard links. containerd never writes to a blob, nor to a layer that is
unpacked: containers write to layers of their own. It does write to its databases, and those are copied.
"""

import shutil
from pathlib import Path

from toolchain.cache import ToolError, locked, root

from . import layout
from .commands import run
from .node import snapshotter


def lend() -> bool:
    """Give a new cluster what an earlier one had unpacked; whether the cluster is a new one."""
    if layout.CONTAINERD.exists():
        return False
    half = layout.CONTAINERD.with_suffix(".half")
    shutil.rmtree(half, ignore_errors=True)
    with locked():
        if _kept().exists() and _share(_kept(), half):
            half.replace(layout.CONTAINERD)
    return True


def keep() -> None:
    """Keep what there is for the next cluster. containerd must not run, nor have run a container."""
    with locked():
        half = root() / "unfinished-containerd"  # a run that is killed here leaves what the next one removes
        if _share(layout.CONTAINERD, half):
            shutil.rmtree(_kept(), ignore_errors=True)
            half.rename(_kept())


def _kept() -> Path:
    return root() / f"cluster-containerd-{snapshotter()}"


def _share(source: Path, target: Path) -> bool:
    """Link a folder's files; whether both places can share them, which they cannot on two file systems."""
    try:
        run("cp", "--archive", "--link", source, target, seconds=600)
        for database in target.rglob("*.db"):
            copy = database.with_suffix(".copy")
            shutil.copy2(database, copy)
            copy.replace(database)
    except ToolError:
        shutil.rmtree(target, ignore_errors=True)
        return False
    return True
