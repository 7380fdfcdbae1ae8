"""Where models come from: a source says what a reference means now, a store brings the files.

`models:/fraud@champion` is a reference; its source (the registry) resolves it to version 7 at
`mlflow-artifacts:/3/models/m-1f/artifacts`; the store of that scheme downloads the folder. A plain path or
`s3://…` needs no source of its own: it means itself.

A source is one file in `models/sources/`, a store one file in `models/stores/`; both are listed in the
`__init__.py` beside them, by scheme, and imported only when used.
"""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model_server.errors import LoadFailed
from model_server.settings import RegistrySettings, VersionPolicy


class Unavailable(LoadFailed):
    """A registry or a store does not answer, or not now: trying again may help."""


@dataclass(frozen=True)
class Resolved:
    """What a reference means at this moment."""

    version: str
    """As clients see it in `model_version`."""
    location: str
    """URI that a store can download."""
    uri: str
    """The exact reference, with the alias replaced by the version."""
    revision: str = ""
    """Tells two contents of one location apart, such as an ETag; empty where the content never changes."""
    sha256: str = ""
    """The digest that the registry records for it, in hex; empty if it records none."""


@dataclass(frozen=True)
class Plan:
    """The versions of a model that are to be served."""

    versions: tuple[Resolved, ...]
    """The default version first; at least one."""
    stamp: str = ""
    """Not empty: load them even if they are served already, unless with this stamp."""
    kept: tuple[Resolved, ...] = ()
    """Versions that stay loaded besides, for the degradation ladder. No plan is refused for their sake."""

    def as_json(self) -> dict[str, Any]:
        """For the control channel."""
        return asdict(self)

    @staticmethod
    def from_json(document: dict[str, Any]) -> "Plan":
        """The opposite of as_json."""
        versions, kept = (tuple(Resolved(**one) for one in document[name]) for name in ("versions", "kept"))
        return Plan(versions, document["stamp"], kept)


class Source(ABC):
    """Resolves references of some schemes."""

    def __init__(self, registry: RegistrySettings) -> None:
        self.registry = registry

    @abstractmethod
    def resolve(self, reference: str, policy: VersionPolicy | None) -> tuple[Resolved, ...]:
        """Ask what the reference means now: the default version first. Blocks, briefly. Raises LoadFailed."""


class Store(ABC):
    """Downloads files of some schemes."""

    def __init__(self, registry: RegistrySettings) -> None:
        self.registry = registry

    def local_path(self, location: str) -> Path | None:
        """The place itself when it is on this machine already, so that nothing needs to be copied."""
        del location
        return None

    def revision(self, location: str) -> str:
        """See Resolved.revision. Blocks, briefly. Raises LoadFailed."""
        del location
        return ""

    @abstractmethod
    def download(self, location: str, into: Path) -> str:
        """Bring the file or the folder's content into an empty folder. Blocks. Raises LoadFailed.

        Returns the SHA-256 of what was sent if that was one archive, else "".
        """


def scheme_of(uri: str) -> str:
    """`s3` of `s3://bucket/key`; `file` for a path."""
    head, colon, _ = uri.partition(":")
    return head.lower() if colon and "/" not in head and len(head) > 1 else "file"
