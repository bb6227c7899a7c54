"""Keeps freed memory in the process while a shard is done: every sample asks for the same few megabytes again.

The C library of GNU hands arrays above a moving limit back to the system and gets them back empty, page by page:
for `convert` a quarter of all CPU time. What is kept lies in pieces that no array fits after a while, so it is
handed back as a whole at the end of each shard. How much is in use at once does not change.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST = 32 << 20  # the most that glibc accepts; larger arrays come and go as before
_KEPT = 128 << 20


def keep_freed() -> None:
    """Asks this process's allocator to keep what is freed; does nothing where it is no glibc, or tuned by its user."""
    mallopt = _function("mallopt")
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST)
        mallopt(_TRIM_THRESHOLD, _KEPT)


def hand_back() -> None:
    """Gives what is free back to the system; some 10 ms, and nothing where `keep_freed` does nothing."""
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def _function(name: str) -> Any:
    """A function of the C library; None where there is none, or where its memory is not ours to manage."""
    tuned = "GLIBC_TUNABLES" in os.environ or any(variable.startswith("MALLOC_") for variable in os.environ)
    return None if sys.platform != "linux" or tuned else getattr(ctypes.CDLL(None), name, None)
