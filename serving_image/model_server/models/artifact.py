"""A model's files on local disk, with the digest of every one of them."""

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from model_server.errors import LoadFailed
from model_server.models.scan import pieces

_CHUNK = 1 << 20
_EXTERNAL_LOCATION = re.compile(rb"\x0a\x08location\x12([\x01-\x7f])")
"""The key "location" of a tensor's external data in protobuf's encoding, and the length of its value."""


@dataclass(frozen=True)
class Artifact:
    """What a source delivered."""

    root: Path
    """A folder, or the one file of the model."""
    uri: str
    """Where it came from, exactly: never an alias."""
    digests: dict[str, str]
    """Path inside root -> SHA-256 in hex."""
    archive_digest: str = ""
    """SHA-256 of the archive that the files came in, if they came in one."""
    lease: object = None
    """Keeps the files in the cache for as long as this object lives."""

    @property
    def digest(self) -> str:
        """One SHA-256 for the whole artifact."""
        listing = "".join(f"{path}\0{self.digests[path]}\n" for path in sorted(self.digests))
        return hashlib.sha256(listing.encode()).hexdigest()

    def verify(self, expected: str, says: str) -> None:
        """Raise LoadFailed unless this digest, which somebody (`says`) gave, is ours.

        It may be of the whole artifact, of its one file, or of the archive it came in.
        """
        files = list(self.digests.values())
        if expected in (self.digest, self.archive_digest) or files == [expected]:
            return
        raise LoadFailed(
            f"{self.uri}: SHA-256 is {files[0] if len(files) == 1 else self.digest}, "
            f"but {says} says {expected}: the files were changed, or the record is of others"
        )

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

    def flavor(self, name: str) -> dict[str, Any] | None:
        """One flavour of the MLflow description. Raises LoadFailed."""
        flavors = (self.mlmodel or {}).get("flavors") or {}
        if not isinstance(flavors, dict) or not isinstance(flavors.get(name, {}), dict):
            raise LoadFailed(f"{self.uri}: MLmodel: flavors is not a mapping of mappings")
        found: dict[str, Any] | None = flavors.get(name)
        return found

    def file(self, path: str) -> Path:
        """A file of this artifact; nothing else on this machine. Raises LoadFailed."""
        if path not in self.digests:
            raise LoadFailed(f"{self.uri}: MLmodel names the file {path!r:.200}, which is not there")
        return self.root / path


def digest_tree(root: Path) -> dict[str, str]:
    """SHA-256 of a file, or of every file in a folder, by its path inside root.

    A lone ONNX file brings the files in which it keeps its weights.
    """
    if root.is_file():
        files = [root, *(root.parent / name for name in _external_data(root))]
        return {
            path.relative_to(root.parent).as_posix(): _digest_file(path) for path in files if path.is_file()
        }
    return {
        path.relative_to(root).as_posix(): _digest_file(path)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def _external_data(path: Path) -> list[str]:
    """Paths, beside an ONNX file, of its external data. Chance matches in weights name no file."""
    if path.suffix != ".onnx":
        return []
    names: set[str] = set()
    for piece in pieces(path):
        for match in _EXTERNAL_LOCATION.finditer(piece):
            name = piece[match.end() : match.end() + match[1][0]].decode("utf-8", "replace")
            if "\0" not in name and ".." not in name and not name.startswith("/"):
                names.add(name)
    return sorted(names)


def _digest_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
