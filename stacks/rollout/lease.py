"""One driver for an endpoint: a lock that the kernel gives back when its holder dies, and a lease for others.

The lock settles it on one machine, whatever happens to the holder. Where the folder is shared between
machines, the lease in it says who holds it until when; it is renewed by a thread for as long as its holder
lives, and each holder has a number that the next one raises, so that one who was taken for dead finds out.
"""

import fcntl
import json
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self

from .errors import LeaseLostError, RolloutError
from .journal import who

SECONDS = 30.0
"""How long a holder that does not renew is believed to live, where its machine cannot be asked."""

_PATIENCE = 1.0


class Lease:
    """Held within a `with` block."""

    def __init__(self, folder: Path, seconds: float = SECONDS) -> None:
        """`folder`: that of the endpoint."""
        self._folder, self._seconds = folder, seconds
        self._file = folder / "lease.json"
        self._lock: IO[str] | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self.epoch = 0
        self.before: dict[str, Any] | None = None
        """Who held it before and did not give it back."""

    def __enter__(self) -> Self:
        """Take it.

        Raises:
            RolloutError: somebody else has it.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = (self._folder / "lease.lock").open("a")
        deadline = time.monotonic() + _PATIENCE  # somebody may only be looking
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    lock.close()
                    raise self._refused(read(self._folder)) from None
                time.sleep(0.05)
        held = read(self._folder)
        if held and _elsewhere(held):
            lock.close()
            raise self._refused(held)
        self._lock, self.before = lock, held if held and not held["released"] else None
        self.epoch = (held or {"epoch": 0})["epoch"] + 1
        self._write()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        self._end.set()
        self._thread.join()
        if self._lock:
            with suppress(LeaseLostError):
                self.check()
                self._write(released=True)
            self._lock.close()

    def check(self) -> None:
        """Make sure that it is still ours.

        Raises:
            LeaseLostError: it is not.
        """
        held = read(self._folder)
        if not held or held["epoch"] != self.epoch:
            raise LeaseLostError(f"{_holder(held)} has taken over; this driver has stopped")

    def _renew(self) -> None:
        while not self._end.wait(self._seconds / 3):
            with suppress(LeaseLostError, OSError):
                self.check()
                self._write()

    def _write(self, released: bool = False) -> None:
        held = {
            "released": released,
            "who": who(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "until": time.time() + self._seconds,
            "epoch": self.epoch,
        }
        temporary = self._file.with_suffix(".new")
        temporary.write_text(json.dumps(held))
        temporary.replace(self._file)

    @staticmethod
    def _refused(held: dict[str, Any] | None) -> RolloutError:
        return RolloutError(
            f"{_holder(held)} drives this rollout; `estate rollout status` shows it, and pause, promote and "
            "abort reach it from here"
        )


def read(folder: Path) -> dict[str, Any] | None:
    """Who has the lease, or had it and died."""
    try:
        return dict(json.loads((folder / "lease.json").read_text()))
    except (FileNotFoundError, ValueError):
        return None


def living(folder: Path) -> dict[str, Any] | None:
    """Who has the lease and is alive, as far as can be told from here; None where nobody is."""
    held = read(folder)
    if held is None:
        return None
    if held["host"] != socket.gethostname():
        return held if _elsewhere(held) else None
    with (folder / "lease.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return held
    return None


def _elsewhere(held: dict[str, Any]) -> bool:
    """Whether a holder on another machine has to be believed to live."""
    is_other = held["host"] != socket.gethostname()
    return is_other and not held["released"] and bool(held["until"] > time.time())


def _holder(held: dict[str, Any] | None) -> str:
    return f"{held['who']} (process {held['pid']})" if held else "another driver"
