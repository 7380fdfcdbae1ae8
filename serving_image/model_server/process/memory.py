"""Freed memory goes back to the operating system."""

import ctypes
import gc
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""From malloc.h."""
_BIG_BLOCK_BYTES = 4 << 20
_HEAP_SLACK_BYTES = 64 << 20


def return_freed_memory() -> None:
    """Have the allocator return what was freed; without it a swapped model's memory stays with the process.

    Blocks for some milliseconds: for a thread.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def unmap_big_blocks_when_freed() -> None:
    """Keep models' weights out of the allocator's heaps, where freed ones may lie between living blocks.

    glibc's limit for blocks of their own grows with the blocks that are freed: after the first model it would
    be above most models. Smaller blocks, those of requests, stay in the heaps, which are trimmed only on
    demand.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, _BIG_BLOCK_BYTES)
            mallopt(_M_TRIM_THRESHOLD, _HEAP_SLACK_BYTES)
