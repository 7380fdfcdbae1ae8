"""Where downloaded and built tools are kept: shared by all checkouts, safe to use from several at once."""

import fcntl
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class ToolError(Exception):
    """A tool cannot be had; the message names the cause and the mend."""


def root() -> Path:
    """Return the cache's folder."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "serving-estate"


@contextmanager
def locked() -> Iterator[None]:
    """Let one process at a time fill the cache; the kernel frees the lock of one that dies."""
    folder = root()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a+")
    except OSError as error:
        raise ToolError(
            f"the cache {folder} cannot be written ({error.strerror}); "
            "set XDG_CACHE_HOME to a folder that can"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            say(f"waiting for process {lock.read().strip() or '?'}, which is filling the same cache")
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.seek(0)
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
        for left in folder.glob(
            "unfinished-*"
        ):  # of a run that was killed: we hold the lock, so nobody uses it
            shutil.rmtree(left, ignore_errors=True)
        yield


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Give a folder to fill; it becomes `target` at once when all went well, and vanishes when not."""
    folder = Path(tempfile.mkdtemp(prefix="unfinished-", dir=root()))
    try:
        yield folder
        folder.chmod(0o755)
        folder.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def say(message: str) -> None:
    """Tell the user something; standard output is kept for answers that scripts read."""
    print(f"toolchain: {message}", file=sys.stderr, flush=True)


class Progress:
    """Shows that a long step is alive: its phase and the time since it began."""

    def __init__(self, title: str, *, every: float = 15.0) -> None:
        """Name the step, and how often a log that is not a terminal gets a line."""
        self.phase = ""
        self._title = title
        self._terminal = sys.stderr.isatty()
        self._every = 1.0 if self._terminal else every
        self._began = time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Progress":
        """Start showing."""
        say(self._title)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Show how long it took."""
        self._done.set()
        self._thread.join()
        if self._terminal:
            sys.stderr.write("\r\033[K")
        say(f"{self._title}: {'failed' if kind else 'done'} after {self._elapsed()}")

    def _elapsed(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"

    def _beat(self) -> None:
        while not self._done.wait(self._every):
            line = f"  {self._elapsed()}  {self.phase}"
            if self._terminal:
                sys.stderr.write(f"\r\033[K{line[:100]}")
                sys.stderr.flush()
            else:
                say(line)
