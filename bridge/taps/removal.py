"""Deletes the objects of taps, and verifies their end.

Asterisk hangs up a snoop channel in two steps. The channel is removed from those that requests reach, then it waits for
the removal of its audiohook, which happens when the next frame passes the observed party (`snoop_hangup`,
main/audiohook.c). Where no frame passes, in a call of two parties which both send no audio, the channel, a thread and
its descriptors stay until a frame passes or the party leaves, and DELETE responds with 404. So a snoop of such a party
is kept instead, and reused.
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
"""Time for a channel to end before it is hung up again, in seconds."""
TRIES = 3
PACKETS_S = 0.1
"""Interval in seconds in which an active party sends or receives five packets."""


class Removal:
    """Deletes channels and bridges of taps.

    Args:
        client: ARI.
        tasks: run the verification.
    """

    def __init__(self, client: AriClient, tasks: BackgroundTasks) -> None:
        self._client = client
        self._tasks = tasks

    async def packets(self, tap: Tap) -> int | None:
        """Return the packets that a snoop's party has sent and received so far; None if unknown."""
        assert isinstance(tap.point, Snoop)
        try:
            statistics = await self._client.channels.rtp_statistics(tap.point.channel_id)
        except AriError:
            return None  # it has ended, is not an RTP channel, or Asterisk is unavailable
        return statistics.txcount + statistics.rxcount

    async def possible(self, tap: Tap) -> bool:
        """Return whether Asterisk would remove a tap now: frames pass the party, or the tap is not a snoop."""
        if not isinstance(tap.point, Snoop) or tap.leg.closed or not tap.leg.connected.is_set():
            return True
        before = await self.packets(tap)
        if before is None:
            return True
        await asyncio.sleep(PACKETS_S)
        return await self.packets(tap) != before

    async def remove(self, tap: Tap) -> None:
        """Delete everything that was created for a tap; return when Asterisk has responded."""
        gone = tap.leg.closed  # then the channel has ended by itself, as in a hang-up
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
                    log.warning(
                        "cleanup failed, next sweep retries channel=%s error=%s",
                        tap.snoop_id or tap.media_id,
                        failure,
                        extra=cause(failure.message),
                    )
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
                    log.info(
                        "Asterisk keeps the channel until its party sends or receives audio channel=%s", channel_id
                    )
