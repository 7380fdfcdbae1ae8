"""What object stores have in common: a URI means one object, or all objects under a prefix."""

import hashlib
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from model_server.errors import LoadFailed


@dataclass(frozen=True)
class StoredObject:
    """One object of a bucket."""

    key: str
    etag: str
    """Changes with the content."""
    size: int
    """Bytes."""


def bucket_and_key(location: str) -> tuple[str, str]:
    """`("bucket", "a/b")` of `s3://bucket/a/b`. Raises LoadFailed."""
    parts = urllib.parse.urlsplit(location)
    key = parts.path.strip("/")
    if not parts.netloc or not key:
        raise LoadFailed(f"{location}: expected {parts.scheme}://bucket/prefix of a model's file or folder")
    return parts.netloc, key


def files_of(location: str, key: str, listed: Iterable[StoredObject]) -> dict[str, StoredObject]:
    """Objects by their path inside the model: the object of this very key, or those in the folder it names.

    Raises LoadFailed if there are none, or one's name would climb out of the folder.
    """
    folder = f"{key}/"
    files: dict[str, StoredObject] = {}
    for item in listed:
        if item.key == key:
            return {key.rpartition("/")[2]: item}
        path = item.key.removeprefix(folder)
        # A listing by prefix has siblings too (model-old/ beside model/); a key that ends in "/" is a folder.
        if path == item.key or not path or path.endswith("/"):
            continue
        if path.startswith("/") or {"..", "."} & set(path.split("/")):
            raise LoadFailed(f"{location}: holds a key that is not a path inside it: {item.key!r:.200}")
        files[path] = item
    if not files:
        raise LoadFailed(f"{location}: no such object, and none under it")
    return files


def revision_of(files: dict[str, StoredObject]) -> str:
    """One text that changes when any of the objects does."""
    listing = "".join(f"{path}\0{files[path].etag}\0{files[path].size}\n" for path in sorted(files))
    return hashlib.sha256(listing.encode()).hexdigest()[:32]


def place(into: Path, path: str) -> Path:
    """Where an object's file goes; its folder exists afterwards."""
    to = into / path
    to.parent.mkdir(parents=True, exist_ok=True)
    return to
