"""Downloaded models on local disk, kept by content and verified by digest each time they are opened.

    locations/<key>.json     which content a location had, with the digest of every file
    models/<digest>/…        the files
    work/<key>.…/            downloads under way; never read
    locks/<key>, locks/<digest>

Several processes share a cache. Whoever downloads a location holds the lock of its key; whoever uses a model
holds a shared lock (a lease) on its digest, which ends with the process at the latest, so that eviction knows
what is in use.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import orjson

from model_server.errors import LoadFailed
from model_server.models.artifact import Artifact, digest_tree
from model_server.models.mlflow_rest import tracking_uri
from model_server.models.source import Resolved
from model_server.models.stores import store_for
from model_server.settings import RegistrySettings
from model_server.telemetry.logs import log

_PLACING = "placing"


@dataclass(frozen=True)
class _Record:
    """What was found at a location."""

    location: str
    digest: str
    digests: dict[str, str]
    archive_digest: str = ""


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
    parts = (tracking_uri(registry), resolved.location, resolved.revision)
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    try:
        for folder in ("locations", "models", "work", "locks"):
            (cache_dir / folder).mkdir(parents=True, exist_ok=True)
        with _locked(cache_dir, key):
            artifact = _open(cache_dir, key, resolved)
            if artifact is None:
                _download(cache_dir, key, resolved, registry)
                artifact = _open(cache_dir, key, resolved)
    except OSError as error:
        raise LoadFailed(f"{resolved.uri}: the cache {cache_dir} cannot be used: {error}") from error
    if artifact is None:
        raise LoadFailed(f"{resolved.uri}: changed on disk while it was written to {cache_dir}")
    return artifact


def evict(cache_dir: Path, max_bytes: float) -> int:
    """Remove models unused for longest until the cache fits, but none in use. Returns the bytes removed.

    `max_bytes` of 0 empties it. Blocks. Raises OSError.
    """
    removed = 0
    if not (cache_dir / "models").is_dir():
        return removed
    with _locked(cache_dir, _PLACING):
        found = [(path.stat().st_mtime, _size(path), path) for path in (cache_dir / "models").iterdir()]
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= max_bytes:
                break
            with (cache_dir / "locks" / path.name).open("w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                shutil.rmtree(path)
            total -= size
            removed += size
            log.info("removed from the cache", extra={"sha256": path.name, "bytes": size})
    return removed


def _download(cache_dir: Path, key: str, resolved: Resolved, registry: RegistrySettings) -> None:
    # We hold the key's lock: what lies here was left by a process that was killed.
    for left in (cache_dir / "work").glob(f"{key}.*"):
        shutil.rmtree(left, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=f"{key}.", dir=cache_dir / "work"))
    try:
        files = work / "files"
        files.mkdir()
        archive_digest = store_for(resolved.location, registry).download(resolved.location, files)
        digests = digest_tree(files)
        digest = Artifact(files, resolved.uri, digests).digest
        with _locked(cache_dir, _PLACING):
            final = cache_dir / "models" / digest
            if not final.is_dir() or digest_tree(final) != digests:
                shutil.rmtree(final, ignore_errors=True)
                files.rename(final)
            os.utime(final)
        record = _Record(resolved.location, digest, digests, archive_digest)
        written = work / "record.json"
        written.write_bytes(orjson.dumps(asdict(record)))
        written.rename(cache_dir / "locations" / f"{key}.json")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _open(cache_dir: Path, key: str, resolved: Resolved) -> Artifact | None:
    """What the cache holds, if every file still has its digest."""
    try:
        record = _Record(**orjson.loads((cache_dir / "locations" / f"{key}.json").read_bytes()))
    except (FileNotFoundError, orjson.JSONDecodeError, TypeError):
        return None
    lease = _lease(cache_dir, record.digest)
    root = cache_dir / "models" / record.digest
    if not root.is_dir():
        return None
    if digest_tree(root) != record.digests:
        log.warning("the cache is corrupt; loading anew", extra={"source": resolved.uri, "path": str(root)})
        return None
    os.utime(root)
    return Artifact(root, resolved.uri, record.digests, record.archive_digest, lease)


def _lease(cache_dir: Path, digest: str) -> IO[str]:
    """A shared lock that is held until the file object is closed or collected."""
    lock = (cache_dir / "locks" / digest).open("w")
    fcntl.flock(lock, fcntl.LOCK_SH)
    return lock


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _digests(local: Path) -> dict[str, str]:
    try:
        return digest_tree(local)
    except OSError as error:
        raise LoadFailed(f"{local}: cannot be read: {error.strerror}") from error


@contextmanager
def _locked(cache_dir: Path, name: str) -> Iterator[None]:
    with (cache_dir / "locks" / name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
