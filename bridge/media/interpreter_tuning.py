"""Settings of the interpreter that shorten its pauses, during which no call gets audio."""

from __future__ import annotations

import gc
import sys

SWITCH_S = 0.001
"""Time in seconds that the loop waits for a computing thread each time that it needs the GIL."""


def shorten_switches() -> None:
    """Make computing threads release the GIL after `SWITCH_S`, a fifth of Python's default."""
    sys.setswitchinterval(SWITCH_S)


def exempt_from_collection() -> None:
    """Exempt all existing objects from garbage collection, and enable it for new ones.

    Modules and models are 80,000 objects, which live as long as the process. A full collection would traverse them for
    50 ms, in which nothing else runs, and free nothing. The garbage of the start (3,000 objects) is not worth it.
    """
    gc.freeze()
    gc.enable()
