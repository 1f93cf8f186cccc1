"""Opens and closes a media leg on a call, and shares what only listens.

What is made on the PBX for a leg is in `bridge.taps.backend`. Closing deletes by id, so it does not matter how far
opening got. A snoop that only listens is shared by all who want the same of the same party at the same rate
(`bridge.media.shared`).

All snoops of a channel share one list of audiohooks in Asterisk, and the list has one translator for each direction,
which lives as long as any of them exists. Debian's Asterisk drops what a translator gets with a lower RTP sequence
number than before as late ("native PLC" of its Opus patch): after the party's partner has changed, half of the time
everything, and snoops of this direction are silent for up to eleven minutes (seen on 22.10.1). So when the partner
changes, all taps of the channel are closed and only then opened again: `Taps.renew`, `bridge.taps.renewal`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from dataclasses import replace

from bridge.ari.client import AriClient
from bridge.audio.playout import Playout
from bridge.calls.call import OURS
from bridge.calls.ids import OwnIds
from bridge.errors import AriError
from bridge.media.leg import MediaLeg, ignore
from bridge.media.listener import Listener
from bridge.media.shared import NOTHING_MS, SharedLeg
from bridge.taps.backend import OPEN_TIMEOUT_S, ConfBridge, Join, Snoop, Tap, TapBackend, TapPoint
from bridge.taps.dialplan_entry import Entry
from bridge.taps.removal import Removal
from bridge.tasks import BackgroundTasks

__all__ = ["OPEN_TIMEOUT_S", "ConfBridge", "Join", "Snoop", "Tap", "TapPoint", "Taps"]

RENEW_S = 1.0
"""How long opening waits for what is being closed. Asterisk removes a snoop when the next frame passes the channel."""

POLL_S = 0.02
RETIRE_S = 1.0
"""How often it is tried to remove a tap that nobody uses."""


class Taps:
    """Opens and closes taps, and remembers which objects on the PBX are in use.

    Args:
        advertised: gives ``host:port`` at which Asterisk reaches our listener, once that is open.
        context: the dialplan's context with our entries, ``calling.context`` of the configuration; empty: none has.
    """

    def __init__(
        self,
        client: AriClient,
        listener: Listener,
        ids: OwnIds,
        advertised: Callable[[], str],
        *,
        context: str = "",
    ) -> None:
        self._client = client
        self._listener = listener
        self._tasks = BackgroundTasks("taps", expected=(AriError,))
        self._removal = Removal(client, self._tasks)
        self._backend = TapBackend(client, ids, advertised, Entry(client, context))
        self._open: set[Tap] = set()
        self._shared: dict[tuple[TapPoint, int], Tap] = {}
        """What may be joined, by point and rate."""
        self._stale: set[str] = set()
        """Channels whose partner has changed since their taps were opened, none of which follows it."""
        self._renewals: dict[str, asyncio.Future[None]] = {}
        """By channel."""

    def __len__(self) -> int:
        return len(self._open)

    @property
    def object_ids(self) -> Collection[str]:
        """Ids of all channels and bridges that belong to open taps."""
        return {object_id for tap in self._open for object_id in tap.object_ids}

    @property
    def connections(self) -> Collection[Tap]:
        """The taps that have a connection of their own, opening ones included."""
        return [tap for tap in self._open if tap.shared is None]

    async def open(self, leg: MediaLeg, point: TapPoint) -> Tap:
        """Connect ``leg`` with ``point``: have Asterisk dial us for it, or share what is open there already.

        Raises:
            AriError: Asterisk refused, the party or bridge is gone, or the audio did not come in time.
        """
        if isinstance(point, Snoop):
            await self._fresh(point)
        if isinstance(point, Snoop) and point.whisper == "none":
            tap = self._join(leg, point)
            opening = tap.shared.opening if tap.shared is not None else None
        else:
            tap = self._begin(leg, point)
            opening = tap.opening
        assert opening is not None
        try:
            await asyncio.shield(opening)
        except BaseException:
            await self.close(tap)
            raise
        return tap

    async def close(self, tap: Tap) -> bool:
        """Close the leg and delete everything that was made for it; twice is fine, and so is a dead Asterisk.

        What is shared stays until nobody listens to it any more; and a snoop that Asterisk could not remove now, as no
        frame passes the channel, stays for the next who wants the same (`bridge.taps.removal`).

        Returns:
            Whether it had been closed already so that another one can be opened in its place.
        """
        own: Tap | None = tap
        if tap in self._open and tap.shared is not None:
            own = self._leave(tap, tap.shared)
        if own is not None and own in self._open and not (own.idle or own.closing):
            own.idle = True
            # Whoever waits may be cancelled; what is on the PBX must go all the same.
            await asyncio.shield(asyncio.ensure_future(self._dismiss(own)))
        return (tap.shared or tap).renewed

    async def stop(self) -> None:
        """Close what is kept; every user has closed its taps."""
        await self._tasks.stop()
        await asyncio.gather(*(self._close(tap) for tap in tuple(self._open) if tap.idle and not tap.closing))

    async def follow(self, channel_id: str) -> None:
        """Note that a channel has another partner: renew its taps, now or before the first that follows the partner."""
        points = [tap.point for tap in self._snoops(channel_id)]
        if any(point.follows for point in points if isinstance(point, Snoop)):
            await self.renew(channel_id)
        elif points:
            self._stale.add(channel_id)
            if await self._foreign(channel_id):
                await self.renew(channel_id)  # another process may have some that follow, which need our help

    async def renew(self, channel_id: str) -> None:
        """Close all connections of a channel's snoops; those who use them open others, which wait until all are gone.

        Returns when they are gone, or Asterisk still has them after `RENEW_S`: no frame passes the channel.
        """
        running = self._renewals.get(channel_id)
        if running is None:
            running = self._renewals[channel_id] = asyncio.ensure_future(self._renew(channel_id))
            running.add_done_callback(lambda _: self._renewals.pop(channel_id, None))
        await asyncio.shield(running)

    async def _fresh(self, point: Snoop) -> None:
        """Wait until a tap that is opened now does not get a list of audiohooks that is being renewed or must be."""
        channel_id = point.channel_id
        if channel_id in self._renewals or (point.follows and channel_id in self._stale):
            await self.renew(channel_id)

    async def _renew(self, channel_id: str) -> None:
        self._stale.discard(channel_id)
        taps = self._snoops(channel_id)
        for tap in taps:
            tap.renewed = True
            self._listener.counters.taps_renewed += 1
            self._part((tap.point, tap.leg.fmt.rate), tap)
        foreign, *_ = await asyncio.gather(self._foreign(channel_id), *map(self._remove, taps))
        # Other workers and bridges close theirs at the same time. Their new ones have other ids.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RENEW_S):
                while foreign:
                    await asyncio.sleep(POLL_S)
                    foreign &= await self._foreign(channel_id)

    async def _foreign(self, channel_id: str) -> set[str]:
        """Return the snoop channels of a party that other workers or bridges have."""
        ours = self.object_ids
        try:
            channels = await self._client.channels.list()
        except AriError:
            return set()
        name = f"Snoop/{channel_id}-"
        return {
            each.id for each in channels if each.name.startswith(name) and OURS.match(each.id) and each.id not in ours
        }

    async def _remove(self, tap: Tap) -> None:
        if tap.opening is not None:
            await asyncio.gather(tap.opening, return_exceptions=True)  # its snoop has an id then
        with self._client.expect("ChannelDestroyed", tap.snoop_id or "") as destroyed:
            await self._close(tap)
            if tap.snoop_id:
                with contextlib.suppress(AriError):
                    await destroyed.wait(RENEW_S)

    def _snoops(self, channel_id: str) -> list[Tap]:
        """Return the taps of a party that have a connection of their own."""
        return [tap for tap in self.connections if isinstance(tap.point, Snoop) and tap.point.channel_id == channel_id]

    def _begin(self, leg: MediaLeg, point: TapPoint) -> Tap:
        """Start to open a tap with a connection of its own, or take one that is kept."""
        kept = next((tap for tap in self._open if tap.idle and (tap.point, tap.leg.fmt) == (point, leg.fmt)), None)
        if kept is not None and not (kept.closing or kept.leg.closed):
            self._open.discard(kept)
            kept.leg.on_closed = ignore
            kept.leg.hand_over(leg)
            tap = replace(kept, leg=leg, idle=False)
            self._open.add(tap)
            return tap
        tap = Tap(leg, point)
        self._open.add(tap)
        leg.hold()
        self._listener.expect(leg)
        tap.opening = asyncio.ensure_future(self._backend.open(tap))
        return tap

    def _join(self, leg: MediaLeg, point: Snoop) -> Tap:
        """Listen to what is open or being opened there, or start to open it."""
        key = (point, leg.fmt.rate)
        shared = self._shared.get(key)
        if shared is None:
            source = SharedLeg(leg.fmt, self._listener.counters)
            shared = self._shared[key] = self._begin(source, point)
            # Whoever comes after it has failed or broken opens another one; the first of them does so for all.
            source.on_closed = lambda: self._part(key, shared)
            assert shared.opening is not None
            shared.opening.add_done_callback(lambda done: self._part(key, shared) if _failed(done) else None)
        assert isinstance(shared.leg, SharedLeg)
        shared.idle = False
        shared.leg.join(leg)
        tap = Tap(leg, point, shared=shared)
        self._open.add(tap)
        return tap

    def _leave(self, tap: Tap, shared: Tap) -> Tap | None:
        """Listen no more; returns what nobody uses any more, if that was the last listener."""
        self._open.discard(tap)
        assert isinstance(shared.leg, SharedLeg)
        shared.leg.leave(tap.leg)
        return None if shared.leg.listeners else shared

    async def _dismiss(self, tap: Tap) -> None:
        """Close a tap that nobody uses, or keep it until Asterisk can remove it, for the next who wants the same."""
        if tap.opening is not None:
            # A request given up half-way would make its object just after we have deleted it.
            await asyncio.gather(tap.opening, return_exceptions=True)
        removable = tap.renewed or await self._removal.possible(tap)
        if not tap.idle or tap not in self._open:
            return  # somebody has joined, or it has been renewed
        if removable:
            await self._close(tap)
            return
        if not isinstance(tap.leg, SharedLeg):
            # The leg is its user's, who may close it.
            spare = MediaLeg(tap.leg.fmt, Playout(tap.leg.fmt, NOTHING_MS), self._listener.counters)
            tap.leg.hand_over(spare)
            self._open.discard(tap)
            tap = replace(tap, leg=spare)
            self._open.add(tap)
        self._tasks.spawn(self._retire(tap))

    async def _retire(self, tap: Tap) -> None:
        removable = False
        while not removable:
            await asyncio.sleep(RETIRE_S)
            if not tap.idle or tap not in self._open:
                return
            removable = await self._removal.possible(tap)
        if tap.idle and tap in self._open:
            await self._close(tap)

    def _part(self, key: tuple[TapPoint, int], shared: Tap) -> None:
        """Let nobody join it any more."""
        if self._shared.get(key) is shared:
            del self._shared[key]

    async def _close(self, tap: Tap) -> None:
        tap.closing = True
        self._part((tap.point, tap.leg.fmt.rate), tap)
        if tap.opening is not None:
            await asyncio.gather(tap.opening, return_exceptions=True)
        self._listener.forget(tap.leg)
        try:
            await self._removal.remove(tap)
        finally:
            self._open.discard(tap)
            if isinstance(tap.point, Snoop) and not self._snoops(tap.point.channel_id):
                self._stale.discard(tap.point.channel_id)


def _failed(done: asyncio.Future[None]) -> bool:
    return done.cancelled() or done.exception() is not None
