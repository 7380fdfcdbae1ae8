"""What a model is to the rest of the server, and how a file becomes one.

A format is one file in `models/formats/`: a subclass of Format, listed in `models/formats/__init__.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from model_server.models.artifact import Artifact
from model_server.tensors import Array, Signature


class Model(ABC):
    """A loaded model. `run` is called from several threads at once when `concurrency` allows it."""

    platform: ClassVar[str]
    """Name in the protocol's metadata, such as "onnx_onnxv1"."""
    signature: Signature
    steady: bool = True
    """The time of a run follows from the inputs' shapes, not from their values: it can be foretold."""

    @abstractmethod
    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Compute the named outputs, in their order. Blocks. Raises InvalidRequest or ModelFailed."""

    @abstractmethod
    def close(self) -> None:
        """Give the memory back. Nobody calls `run` afterwards."""


@dataclass(frozen=True)
class LoadOptions:
    """What the settings say about how to load."""

    threads: int
    """Threads of one run, 1 or more."""
    execution_providers: tuple[str, ...] = ()
    allow_pickle: bool = False
    """Loading may run code that the artifact brings."""


class Format(ABC):
    """One kind of model file."""

    name: ClassVar[str]

    @abstractmethod
    def find(self, artifact: Artifact) -> Path | None:
        """The file to load if the artifact holds this format, else None."""

    @abstractmethod
    def load(self, path: Path, options: LoadOptions, artifact: Artifact) -> Model:
        """Load what `find` found. Blocks. Raises LoadFailed."""
