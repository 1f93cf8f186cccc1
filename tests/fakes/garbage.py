"""What work leaves to the garbage collector: objects of the product that refer to each other in a cycle."""

from __future__ import annotations

import contextlib
import gc
from collections import Counter
from collections.abc import Iterator
from types import FrameType, FunctionType


@contextlib.contextmanager
def uncollected() -> Iterator[Counter[str]]:
    """Disable the collector meanwhile, then count by class what reference counts did not free, and free it.

    A reference that the test keeps hides what it refers to: drop it before the end.
    """
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    gc.freeze()  # objects of earlier tests may become garbage meanwhile
    left: Counter[str] = Counter()
    try:
        yield left
    finally:
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        gc.set_debug(0)
        left.update(filter(None, map(_name, gc.garbage)))
        gc.garbage.clear()
        gc.unfreeze()
        gc.collect()
        if enabled:
            gc.enable()


def _name(found: object) -> str:
    """Return the name of an object of the product, empty for others; frames are those of tracebacks and tasks."""
    if type(found) is FrameType:  # isinstance fails for a weak proxy whose object is gone
        module, name = found.f_globals.get("__name__"), f"frame of {found.f_code.co_name}"
    elif type(found) is FunctionType:
        module, name = found.__module__, found.__qualname__
    else:
        module, name = type(found).__module__, type(found).__name__
    return name if str(module).startswith("bridge.") and not str(module).startswith("bridge.testing") else ""
