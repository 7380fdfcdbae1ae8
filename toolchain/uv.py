"""uv, pinned by hash and kept in the cache: it makes the locks and the environments."""

import hashlib
from pathlib import Path

from toolchain.cache import Progress, locked, root, staged
from toolchain.source import REQUIREMENTS, pip_install, tag


def uv() -> str:
    """Return the pinned uv; fetched with pip when it is not cached."""
    lock = REQUIREMENTS / "installer.lock"
    folder = root() / f"uv-{tag()}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    if not folder.exists():
        with locked():
            if not folder.exists():
                with staged(folder) as unfinished, Progress("fetching uv") as progress:
                    pip_install(lock, unfinished, progress)
    return str(Path(folder, "bin", "uv"))
