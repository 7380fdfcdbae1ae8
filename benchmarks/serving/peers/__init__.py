"""One folder a server: how it is installed, configured, started and asked.

A new peer is a new folder with `__init__.py` (a `PEERS` list), `requirements.txt` and what it
serves. Nothing else changes. Every peer runs in its recommended configuration for one process on one
core: settings that are known to make it faster are set.
"""

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from benchmarks.serving.forms import Form
from benchmarks.serving.models import Model


@dataclass(frozen=True)
class Setup:
    """What a server is started with."""

    python: Path
    folder: Path
    models: tuple[Model, ...]
    port: int
    grpc_port: int

    def app(self, home: str) -> list[str]:
        """Run a peer's `app.py` in its environment: folder of models, port, names."""
        app = Path(home).with_name("app.py")
        root = self.models[0].path.parent.parent
        return [str(self.python), str(app), str(root), str(self.port), *(m.name for m in self.models)]


@dataclass(frozen=True)
class Launch:
    argv: list[str]
    environment: Mapping[str, str]


class Peer(ABC):
    name: ClassVar[str]
    label: ClassVar[str]
    kind: ClassVar[Literal["ours", "peer", "limit"]] = "peer"
    several: ClassVar[bool] = True
    """Serves more than one model from one process."""
    package: Path | None = None
    """A source tree that is installed beside the requirements."""
    reports: ClassVar[tuple[str, ...]]
    """Packages whose versions the table names."""

    @property
    def home(self) -> Path:
        return Path(importlib.import_module(type(self).__module__).__file__ or "").parent

    @abstractmethod
    def launch(self, setup: Setup) -> Launch:
        """Write what the server needs into `setup.folder` and say how it starts."""

    @abstractmethod
    def forms(self) -> dict[str, Form]:
        """By `json`, `binary`, `grpc`; what a server does not speak is left out."""

    def lacks(self, form: str) -> str:
        """Why a form is missing."""
        return f"no {form} interface"


def discover() -> dict[str, Peer]:
    found: list[Peer] = []
    for module in pkgutil.iter_modules(__path__, __name__ + "."):
        found += importlib.import_module(module.name).PEERS
    order = {"ours": 0, "peer": 1, "limit": 2}
    return {peer.name: peer for peer in sorted(found, key=lambda p: (order[p.kind], p.name))}
