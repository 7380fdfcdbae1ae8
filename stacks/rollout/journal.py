"""What happened, who did it, when and why: one line for each record, for ever, one journal for an endpoint.

A record is on the disk before what it says is done, and again after that. So a driver that is killed at any
moment leaves a journal from which the next one goes on. Others may append as well: a person who asks the
driver for something does it here.
"""

import fcntl
import getpass
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .lease import Lease

Record = dict[str, Any]


def who() -> str:
    """Who is at it, for the record."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"


class Journal:
    """The journal of one endpoint."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        """`folder`: that of the endpoint; made with the first record."""
        self.folder = folder
        self.file = folder / "journal.jsonl"
        self._clock = clock

    def append(self, event: str, **details: Any) -> Record:
        """Write a record and wait until it is on the disk."""
        record = {"at": round(self._clock(), 3), "who": who(), "event": event, **details}
        line = json.dumps(record, allow_nan=False).encode() + b"\n"
        with self._open() as file:
            size = file.seek(0, os.SEEK_END)
            whole = self._whole(file, size)
            if whole < size:  # a writer was killed within a line
                os.ftruncate(file.fileno(), whole)
            file.seek(whole)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        return record

    def records(self) -> list[Record]:
        """All of them, the oldest first. A last line that was not written to its end is not one."""
        return self.since(0)[0]

    def since(self, offset: int) -> tuple[list[Record], int]:
        """The records after a place in the file, and the place up to which that was."""
        try:
            with self.file.open("rb") as file:
                file.seek(offset)
                text = file.read()
        except FileNotFoundError:
            return [], 0
        end = text.rfind(b"\n") + 1
        return [json.loads(line) for line in text[:end].splitlines()], offset + end

    def last(self) -> list[Record]:
        """Those of the last rollout."""
        rollouts = self.rollouts()
        return rollouts[-1] if rollouts else []

    def rollouts(self) -> list[list[Record]]:
        """Those of each rollout, the oldest first."""
        found: list[list[Record]] = []
        for record in self.records():
            if record["event"] == "started":
                found.append([])
            if found:
                found[-1].append(record)
        return found

    def lease(self) -> "Lease":
        """What makes its holder the only driver."""
        from .lease import Lease

        return Lease(self.folder)

    def living(self) -> dict[str, Any] | None:
        """Who drives and is alive, as far as can be told from here; None where nobody does."""
        from .lease import living

        return living(self.folder)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        self.folder.mkdir(parents=True, exist_ok=True)
        is_new = not self.file.exists()
        with os.fdopen(os.open(self.file, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
        if is_new:
            folder = os.open(self.folder, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)

    @staticmethod
    def _whole(file: Any, size: int) -> int:
        """Where the last complete line ends."""
        step = 1 << 16
        end = size
        while end > 0:
            begin = max(0, end - step)
            file.seek(begin)
            found = file.read(end - begin).rfind(b"\n")
            if found >= 0:
                return int(begin + found + 1)
            end = begin
        return 0
