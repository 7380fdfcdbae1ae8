"""Reads through big files without stopping the event loop."""

from collections.abc import Iterator
from pathlib import Path

_PIECE = 1 << 20
_OVERLAP = 512


def pieces(path: Path) -> Iterator[bytes]:
    """The file in pieces that overlap, so that what is shorter than the overlap lies whole in one of them.

    A search through a mapped file would hold the interpreter's lock for as long as it takes: half a second
    for a gigabyte. Each read of a piece lets other threads go on.
    """
    with path.open("rb") as file:
        tail = b""
        while piece := file.read(_PIECE):
            yield tail + piece
            tail = piece[-_OVERLAP:]
