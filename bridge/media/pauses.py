"""Settings of the interpreter that keep its own pauses short: no call gets audio while the loop waits for it."""

from __future__ import annotations

import gc
import sys

SWITCH_S = 0.001
"""How long the loop waits for a thread that computes, once for each time that it needs the interpreter."""


def shorten_switches() -> None:
    """Let threads that compute release the interpreter after `SWITCH_S`; Python's default is five times as long."""
    sys.setswitchinterval(SWITCH_S)


def exempt_from_collection() -> None:
    """Exempt all objects that exist now from garbage collection, and enable it for those that follow.

    Modules and models are 80,000 objects. A full collection traverses them in 50 ms, in which nothing else runs, and
    finds nothing: they live as long as the process. What a start leaves behind (3,000 objects) is not worth one.
    """
    gc.freeze()
    gc.enable()
