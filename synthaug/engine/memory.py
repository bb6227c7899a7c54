"""Keeps freed memory in the process: every sample asks for the same few megabytes again.

The C library of GNU hands arrays above a moving limit back to the system and gets them back empty, page by page:
for `convert` a quarter of all CPU time. How much is in use at once does not change.
"""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST = 32 << 20  # the most that glibc accepts; larger arrays come and go as before
_KEPT = 128 << 20


def keep_freed() -> None:
    """Asks this process's allocator to keep what is freed; does nothing where it is no glibc, or tuned by its user."""
    tuned = "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ)
    if sys.platform != "linux" or tuned:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST)
        mallopt(_TRIM_THRESHOLD, _KEPT)
