"""Synchronizes with Asterisk after each connect, and removes stale objects from the PBX while connected."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection

from bridge.ari.client import AriClient
from bridge.calls.ids import OwnIds
from bridge.calls.tracker import CallTracker
from bridge.control.recording import Recordings
from bridge.control.sensitive import SensitiveMode
from bridge.control.stasis import StasisCalls
from bridge.errors import AriError
from bridge.taps.sweep import sweep

log = logging.getLogger(__name__)

SWEEP_INTERVAL_S = 60.0
RETRY_S = 1.0


class Synchronization:
    """Runs the steps between a connect and the time from which calls are served, until `stop`.

    Args:
        client: the ARI client, whose connects and disconnects are followed.
        tracker: reads the calls of the PBX.
        stasis: accepts calls that wait in the Stasis application.
        sensitive: queries other instances for calls in sensitive mode.
        recordings: reads the spool.
        ids: ids of this instance's objects on the PBX.
        in_use: returns the ids of objects that must stay.
        resume: resumes the calls that the previous run controlled; once.
    """

    def __init__(
        self,
        client: AriClient,
        *,
        tracker: CallTracker,
        stasis: StasisCalls,
        sensitive: SensitiveMode,
        recordings: Recordings,
        ids: OwnIds,
        in_use: Callable[[], Collection[str]],
        resume: Callable[[], Awaitable[None]],
    ) -> None:
        self.synchronized = False
        """Whether the state of the PBX is known, and calls are served."""
        self.settled = asyncio.Event()
        """Set once calls are served, or once calls wait to be served."""
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
        """Start nothing more: the process is stopping."""
        self._stopping = True

    async def stop(self) -> None:
        """Cancel a synchronization in progress."""
        self._stopping = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _on_connected(self) -> None:
        if not self._stopping:
            self._task = asyncio.create_task(self._run(), name="settle with Asterisk")

    def _on_disconnected(self) -> None:
        self.synchronized = False
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while not self.synchronized:
            try:
                await self._tracker.resync()
                if self._tracker.calls:
                    self.settled.set()
                await self._resume()
                await sweep(self._client, self._ids, self._in_use)
                await self._ask_for_sensitive_calls()
                await self._stasis.adopt()
                self.synchronized = True
                self.settled.set()
            except AriError as error:
                log.warning("synchronization with Asterisk failed, trying again error=%s", error)
                await asyncio.sleep(RETRY_S)
        log.info("synchronized with Asterisk calls=%d", len(self._tracker.calls))
        while True:  # until the connection is lost: objects that a failed request left behind must be removed
            try:
                await self._recordings.refresh()
            except AriError as error:
                log.warning("reading the recording spool failed error=%s", error)
            await asyncio.sleep(SWEEP_INTERVAL_S)
            try:
                await sweep(self._client, self._ids, self._in_use)
            except AriError as error:
                log.warning("sweep failed, the next one tries again error=%s", error)

    async def _ask_for_sensitive_calls(self) -> None:
        """Query other instances; calls are served even if one of them does not respond."""
        try:
            await self._sensitive.ask_others()
        except AriError as error:
            log.warning("querying other instances for calls in sensitive mode failed error=%s", error)
