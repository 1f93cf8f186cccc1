"""Synchronizes the bridge with Asterisk after each connect, and keeps the PBX clean while it is connected."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection

from bridge.ari.client import AriClient
from bridge.calls.ids import OwnIds
from bridge.calls.tracker import CallTracker
from bridge.control.recording import Recordings
from bridge.control.sensitive import Sensitive
from bridge.control.stasis import StasisCalls
from bridge.errors import AriError
from bridge.taps.sweep import sweep

log = logging.getLogger(__name__)

SWEEP_INTERVAL_S = 60.0
RETRY_S = 1.0


class Settling:
    """What happens between a connect and the moment from which calls are served; it runs by itself until `stop`.

    Args:
        client: its connects and disconnects are followed.
        tracker: learns the calls of the PBX.
        stasis: takes in calls that wait in our application.
        sensitive: learns from other bridges which calls are in sensitive mode.
        recordings: learns what is in the spool.
        ids: those of our own objects on the PBX.
        in_use: the ids of objects that must stay.
        resume: takes up the calls that the previous run controlled; once.
    """

    def __init__(
        self,
        client: AriClient,
        *,
        tracker: CallTracker,
        stasis: StasisCalls,
        sensitive: Sensitive,
        recordings: Recordings,
        ids: OwnIds,
        in_use: Callable[[], Collection[str]],
        resume: Callable[[], Awaitable[None]],
    ) -> None:
        self.in_step = False
        """The state of the PBX is known, and calls are served."""
        self._client = client
        self._tracker = tracker
        self._stasis = stasis
        self._sensitive = sensitive
        self._recordings = recordings
        self._ids = ids
        self._in_use = in_use
        self._resume = resume
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        client.on_connected(self._on_connected)
        client.on_disconnected(self._on_disconnected)

    def prevent(self) -> None:
        """Begin no more: the bridge is stopping."""
        self._stopping = True

    async def stop(self) -> None:
        """End what is in progress."""
        self._stopping = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _on_connected(self) -> None:
        if not self._stopping:
            self._task = asyncio.create_task(self._run(), name="settle with Asterisk")

    def _on_disconnected(self) -> None:
        self.in_step = False
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while not self.in_step:
            try:
                await self._tracker.resync()
                await self._resume()
                await sweep(self._client, self._ids, self._in_use)
                await self._ask_for_sensitive_calls()
                await self._stasis.adopt()
                self.in_step = True
            except AriError as error:
                log.warning("not in step with Asterisk yet: %s", error)
                await asyncio.sleep(RETRY_S)
        log.info("in step with Asterisk: %d calls", len(self._tracker.calls))
        while True:  # until the connection is lost: what a failed request left behind must not stay indefinitely
            try:
                await self._recordings.refresh()
            except AriError as error:
                log.warning("recordings in the spool: %s", error)
            await asyncio.sleep(SWEEP_INTERVAL_S)
            try:
                await sweep(self._client, self._ids, self._in_use)
            except AriError as error:
                log.warning("sweep: %s", error)

    async def _ask_for_sensitive_calls(self) -> None:
        """Ask other bridges; calls are served even if one of them cannot be asked."""
        try:
            await self._sensitive.ask_others()
        except AriError as error:
            log.warning("other bridges cannot be asked which calls are in sensitive mode: %s", error)
