"""Limits of calls that outlast the flow which began with them: in a transfer, or in a conference."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from bridge.calls.journal import LIMIT, Journal
from bridge.control.legs import Leg
from bridge.errors import BridgeError
from bridge.tasks import BackgroundTasks

log = logging.getLogger(__name__)


class CallLimits:
    """Hangs up calls that have lasted too long.

    Args:
        journal: stores the limits for the next run.
        in_flow: returns whether a flow runs on a call: that observes the limit itself.
    """

    def __init__(self, journal: Journal, in_flow: Callable[[Leg], bool]) -> None:
        self._journal = journal
        self._in_flow = in_flow
        self._tasks = BackgroundTasks("limit of a call")

    def watch(self, leg: Leg, ends_at: float | None) -> None:
        """Hang up a call at a time in seconds since 1970; None: the call has no limit of its own."""
        if ends_at is not None:
            self._journal.put(LIMIT, leg.id, {"ends_at": ends_at})
            self._tasks.spawn(self._watch(leg, ends_at))

    async def close(self) -> None:
        """Stop watching, for the end of the process."""
        await self._tasks.stop()

    async def _watch(self, leg: Leg, ends_at: float) -> None:
        try:
            async with asyncio.timeout(max(ends_at - time.time(), 0.0)):
                await leg.gone.wait()
        except TimeoutError:
            if not self._in_flow(leg):
                await self._hang_up(leg)
        self._journal.drop(LIMIT, leg.id)

    async def _hang_up(self, leg: Leg) -> None:
        log.info("call reached its maximum duration, hanging up channel=%s", leg.id)
        try:
            await leg.hang_up(recorded="timeout")
        except BridgeError as error:
            log.warning("hangup failed channel=%s error=%s", leg.id, error)
