"""Opens and closes media legs on calls, and shares those that only receive.

`bridge.taps.backend` creates the objects on the PBX. Closing deletes by id, so it does not matter how far opening got.
A snoop that only receives is shared by all users of the same audio of a party at the same rate
(`bridge.media.shared_leg`).

All snoops of a channel share one list of audiohooks in Asterisk, and the list has one translator for each direction,
which lives as long as any of them exists. Debian's Asterisk drops audio with a lower RTP sequence number than before as
late in a translator ("native PLC" of its Opus patch): after the party's peer has changed, half of the time everything,
and snoops of this direction are silent for up to eleven minutes (seen on 22.10.1). So when the peer changes, all taps
of the channel are closed, and opened again only afterwards: `Taps.renew`, `bridge.taps.renewal`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection

from msgspec.structs import replace

from bridge.ari.client import AriClient
from bridge.audio.playout import Playout
from bridge.calls.call import OURS
from bridge.calls.ids import OwnIds
from bridge.errors import AriError
from bridge.media.leg import MediaLeg, ignore
from bridge.media.listener import Listener
from bridge.media.shared_leg import NOTHING_MS, SharedLeg
from bridge.taps.backend import OPEN_TIMEOUT_S, ConfBridge, Join, Snoop, Tap, TapBackend, TapPoint
from bridge.taps.dialplan_entry import DialplanEntry
from bridge.taps.opener import Opener
from bridge.taps.removal import Removal
from bridge.taps.wide_audio import WideAudio
from bridge.tasks import BackgroundTasks

__all__ = ["OPEN_TIMEOUT_S", "ConfBridge", "Join", "Snoop", "Tap", "TapPoint", "Taps"]

RENEW_S = 1.0
"""Limit for waiting until other taps are closed, in seconds. Asterisk removes a snoop when the next frame passes."""

POLL_S = 0.02
RETIRE_S = 1.0
"""Interval of attempts to remove an unused tap, in seconds."""


class Taps:
    """Opens and closes taps, and tracks which objects on the PBX are in use.

    Args:
        client: ARI.
        listener: accepts the connections of media legs.
        ids: generates ids of own objects.
        advertised: returns the ``host:port`` at which Asterisk reaches the listener, once that is open.
        context: the dialplan context with the entries, ``calling.context`` of the configuration; empty: none.
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
        self._wide_audio = WideAudio(client, listener, ids, advertised, self._tasks)
        entry = DialplanEntry(client, context)
        backend = TapBackend(client, ids, advertised, entry, self._wide_audio)
        self._opener = Opener(client, backend, listener)
        self._open: set[Tap] = set()
        self._shared: dict[tuple[TapPoint, int], Tap] = {}
        """Taps that may be shared, by tap point and rate."""
        self._stale: set[str] = set()
        """Channels whose peer has changed since their taps were opened, with no tap that depends on it."""
        self._renewals: dict[str, asyncio.Future[None]] = {}
        """By channel."""

    def __len__(self) -> int:
        return len(self._open)

    @property
    def object_ids(self) -> Collection[str]:
        """Ids of all channels and bridges that belong to open taps, or to the test of the Asterisk."""
        ids = {object_id for tap in self._open for object_id in tap.object_ids}
        return ids | {self._wide_audio.channel_id} - {""}

    @property
    def connections(self) -> Collection[Tap]:
        """Taps with a connection of their own, including those being opened."""
        return [tap for tap in self._open if tap.shared is None]

    async def open(self, leg: MediaLeg, point: TapPoint) -> Tap:
        """Connect ``leg`` to ``point``, by a new connection from Asterisk or by sharing an existing one.

        Args:
            leg: the media leg.
            point: the tap point.

        Returns:
            The tap, for `close`.

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
        finally:
            del opening  # the traceback of its failure refers to this frame
        return tap

    async def close(self, tap: Tap) -> bool:
        """Close the leg and delete everything that was created for it; repeating it is harmless, also without Asterisk.

        A shared connection stays until its last user has left; and a snoop that Asterisk could not remove now, as no
        frame passes the channel, is kept for the next user of the same tap point (`bridge.taps.removal`).

        Args:
            tap: the tap.

        Returns:
            Whether it had been closed already, to be replaced by another one.
        """
        own: Tap | None = tap
        if tap in self._open and tap.shared is not None:
            own = self._leave(tap, tap.shared)
        if own is not None and own in self._open and not (own.idle or own.closing):
            own.idle = True
            # Shielded: the caller may be cancelled, the objects on the PBX must be deleted anyway.
            await asyncio.shield(asyncio.ensure_future(self._dismiss(own)))
        return (tap.shared or tap).renewed

    async def stop(self) -> None:
        """Close kept taps, after all users have closed theirs."""
        await self._tasks.stop()
        await asyncio.gather(*(self._close(tap) for tap in tuple(self._open) if tap.idle and not tap.closing))

    async def follow(self, channel_id: str) -> None:
        """Renew the taps of a channel whose peer has changed: now, or before the first tap that depends on the peer."""
        points = [tap.point for tap in self._snoops(channel_id)]
        if any(point.follows for point in points if isinstance(point, Snoop)):
            await self.renew(channel_id)
        elif points:
            self._stale.add(channel_id)
            if await self._foreign(channel_id):
                await self.renew(channel_id)  # taps of other processes may depend on it

    async def renew(self, channel_id: str) -> None:
        """Close all connections of a channel's snoops; their users open others, which wait until all are closed.

        Returns when they are closed, or Asterisk still has them after `RENEW_S`: no frame passes the channel.
        """
        running = self._renewals.get(channel_id)
        if running is None:
            running = self._renewals[channel_id] = asyncio.ensure_future(self._renew(channel_id))
            running.add_done_callback(lambda _: self._renewals.pop(channel_id, None))
        await asyncio.shield(running)

    async def _fresh(self, point: Snoop) -> None:
        """Wait for a due or running renewal, which a tap that is opened now must not join."""
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
        # Other processes close theirs simultaneously. Their new ones have other ids.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RENEW_S):
                while foreign:
                    await asyncio.sleep(POLL_S)
                    foreign &= await self._foreign(channel_id)

    async def _foreign(self, channel_id: str) -> set[str]:
        """Return the snoop channels of a party that belong to other processes."""
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
            await asyncio.gather(tap.opening, return_exceptions=True)  # then its snoop has an id
        with self._client.expect("ChannelDestroyed", tap.snoop_id or "") as destroyed:
            await self._close(tap)
            if tap.snoop_id:
                with contextlib.suppress(AriError):
                    await destroyed.wait(RENEW_S)

    def _snoops(self, channel_id: str) -> list[Tap]:
        """Return the taps of a party with a connection of their own."""
        return [tap for tap in self.connections if isinstance(tap.point, Snoop) and tap.point.channel_id == channel_id]

    def _begin(self, leg: MediaLeg, point: TapPoint) -> Tap:
        """Begin to open a tap with a connection of its own, or reuse a kept one."""
        kept = next((tap for tap in self._open if tap.idle and (tap.point, tap.leg.fmt) == (point, leg.fmt)), None)
        # While a tap is opened, what Asterisk connects is for its first leg.
        if kept is not None and _opened(kept.opening) and not (kept.closing or kept.leg.closed):
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
        tap.opening = asyncio.ensure_future(self._opener.open(tap))
        return tap

    def _join(self, leg: MediaLeg, point: Snoop) -> Tap:
        """Share an existing connection, or one being opened, or begin to open one."""
        key = (point, leg.fmt.rate)
        shared = self._shared.get(key)
        if shared is None:
            source = SharedLeg(leg.fmt, self._listener.counters)
            shared = self._shared[key] = self._begin(source, point)
            # After its failure the next user opens another one, for all.
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
        """Leave a shared connection; return its tap if that was the last user."""
        self._open.discard(tap)
        assert isinstance(shared.leg, SharedLeg)
        shared.leg.leave(tap.leg)
        return None if shared.leg.listeners else shared

    async def _dismiss(self, tap: Tap) -> None:
        """Close an unused tap, or keep it until Asterisk can remove it."""
        if tap.opening is not None:
            # A request cancelled half-way could create its object just after its deletion.
            await asyncio.gather(tap.opening, return_exceptions=True)
        removable = tap.renewed or await self._removal.possible(tap)
        if not tap.idle or tap not in self._open:
            return  # joined or renewed meanwhile
        if removable:
            await self._close(tap)
            return
        if not isinstance(tap.leg, SharedLeg):
            # The leg belongs to its user, who may close it.
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
        """Stop sharing a tap."""
        if self._shared.get(key) is shared:
            del self._shared[key]

    async def _close(self, tap: Tap) -> None:
        tap.closing = True
        self._part((tap.point, tap.leg.fmt.rate), tap)
        if tap.opening is not None:
            await asyncio.gather(tap.opening, return_exceptions=True)
            tap.opening = None  # the traceback of its failure refers to the tap
        self._listener.forget(tap.leg)
        try:
            await self._removal.remove(tap)
        finally:
            self._open.discard(tap)
            if isinstance(tap.leg, SharedLeg):
                tap.leg.on_closed = ignore  # it refers to the tap
            if isinstance(tap.point, Snoop) and not self._snoops(tap.point.channel_id):
                self._stale.discard(tap.point.channel_id)


def _opened(opening: asyncio.Future[None] | None) -> bool:
    return opening is not None and opening.done() and not _failed(opening)


def _failed(done: asyncio.Future[None]) -> bool:
    return done.cancelled() or done.exception() is not None
