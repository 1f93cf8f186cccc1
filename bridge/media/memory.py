"""Return the memory of large messages to the system once it is free."""

from __future__ import annotations

import ctypes

LARGE_BYTES = 1 << 20
"""Smallest block that gets a mapping of its own: few blocks are larger, and for these a mapping costs little."""

# malloc.h of glibc
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def return_large_blocks() -> bool:
    """Let the C library return blocks of at least `LARGE_BYTES` to the system as soon as they are free.

    By default glibc raises the size below which blocks are part of the heap to that of the largest freed block (up to
    32 MiB). Small blocks behind large ones then keep the heap large: after messages of 16 MiB, by 30 to 45 MB
    permanently.

    Returns:
        True if set; False where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    results = [mallopt(parameter, LARGE_BYTES) for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)]
    return all(results)
