"""Where models come from: a source says what a reference means now, a store brings the files.

`models:/fraud@champion` is a reference; its source (the registry) resolves it to version 7 at
`mlflow-artifacts:/3/models/m-1f/artifacts`; the store of that scheme downloads the folder. A plain path or
`s3://…` needs no source of its own: it means itself.

A source is one file in `models/sources/`, a store one file in `models/stores/`; both are listed in the
`__init__.py` beside them, by scheme, and imported only when used.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from model_server.settings import RegistrySettings


@dataclass(frozen=True)
class Resolved:
    """What a reference means at this moment."""

    version: str
    """As clients see it in `model_version`."""
    location: str
    """URI that a store can download. Never changes its content for one version."""
    uri: str
    """The exact reference, with the alias replaced by the version."""


class Source(ABC):
    """Resolves references of some schemes."""

    def __init__(self, registry: RegistrySettings) -> None:
        self.registry = registry

    @abstractmethod
    def resolve(self, reference: str) -> Resolved:
        """Ask what the reference means now. Blocks, briefly. Raises LoadFailed."""


class Store(ABC):
    """Downloads files of some schemes."""

    def __init__(self, registry: RegistrySettings) -> None:
        self.registry = registry

    def local_path(self, location: str) -> Path | None:
        """The place itself when it is on this machine already, so that nothing needs to be copied."""
        del location
        return None

    @abstractmethod
    def download(self, location: str, into: Path) -> None:
        """Bring the file or the folder's content into an empty folder. Blocks. Raises LoadFailed."""


def scheme_of(uri: str) -> str:
    """`s3` of `s3://bucket/key`; `file` for a path."""
    head, colon, _ = uri.partition(":")
    return head.lower() if colon and "/" not in head and len(head) > 1 else "file"
