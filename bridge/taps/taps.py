"""Opens and closes a media leg on a call, and shares what only listens.

What is made on the PBX for a leg is in `bridge.taps.backend`. Closing deletes by id, so it does not matter how far
opening got. A snoop that only listens is shared by all who want the same of the same party at the same rate
(`bridge.media.shared`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection

from bridge.ari.client import AriClient
from bridge.calls.ids import OwnIds
from bridge.errors import AriError
from bridge.logs import cause
from bridge.media.leg import MediaLeg
from bridge.media.listener import Listener
from bridge.media.shared import SharedLeg
from bridge.taps.backend import OPEN_TIMEOUT_S, ConfBridge, Join, Snoop, Tap, TapBackend, TapPoint
from bridge.taps.dialplan_entry import Entry

__all__ = ["OPEN_TIMEOUT_S", "ConfBridge", "Join", "Snoop", "Tap", "TapPoint", "Taps"]

log = logging.getLogger(__name__)


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
        self._backend = TapBackend(client, ids, advertised, Entry(client, context))
        self._open: set[Tap] = set()
        self._shared: dict[tuple[Snoop, int], Tap] = {}
        """What may be joined, by point and rate."""

    def __len__(self) -> int:
        return len(self._open)

    @property
    def object_ids(self) -> Collection[str]:
        """Ids of all channels and bridges that belong to open taps."""
        return {object_id for tap in self._open for object_id in tap.object_ids}

    async def open(self, leg: MediaLeg, point: TapPoint) -> Tap:
        """Connect ``leg`` with ``point``: have Asterisk dial us for it, or share what is open there already.

        Raises:
            AriError: Asterisk refused, the party or bridge is gone, or the audio did not come in time.
        """
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

    async def close(self, tap: Tap) -> None:
        """Close the leg and delete everything that was made for it; twice is fine, and so is a dead Asterisk.

        What is shared stays until nobody listens to it any more.
        """
        if tap not in self._open:
            return
        own: Tap | None = tap
        if tap.shared is not None:
            own = self._leave(tap, tap.shared)
        if own is not None:
            # Whoever waits may be cancelled; what is on the PBX must go all the same.
            await asyncio.shield(asyncio.ensure_future(self._close(own)))

    def _begin(self, leg: MediaLeg, point: TapPoint) -> Tap:
        """Start to open a tap with a connection of its own."""
        tap = Tap(leg, point)
        self._open.add(tap)
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
        shared.leg.join(leg)
        tap = Tap(leg, point, shared=shared)
        self._open.add(tap)
        return tap

    def _leave(self, tap: Tap, shared: Tap) -> Tap | None:
        """Listen no more; returns what is to be closed, if that was the last listener."""
        self._open.discard(tap)
        assert isinstance(shared.leg, SharedLeg)
        shared.leg.leave(tap.leg)
        if shared.leg.listeners:
            return None
        assert isinstance(shared.point, Snoop)
        self._part((shared.point, shared.leg.fmt.rate), shared)
        return shared

    def _part(self, key: tuple[Snoop, int], shared: Tap) -> None:
        """Let nobody join it any more."""
        if self._shared.get(key) is shared:
            del self._shared[key]

    async def _close(self, tap: Tap) -> None:
        if tap.opening is not None:
            # A request given up half-way would make its object just after we have deleted it.
            await asyncio.gather(tap.opening, return_exceptions=True)
        self._listener.forget(tap.leg)
        tap.leg.close()
        channels = [channel_id for channel_id in (tap.media_id, tap.snoop_id) if channel_id]
        try:
            for result in await asyncio.gather(*map(self._client.channels.hangup, channels), return_exceptions=True):
                if isinstance(result, AriError):
                    log.warning("%s left to the next sweep: %s", tap.name, result, extra=cause(result.message))
            if tap.bridge_id:
                await self._client.bridges.destroy(tap.bridge_id)
        except AriError as error:
            log.warning("%s left to the next sweep: %s", tap.name, error, extra=cause(error.message))
        finally:
            self._open.discard(tap)


def _failed(done: asyncio.Future[None]) -> bool:
    return done.cancelled() or done.exception() is not None
