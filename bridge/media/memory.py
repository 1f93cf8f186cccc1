"""Memory of large messages goes back to the system once it is free."""

from __future__ import annotations

import ctypes

LARGE_BYTES = 1 << 20
"""From this size on a block is a mapping of its own: few are larger, and for these a mapping costs little."""

# malloc.h of glibc
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def return_large_blocks() -> bool:
    """Let the C library return blocks of at least `LARGE_BYTES` to the system as soon as they are free.

    By itself glibc takes the largest block that was ever freed (up to 32 MiB) as the limit below which blocks are part
    of the heap, where a small one behind them keeps them: after messages of 16 MiB that is 30 to 45 MB for good.

    Returns:
        Whether that was set; False where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    results = [mallopt(parameter, LARGE_BYTES) for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)]
    return all(results)
