"""Work that continues after the response to its request: playback, sending DTMF digits."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from aiohttp import web

from bridge.control.legs import LegEnded
from bridge.errors import Overloaded
from bridge.logs import Fields
from bridge.tasks import BackgroundTasks

MAX_TASKS = 500
"""Each sound has a media leg of its own; as many may be played as calls may be originated by default."""
BEGIN_S = 0.3
"""A failure within this time is an error of the request."""


class RequestTasks:
    """Runs the background work of requests; an error because the call has ended is ignored."""

    def __init__(self) -> None:
        self._tasks = BackgroundTasks("requests", expected=(LegEnded, KeyError))
        self._of_streams = BackgroundTasks("requests of streams")

    async def begin(self, work: Coroutine[Any, Any, None], about: Fields) -> None:
        """Start work and wait briefly for it: an exception within `BEGIN_S` is raised here.

        Raises:
            Overloaded: `MAX_TASKS` are running.
        """
        if len(self._tasks) >= MAX_TASKS:
            work.close()
            raise Overloaded(f"{MAX_TASKS} sounds are already being played")
        await self._tasks.begin(work, about, BEGIN_S)

    def spawn(self, work: Coroutine[Any, Any, None], about: Fields) -> asyncio.Task[None]:
        """Start work for a stream, which has at most one such task at a time."""
        return self._of_streams.spawn(work, about)

    async def stop(self, _: web.Application | None = None) -> None:
        """Cancel all background work of requests."""
        await self._tasks.stop()
        await self._of_streams.stop()


BACKGROUND = web.AppKey("background", RequestTasks)
