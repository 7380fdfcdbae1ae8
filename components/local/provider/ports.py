"""TCP ports on loopback, leased so that they are stable over restarts and never given out twice.

A lease is a file named for the port that holds its owner. All local stacks of a user share the
folder, so two of them on one machine cannot collide; a lease outlives the process that listens, so a
restart gets the same port again.
"""

import os
import socket
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from .files import locked, write

# Below the kernel's ephemeral range (32768 and up on Linux, 49152 and up on macOS): no outgoing
# connection of another program can sit on a port that was leased.
FIRST, LAST = 18080, 32000


def state_home() -> Path:
    """The folder under which every local stack of this user keeps its state."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "serving-estate"


def _folder() -> Path:
    return state_home() / "ports"


def _lock() -> AbstractContextManager[None]:
    # Among the caches: a lock file cannot be removed safely, and the last stack leaves nothing behind.
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return locked(Path(base) / "serving-estate" / "ports.lock")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _leases() -> dict[int, str]:
    return {int(file.name): file.read_text() for file in _folder().glob("[0-9]*")}


def lease(owner: str) -> int:
    """The port of `owner`: the one it holds already, else the lowest free one.

    Raises:
        RuntimeError: no port of the range is free.
    """
    with _lock():
        leases = _leases()
        for port, holder in leases.items():
            if holder == owner:
                return port
        for port in range(FIRST, LAST):
            if port not in leases and _is_free(port):
                write(_folder() / str(port), owner)
                return port
    raise RuntimeError(
        f"no free port between {FIRST} and {LAST} on 127.0.0.1: {len(leases)} are leased by local stacks "
        f"(see {_folder()}); destroy one of them"
    )


def release(prefix: str) -> None:
    """Give back every port whose owner is `prefix` or lies below it (`prefix/…`, `prefix:…`)."""
    with _lock():
        for port, holder in _leases().items():
            if holder == prefix or holder.startswith((f"{prefix}/", f"{prefix}:")):
                (_folder() / str(port)).unlink(missing_ok=True)
        if _folder().is_dir() and not any(_folder().iterdir()):
            _folder().rmdir()
            with suppress(OSError):  # another stack's folder is in it
                state_home().rmdir()
