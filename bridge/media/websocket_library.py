"""Loading of the library that carries WebSockets.

A start does not import it, and on the event loop its import would leave calls without audio for a tenth of a second.
"""

from __future__ import annotations

import asyncio
import threading

_LOADED = threading.Event()


async def loaded() -> None:
    """Return when the library is imported: immediately but for the first time, when a thread imports it."""
    if not _LOADED.is_set():
        await asyncio.to_thread(load)


def load() -> None:
    """Import the library, and what reads answers to handshakes."""
    from bridge.media import picows_link, response_reader  # noqa: F401  # they bring h11 and picows

    _LOADED.set()
