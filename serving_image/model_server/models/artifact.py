"""A model's files on local disk, with the digest of every one of them."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from model_server.errors import LoadFailed

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Artifact:
    """What a source delivered."""

    root: Path
    """A folder, or the one file of the model."""
    uri: str
    """Where it came from, exactly: never an alias."""
    digests: dict[str, str]
    """Path inside root -> SHA-256 in hex."""

    @property
    def digest(self) -> str:
        """One SHA-256 for the whole artifact."""
        listing = "".join(f"{path}\0{self.digests[path]}\n" for path in sorted(self.digests))
        return hashlib.sha256(listing.encode()).hexdigest()

    @cached_property
    def mlmodel(self) -> dict[str, Any] | None:
        """The MLflow description, if the artifact has one. Raises LoadFailed if it cannot be read."""
        path = self.root / "MLmodel"
        if not path.is_file():
            return None
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise LoadFailed(f"{self.uri}: MLmodel cannot be read: {error}") from error
        if not isinstance(document, dict):
            raise LoadFailed(f"{self.uri}: MLmodel is not a mapping")
        return document


def digest_tree(root: Path) -> dict[str, str]:
    """SHA-256 of a file, or of every file in a folder, by its path inside root."""
    if root.is_file():
        return {root.name: _digest_file(root)}
    return {
        path.relative_to(root).as_posix(): _digest_file(path)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def _digest_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
