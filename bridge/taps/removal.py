"""Deletes what was made for taps, and makes sure that it is gone.

Asterisk hangs up a snoop channel in two steps. The channel is taken from the list of those that requests reach, and
then it waits until its audiohook has been removed, which happens when the next frame passes the party that it
listens to (`snoop_hangup`, main/audiohook.c). Where no frame passes, in a call of two parties both of which send no
audio, the channel, a thread and its descriptors stay until one does or the party leaves, and a DELETE is answered
with 404. So a snoop of such a party is not hung up but kept, and used again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from bridge.ari.client import AriClient
from bridge.ari.dispatch import Expectation
from bridge.errors import AriError
from bridge.logs import cause
from bridge.taps.backend import Snoop, Tap
from bridge.tasks import BackgroundTasks

log = logging.getLogger(__name__)

GONE_S = 2.0
"""How long a channel may take to end before it is hung up again."""
TRIES = 3
PACKETS_S = 0.1
"""In so long a party that sends or receives audio does so with five packets."""


class Removal:
    """Deletes channels and bridges of taps.

    Args:
        tasks: where it is made sure that they are gone.
    """

    def __init__(self, client: AriClient, tasks: BackgroundTasks) -> None:
        self._client = client
        self._tasks = tasks

    async def packets(self, tap: Tap) -> int | None:
        """Return how many packets a snoop's party has sent and received so far; None: that cannot be told."""
        assert isinstance(tap.point, Snoop)
        try:
            statistics = await self._client.channels.rtp_statistics(tap.point.channel_id)
        except AriError:
            return None  # it has gone, is not an RTP channel, or Asterisk is unavailable
        return statistics.txcount + statistics.rxcount

    async def possible(self, tap: Tap) -> bool:
        """Return whether Asterisk would remove a tap now: frames pass the party, or it is no snoop."""
        if not isinstance(tap.point, Snoop) or tap.leg.closed or not tap.leg.connected.is_set():
            return True
        before = await self.packets(tap)
        if before is None:
            return True
        await asyncio.sleep(PACKETS_S)
        return await self.packets(tap) != before

    async def remove(self, tap: Tap) -> None:
        """Delete everything that was made for a tap; returns when Asterisk has answered."""
        gone = tap.leg.closed  # the channel has ended by itself then, as in a hang-up
        channels = [channel_id for channel_id in (tap.media_id, tap.snoop_id) if channel_id]
        with contextlib.ExitStack() as stack:
            ends = {each: stack.enter_context(self._client.expect("ChannelDestroyed", each)) for each in channels}
            tap.leg.close()
            failures: list[object] = []
            failures += await asyncio.gather(*map(self._client.channels.hangup, channels), return_exceptions=True)
            if tap.bridge_id:
                failures += await asyncio.gather(self._client.bridges.destroy(tap.bridge_id), return_exceptions=True)
            for failure in failures:
                if isinstance(failure, AriError):
                    log.warning("%s left to the next sweep: %s", tap.name, failure, extra=cause(failure.message))
            if self._client.connected and not gone:
                self._tasks.spawn(self._until_gone(stack.pop_all(), ends))

    async def _until_gone(self, stack: contextlib.ExitStack, ends: dict[str, Expectation]) -> None:
        with stack:
            for channel_id, end in ends.items():
                for _ in range(TRIES):
                    with contextlib.suppress(AriError):
                        await end.wait(GONE_S)
                        break
                    with contextlib.suppress(AriError):
                        await self._client.channels.hangup(channel_id)
                else:
                    log.info("channel=%s is held by Asterisk until its party sends or receives audio", channel_id)
