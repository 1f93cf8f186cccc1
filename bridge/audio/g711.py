"""G.711 companding: one byte per sample on the wire, s16le inside (ITU-T G.711).

audioop is the fastest implementation for Python: 0.1-0.6 us for a 20 ms frame, a quarter of the cost of a numpy table.
Until Python 3.12 it is in the standard library; from 3.13 the package audioop-lts provides it.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # Python 3.11 and 3.12 warn of the removal, which audioop-lts solves: users need not act.
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

_WIDTH = 2


def ulaw_encode(pcm: bytes) -> bytes:
    """Return s16le samples encoded as mu-law.

    Raises:
        ValueError: ``pcm`` ends in half a sample.
    """
    _whole(pcm)
    return audioop.lin2ulaw(pcm, _WIDTH)


def ulaw_decode(ulaw: bytes) -> bytes:
    """Return mu-law bytes decoded to s16le samples."""
    return audioop.ulaw2lin(ulaw, _WIDTH)


def alaw_encode(pcm: bytes) -> bytes:
    """Return s16le samples encoded as A-law.

    Raises:
        ValueError: ``pcm`` ends in half a sample.
    """
    _whole(pcm)
    return audioop.lin2alaw(pcm, _WIDTH)


def alaw_decode(alaw: bytes) -> bytes:
    """Return A-law bytes decoded to s16le samples."""
    return audioop.alaw2lin(alaw, _WIDTH)


def _whole(pcm: bytes) -> None:
    if len(pcm) & 1:
        raise ValueError(f"PCM of {len(pcm)} bytes ends in half a 16-bit sample")
