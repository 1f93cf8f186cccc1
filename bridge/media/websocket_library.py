"""Loading of the library that carries WebSockets.

A start does not import it, and on the event loop its import would leave calls without audio for a tenth of a second.
"""

from __future__ import annotations

import asyncio
import threading

_LOADED = threading.Event()


async def loaded() -> None:
    """Wait until the library is imported; the first call imports it in a thread."""
    if not _LOADED.is_set():
        await asyncio.to_thread(load)


def load() -> None:
    """Import the library, and the reader of handshake responses."""
    from bridge.media import picows_link, response_reader  # noqa: F401  # they bring h11 and picows

    _LOADED.set()
