"""Keeping freed memory for the next array.

A training step allocates and frees the same sizes over and over. The GNU C library gives blocks beyond 128 kB back to
the system at once, and the next array of that size is mapped in again page by page, at 0.2 to 3 µs for each 4 kB: often
longer than the computation that fills it.
"""

import ctypes
import os
from contextlib import suppress

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of malloc.h


def keep_freed_memory() -> None:
    """Let the process keep what it frees, up to 1 GB, unless the user has set ``MALLOC_...`` in the environment.

    Without effect where the C library has no ``mallopt``.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    with suppress(OSError, AttributeError, TypeError):  # TypeError: Windows has no library without a name
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(TRIM_THRESHOLD, 2**30)
        mallopt(MMAP_THRESHOLD, 2**25)  # the largest that is allowed
