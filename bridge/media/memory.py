"""Return the memory of large blocks to the system once they are free, and keep them from growing the heap."""

from __future__ import annotations

import ctypes

LARGE_BYTES = 128 << 10
"""Smallest block that gets a mapping of its own. No block of the frame path is as large: it receives into buffers."""
TOP_BYTES = 1 << 20
"""Free memory at the end of the heap that is returned to the system."""

# malloc.h of glibc
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def return_large_blocks() -> bool:
    """Let the C library return blocks of at least `LARGE_BYTES` to the system as soon as they are free.

    By default glibc raises the size below which blocks are part of the heap to that of the largest freed block (up to
    32 MiB). Small blocks behind large ones then keep the heap large: after messages of 16 MiB, by 30 to 45 MB
    permanently. So would blocks of 256 KiB, which asyncio allocates for each read of a connection without a buffer
    (HTTP, ARI) and shrinks to what was read: in the heap they extended it by 0.4 MB a minute while calls came and went.

    Returns:
        True if set; False where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES) and mallopt(_M_TRIM_THRESHOLD, TOP_BYTES))
