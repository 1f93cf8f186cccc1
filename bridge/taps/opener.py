"""Opens taps, and opens those again whose connection breaks meanwhile.

Some versions of Asterisk hang up a channel whose socket wakes them up without bytes, mostly while it is opened
(`bridge.ari.versions.BUGS`; 5 of 120 legs on 22.5.2). The leg keeps its owner and its queued audio meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial

from bridge.ari.client import AriClient
from bridge.errors import AriError
from bridge.media.listener import Listener
from bridge.taps.backend import CHANNEL_GONE, Tap, TapBackend

log = logging.getLogger(__name__)

REOPENINGS = 2
"""Limit of openings after the first one, for each tap."""
NOTICE_S = 0.05
"""Time in seconds for the end of a connection to be noticed after Asterisk has reported that its channel has ended."""


class Opener:
    """Opens taps.

    Args:
        client: ARI.
        backend: creates the objects.
        listener: accepts the connections.
    """

    def __init__(self, client: AriClient, backend: TapBackend, listener: Listener) -> None:
        self._client = client
        self._backend = backend
        self._listener = listener

    async def open(self, tap: Tap) -> None:
        """Open the tap; the listener expects the leg already.

        Raises:
            AriError: Asterisk refused, the party or bridge is gone, or the audio did not come in time.
        """
        tap.leg.survives = partial(self._survives, tap)
        try:
            while True:
                losses = tap.losses
                try:
                    await self._backend.open(tap)
                except AriError as error:
                    if not await self._broke(tap, losses, error):
                        raise
                if tap.losses == losses:
                    return
                log.warning("media leg broke while it was opened, opening again leg=%s", tap.leg.uuid)
                await self._prepare(tap)
        finally:
            tap.leg.survives = None  # it refers to the tap

    async def _broke(self, tap: Tap, losses: int, error: AriError) -> bool:
        """Return whether the connection broke while its tap was opened, which may be noticed after the error."""
        if error.status == CHANNEL_GONE and not tap.leg.closed and tap.losses == losses:
            await asyncio.sleep(NOTICE_S)
        return tap.losses != losses

    def _survives(self, tap: Tap) -> bool:
        """Return whether another connection follows the one that has just ended."""
        if tap.losses >= REOPENINGS or tap.closing or tap.idle or tap.renewed or not self._client.connected:
            return False
        tap.losses += 1
        return True

    async def _prepare(self, tap: Tap) -> None:
        """Delete the remaining objects of the tap, and expect another connection."""
        leg = tap.leg
        for channel_id in (tap.media_id, tap.snoop_id):
            if channel_id:
                with contextlib.suppress(AriError):  # the sweep repeats it
                    await self._client.channels.hangup(channel_id)
        if tap.bridge_id:
            with contextlib.suppress(AriError):
                await self._client.bridges.destroy(tap.bridge_id)
        tap.media_id = tap.snoop_id = tap.bridge_id = None
        self._listener.forget(leg)
        leg.renew()
        leg.hold()
        self._listener.expect(leg)
