"""TCP ports on loopback, leased so that they are stable over restarts and never given out twice.

A lease is a file named for the port that holds its owner. All local stacks of a user share the
folder, so two of them on one machine cannot collide; a lease outlives the process that listens, so a
restart gets the same port again.
"""

import hashlib
import os
import socket
from collections.abc import Iterator
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


def _order() -> Iterator[int]:
    """The ports of the range. Users cannot see each other's leases, so each starts at another place."""
    digest = hashlib.sha256(str(state_home()).encode()).digest()
    start = int.from_bytes(digest[:4]) % (LAST - FIRST)
    yield from range(FIRST + start, LAST)
    yield from range(FIRST, FIRST + start)


def lease(owner: str) -> int:
    """The port of `owner`: the one it holds already, else the next free one.

    Raises:
        RuntimeError: no port of the range is free.
    """
    with _lock():
        leases = _leases()
        for port, holder in leases.items():
            if holder == owner:
                return port
        for port in _order():
            if port not in leases and _is_free(port):
                write(_folder() / str(port), owner)
                return port
    raise RuntimeError(
        f"no port from {FIRST} to {LAST - 1} is free on 127.0.0.1: {len(leases)} are leased by local stacks "
        f"(see {_folder()}); destroy one of them, or end what else listens there"
    )


def release(prefix: str) -> None:
    """Give back every port whose owner is `prefix` or lies below it (`prefix/…`, `prefix:…`)."""
    with _lock():
        for port, holder in _leases().items():
            if holder == prefix or holder.startswith((f"{prefix}/", f"{prefix}:")):
                (_folder() / str(port)).unlink(missing_ok=True)
        for half_written in _folder().glob(".*"):  # by a run that was killed: nobody else writes now
            half_written.unlink(missing_ok=True)
        for folder in (_folder(), state_home()):
            with suppress(OSError):  # another stack uses it
                folder.rmdir()
