"""What every runtime has to say about its server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Server:
    """A model server for one model.

    In the command and the files, `@http@` and `@grpc@` stand for the ports to listen on and `@dir@`
    for the folder that holds the files.
    """

    command: Sequence[str]
    ready_path: str
    """Answers 200 on the port `http` once the model can be asked, and not before."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Settings files by name."""
    ports: Sequence[str] = ("http", "grpc")
    stop_seconds: float = 30
    """How long it may take after SIGTERM to finish the requests it holds."""


@dataclass(frozen=True)
class Fallback:
    """What answers when the model does not."""

    rungs: Sequence[Mapping[str, Any]] = ()
    """From the first to the last: of the fields of `components.spec.FallbackRung`, the one that is given."""
    timeout_s: float = 30.0
    """When whoever asks has given up: the last rung must have answered before."""


@dataclass(frozen=True)
class Listen:
    """How a server listens and leaves, as its platform wants it."""

    host: str = "127.0.0.1"
    """The address to bind."""
    drain_seconds: float = 1.0
    """How long it goes on answering after SIGTERM, until whoever sends requests has noticed."""
    tells_answers: bool = False
    """Whether it tells those who ask from its own machine what it answered to others, for a rollout."""
