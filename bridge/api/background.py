"""What goes on after its request was answered: a sound that is played, keys that are pressed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from aiohttp import web

from bridge.control.legs import LegGone
from bridge.errors import BridgeError, Overloaded
from bridge.logs import Fields

log = logging.getLogger(__name__)

MAX_TASKS = 500
"""Each sound has a media leg of its own; as many may go on as calls may be placed by default."""
BEGIN_S = 0.3
"""What fails within this time is still told to who asked."""


class Background:
    """Work that goes on."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[None], Fields] = {}

    async def begin(self, work: Coroutine[Any, Any, None], name: Fields) -> None:
        """Start some work, and wait a moment for it: what it raises in that time is raised here.

        Raises:
            Overloaded: as much goes on as may.
        """
        if len(self._tasks) >= MAX_TASKS:
            work.close()
            raise Overloaded(f"{MAX_TASKS} sounds are being played into calls already")
        task = asyncio.create_task(work, name=name)
        self._tasks[task] = name
        await asyncio.wait({task}, timeout=BEGIN_S)
        if task.done():
            del self._tasks[task]
            task.result()
        else:
            task.add_done_callback(self._ended)

    async def stop(self, _: web.Application | None = None) -> None:
        """End all of it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        name = self._tasks.pop(task)
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, LegGone | KeyError) or error is None:
            return  # the call has ended meanwhile
        log.warning("%s: %s", name, error, exc_info=None if isinstance(error, BridgeError) else error)


BACKGROUND = web.AppKey("background", Background)
