"""Freed memory goes back to the operating system."""

import ctypes
import gc
import sys


def return_freed_memory() -> None:
    """Have the allocator return what was freed; without it a swapped model's memory stays with the process.

    Blocks for some milliseconds: for a thread.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
