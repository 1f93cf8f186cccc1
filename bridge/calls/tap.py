"""Opens and closes a media leg on a call: the ARI objects behind one AudioSocket connection.

Three shapes (docs/decisions/taps.md):

    Snoop   party -- snoop channel -- bridge -- external media     any party of the PBX, outside Stasis too
    Join    a mixing bridge of ours -- external media              a call or conference in our Stasis application
    Room    a ConfBridge room -- external media                    a conference that the dialplan runs

Every id is chosen before the act, the waiter is registered before the request, and no channel is bridged before its
own StasisStart (422 in 55 of 100 tries on Asterisk 22.10). Closing deletes by id, so it does not matter how far
opening got.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from bridge.ari.client import AriClient
from bridge.calls.ids import OwnIds
from bridge.errors import AriError
from bridge.media.leg import MediaLeg
from bridge.media.listener import Listener

log = logging.getLogger(__name__)

OPEN_TIMEOUT_S = 5.0
"""Asterisk gives a connect 2 s; what takes longer than this is not coming."""
WHISPER_LEAD_FRAMES = 2
"""A whisper is mixed into the party's frames as they pass, and one that is late leaves a hole in it. So many frames
in hand make up for the uneven arrival of both; the queue is good for 500 ms (main/audiohook.c)."""


@dataclass(frozen=True)
class Snoop:
    """Listen to and speak into one party from outside.

    Args:
        channel_id: the party.
        spy: ``in`` is what the party says, ``out`` what it hears, ``both`` the mix, ``none`` nothing.
        whisper: ``out`` is heard by the party, ``in`` by the others as if the party said it, ``none`` by nobody.
    """

    channel_id: str
    spy: str
    whisper: str


@dataclass(frozen=True)
class Join:
    """Join a mixing bridge of ours as one more member: hear all others, be heard by all."""

    bridge_id: str


@dataclass(frozen=True)
class Room:
    """Join a ConfBridge room as one more member: hear all others, be heard by all.

    ARI adds no channel to a bridge that is not its own (409), so ours is sent on into the dialplan, to the extension
    ``room-{name}`` of a static context, which runs ConfBridge and ends (docs/decisions/taps.md).

    Args:
        name: the room.
        context: the context, ``calling.context`` of the configuration.
    """

    name: str
    context: str


Place = Snoop | Join | Room


@dataclass(eq=False)
class Tap:
    """What is open on the PBX for one leg."""

    leg: MediaLeg
    place: Place
    media_id: str
    snoop_id: str | None = None
    bridge_id: str | None = None
    """The bridge that was made for this tap; None where an existing one was joined."""
    opening: asyncio.Future[None] | None = None
    """The requests that open it."""

    @property
    def object_ids(self) -> tuple[str, ...]:
        """Ids of all channels and bridges that were made for this tap."""
        return tuple(i for i in (self.media_id, self.snoop_id, self.bridge_id) if i)


class Taps:
    """Opens and closes taps, and remembers which objects on the PBX are in use.

    Args:
        advertised: gives ``host:port`` at which Asterisk reaches our listener, once that is open.
    """

    def __init__(self, client: AriClient, listener: Listener, ids: OwnIds, advertised: Callable[[], str]) -> None:
        self._client = client
        self._listener = listener
        self._ids = ids
        self._advertised = advertised
        self._open: set[Tap] = set()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def object_ids(self) -> Collection[str]:
        """Ids of all channels and bridges that belong to open taps."""
        return {object_id for tap in self._open for object_id in tap.object_ids}

    async def open(self, leg: MediaLeg, place: Place) -> Tap:
        """Have Asterisk dial us for ``leg`` and connect it with ``place``.

        Raises:
            AriError: Asterisk refused, the party or bridge is gone, or the audio did not come in time.
        """
        snooping = isinstance(place, Snoop)
        tap = Tap(
            leg,
            place,
            media_id=self._ids.new("media"),
            snoop_id=self._ids.new("snoop") if snooping else None,
            bridge_id=self._ids.new("mix") if snooping else None,
        )
        self._open.add(tap)  # before the first request: a sweep must not take it for an orphan
        self._listener.expect(leg)
        tap.opening = asyncio.ensure_future(self._open_objects(tap, place))
        try:
            await asyncio.shield(tap.opening)
        except BaseException:
            await self.close(tap)
            raise
        return tap

    async def close(self, tap: Tap) -> None:
        """Close the leg and delete everything that was made for it; twice is fine, and so is a dead Asterisk."""
        if tap in self._open:
            # Whoever waits may be cancelled; what is on the PBX must go all the same.
            await asyncio.shield(asyncio.ensure_future(self._close(tap)))

    async def _close(self, tap: Tap) -> None:
        if tap.opening is not None:
            # A request given up half-way would make its object just after we have deleted it.
            await asyncio.gather(tap.opening, return_exceptions=True)
        self._listener.forget(tap.leg)
        tap.leg.close()
        deletions: list[Awaitable[object]] = [self._client.channels.hangup(tap.media_id)]
        if tap.snoop_id:
            deletions.append(self._client.channels.hangup(tap.snoop_id))
        try:
            for result in await asyncio.gather(*deletions, return_exceptions=True):
                if isinstance(result, AriError):
                    log.warning("tap=%s left to the next sweep: %s", tap.media_id, result)
            if tap.bridge_id:
                await self._client.bridges.destroy(tap.bridge_id)
        except AriError as error:
            log.warning("tap=%s left to the next sweep: %s", tap.media_id, error)
        finally:
            self._open.discard(tap)

    async def _open_objects(self, tap: Tap, place: Place) -> None:
        if isinstance(place, Snoop):
            await self._snoop(tap, place)
            return
        await self._media(tap)
        if isinstance(place, Room):
            await self._enter(tap.media_id, place)
        else:
            await self._client.bridges.add_channel(place.bridge_id, tap.media_id)

    async def _enter(self, media_id: str, room: Room) -> None:
        extension = f"room-{room.name}"
        with self._client.expect("ChannelEnteredBridge", media_id) as entered:
            await self._client.channels.continue_in_dialplan(
                media_id, context=room.context, extension=extension, priority=1
            )
            try:
                await entered.wait(OPEN_TIMEOUT_S)
            except AriError as error:
                raise AriError(
                    error.status,
                    "POST",
                    f"/channels/{media_id}/continue",
                    f"{extension} of the dialplan's context {room.context!r} led into no conference: {error.message}",
                ) from None

    async def _snoop(self, tap: Tap, place: Snoop) -> None:
        assert tap.snoop_id is not None
        assert tap.bridge_id is not None
        await _together(
            self._snoop_channel(tap.snoop_id, place),
            self._media(tap),
            self._client.bridges.create(bridge_id=tap.bridge_id, type="mixing", name=tap.bridge_id),
        )
        await self._client.bridges.add_channel(tap.bridge_id, tap.snoop_id)
        await self._client.bridges.add_channel(tap.bridge_id, tap.media_id)
        if place.whisper != "none":
            tap.leg.tick(WHISPER_LEAD_FRAMES)

    async def _snoop_channel(self, snoop_id: str, place: Snoop) -> None:
        with self._client.expect("StasisStart", snoop_id) as started:
            await self._client.channels.snoop(place.channel_id, snoop_id=snoop_id, spy=place.spy, whisper=place.whisper)
            await started.wait(OPEN_TIMEOUT_S)

    async def _media(self, tap: Tap) -> None:
        """Create the external media channel and wait until its audio is connected and it may be bridged."""
        leg = tap.leg
        with self._client.expect("StasisStart", tap.media_id) as started:
            await self._client.channels.external_media(
                channel_id=tap.media_id,
                external_host=self._advertised(),
                format=leg.fmt.asterisk_name,
                data=str(leg.uuid),
            )
            await started.wait(OPEN_TIMEOUT_S)
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await leg.connected.wait()
        except TimeoutError:
            raise AriError(
                0,
                "POST",
                "/channels/externalMedia",
                f"Asterisk accepted, but its AudioSocket connection never came to us; does {self._advertised()} "
                "(audiosocket.advertised_host and _port) lead from Asterisk to this bridge?",
            ) from None


async def _together(*acts: Awaitable[object]) -> None:
    """Run all to their end, then raise the first error: none is given up half-way (see `Taps._close`)."""
    for result in await asyncio.gather(*acts, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
