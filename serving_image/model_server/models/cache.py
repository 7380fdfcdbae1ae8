"""Downloaded models on local disk: one folder a location, verified by digest each time it is opened."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from model_server.errors import LoadFailed
from model_server.models.artifact import Artifact, digest_tree
from model_server.models.source import Resolved
from model_server.models.stores import store_for
from model_server.settings import RegistrySettings


def default_cache_dir() -> Path:
    """The user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "model-server"


def fetch(resolved: Resolved, registry: RegistrySettings, cache_dir: Path) -> Artifact:
    """Bring the files here, or find them in the cache. Blocks. Raises LoadFailed.

    Several processes may ask at once: one downloads, the others wait and find its result.
    """
    store = store_for(resolved.location, registry)
    local = store.local_path(resolved.location)
    if local is not None:
        return Artifact(local, resolved.uri, _digests(local))
    tracking = registry.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    key = hashlib.sha256(f"{tracking}\0{resolved.location}".encode()).hexdigest()[:32]
    try:
        with _locked(cache_dir, key):
            cached = _open(cache_dir / key, resolved)
            if cached is None:
                work = Path(tempfile.mkdtemp(prefix=f"{key}.", dir=cache_dir))
                try:
                    _download(resolved, registry, work, cache_dir / key)
                finally:
                    shutil.rmtree(work, ignore_errors=True)
                cached = _open(cache_dir / key, resolved)
    except OSError as error:
        raise LoadFailed(f"{resolved.uri}: the cache {cache_dir} cannot be used: {error}") from error
    if cached is None:
        raise LoadFailed(f"{resolved.uri}: changed on disk while it was written to {cache_dir}")
    return cached


def _download(resolved: Resolved, registry: RegistrySettings, work: Path, final: Path) -> None:
    files = work / "files"
    files.mkdir()
    store_for(resolved.location, registry).download(resolved.location, files)
    (work / "digests.json").write_bytes(orjson.dumps(digest_tree(files)))
    shutil.rmtree(final, ignore_errors=True)
    work.rename(final)


def _open(folder: Path, resolved: Resolved) -> Artifact | None:
    """What the cache holds, if every file still has its digest."""
    try:
        recorded = orjson.loads((folder / "digests.json").read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
    root = folder / "files"
    return Artifact(root, resolved.uri, recorded) if digest_tree(root) == recorded else None


def _digests(local: Path) -> dict[str, str]:
    try:
        return digest_tree(local)
    except OSError as error:
        raise LoadFailed(f"{local}: cannot be read: {error.strerror}") from error


@contextmanager
def _locked(cache_dir: Path, key: str) -> Iterator[None]:
    cache_dir.mkdir(parents=True, exist_ok=True)
    with (cache_dir / f"{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
