"""Actions that must not be given up half-way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def to_the_end(act: Awaitable[T]) -> T:
    """Await something that is carried to its end even when its caller is cancelled, however often.

    The caller gets its CancelledError afterwards.
    """
    task = asyncio.ensure_future(act)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):  # however often
                await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # seen: nobody else will ask
        raise
