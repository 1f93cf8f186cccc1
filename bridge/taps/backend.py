"""The ARI objects behind one media leg.

Shapes (docs/decisions/taps.md):

    Snoop   party -- snoop channel -- AudioSocket()                any party of the PBX, also outside Stasis: at 8 kHz,
                                                                   if the dialplan has the entry (dialplan_entry.py)
            party -- snoop channel -- bridge -- external media     the same, at any rate
    Join    own mixing bridge -- external media                    a call or conference in the Stasis application
    ConfBridge    a ConfBridge room -- external media              a conference that the dialplan runs

Every id is chosen before the request, the waiter is registered before the request, and no channel is bridged before its
own StasisStart (422 in 55 of 100 attempts on Asterisk 22.10).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from msgspec import Struct

from bridge.ari.client import AriClient
from bridge.calls.ids import OwnIds
from bridge.errors import AriError
from bridge.media.leg import NARROW, MediaLeg
from bridge.taps.dialplan_entry import DialplanEntry
from bridge.taps.wide_audio import WideAudio

OPEN_TIMEOUT_S = 5.0
"""Time limit in seconds; Asterisk limits a connect to 2 s."""
WHISPER_LEAD_FRAMES = 2
"""Frames queued in advance of a whisper.

A whisper is mixed into the party's frames as they pass, and a late frame leaves a gap. This lead absorbs the jitter of
both; the queue holds 500 ms (main/audiohook.c).
"""


class Snoop(Struct, frozen=True):
    """Receive and send audio of one party from outside.

    Args:
        channel_id: the party.
        spy: audio to receive: ``in`` from the party, ``out`` to it, ``both`` mixed, or ``none``.
        whisper: who receives the whispered audio: ``out`` the party, ``in`` the others as if from the party, or
            ``none``.
    """

    channel_id: str
    spy: str
    whisper: str

    @property
    def follows(self) -> bool:
        """Whether Asterisk translates the party's received audio for it: audio of changing peers."""
        return self.spy in ("out", "both") or self.whisper == "out"


class Join(Struct, frozen=True):
    """Join a mixing bridge of asterisk-bridge as a member, which receives all others and sends to all."""

    bridge_id: str


class ConfBridge(Struct, frozen=True):
    """Join a ConfBridge room as a member, which receives all others and sends to all.

    ARI cannot add channels to the bridges of others (409), so the channel continues in the dialplan at the extension
    ``room-{name}`` of a static context, which runs ConfBridge and ends (docs/decisions/taps.md).

    Args:
        name: the room.
        context: the context, ``calling.context`` of the configuration.
    """

    name: str
    context: str


NOT_DELIVERED = 500
"""Asterisk's status for external media whose AudioSocket connection fails."""
CHANNEL_GONE = 400
"""Asterisk's status for a channel that does not exist when it is added to a bridge."""
ADVICE = ". Run asterisk-bridge doctor"

TapPoint = Snoop | Join | ConfBridge


class Tap(Struct, eq=False):
    """The open objects for one leg."""

    leg: MediaLeg
    point: TapPoint
    media_id: str | None = None
    snoop_id: str | None = None
    bridge_id: str | None = None
    """The bridge that was created for this tap; None where an existing one was joined."""
    opening: asyncio.Future[None] | None = None
    """The opening requests."""
    shared: Tap | None = None
    """The tap that it shares with others, without objects of its own."""
    idle: bool = False
    """Whether it is unused, and kept for the next user of the same tap point (`Taps.close`)."""
    closing: bool = False
    """Whether its objects are being deleted."""
    renewed: bool = False
    """Whether it was closed to be replaced by another one (`Taps.renew`)."""
    losses: int = 0
    """Number of connections that broke while it was opened, and were replaced (`bridge.taps.opener`)."""

    @property
    def object_ids(self) -> tuple[str, ...]:
        """Ids of all channels and bridges that were created for this tap."""
        return tuple(i for i in (self.media_id, self.snoop_id, self.bridge_id) if i)

    @property
    def name(self) -> str:
        """The tap's id in log lines."""
        return f"tap={self.snoop_id or self.media_id}"


class TapBackend:
    """Creates the ARI objects of taps.

    Args:
        client: ARI.
        ids: generates ids of own objects.
        advertised: returns the ``host:port`` at which Asterisk reaches the listener, once that is open.
        entry: the dialplan's entry for taps.
        wide_audio: whether Asterisk carries rates above 8 kHz.
    """

    def __init__(
        self,
        client: AriClient,
        ids: OwnIds,
        advertised: Callable[[], str],
        entry: DialplanEntry,
        wide_audio: WideAudio,
    ) -> None:
        self._wide_audio = wide_audio
        self._client = client
        self._ids = ids
        self._advertised = advertised
        self._entry = entry

    async def open(self, tap: Tap) -> None:
        """Open the tap, then release its leg; the listener expects the leg already.

        Raises:
            AriError: Asterisk refused, the party or bridge is gone, or the audio did not come in time.
        """
        point = tap.point
        if tap.leg.fmt.rate > NARROW.rate and not await self._wide_audio.carried():
            tap.leg.narrow()
        # An id is stored before its request: otherwise a sweep could delete the new object as an orphan.
        if isinstance(point, Snoop):
            await self._reach(tap, point)
        else:
            tap.media_id = self._ids.new("media")
            await self._media(tap, tap.media_id)
            if isinstance(point, ConfBridge):
                await self._enter(tap.media_id, point)
            else:
                await self._add(tap.leg, point.bridge_id, tap.media_id)
        tap.leg.release()
        if isinstance(point, Snoop) and point.whisper != "none":
            tap.leg.tick(WHISPER_LEAD_FRAMES)

    async def _enter(self, media_id: str, room: ConfBridge) -> None:
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
                    f"{extension} of the dialplan's context {room.context!r} led to no conference: {error.message}",
                ) from None

    async def _reach(self, tap: Tap, point: Snoop) -> None:
        """Connect a snoop by the dialplan's entry, the cheapest way, or else by external media."""
        problem = await self._by_entry(tap, point) if self._entry.serves(tap.leg.wire_fmt.rate) else None
        if not tap.leg.connected.is_set():
            await self._by_external_media(tap, point)
            if problem is not None:
                self._entry.failed(problem)

    async def _by_entry(self, tap: Tap, point: Snoop) -> AriError | None:
        """Connect the snoop channel itself; return the error that the dialplan's entry may have caused."""
        snoop_id = tap.snoop_id = self._ids.new("snoop")
        await self._snoop_channel(snoop_id, point)
        try:
            await self._entry.enter(snoop_id, tap.leg, self._advertised())
        except AriError as error:
            await self._client.channels.hangup(snoop_id)
            return error
        if point.spy != "none":
            # AudioSocket() ends after 2 s without audio in either direction, and this channel always sends some. It is
            # also free of the bug of external media channels because of which legs must never pause (asterisk#2089).
            tap.leg.relax()
        return None

    async def _by_external_media(self, tap: Tap, point: Snoop) -> None:
        snoop_id = tap.snoop_id = self._ids.new("snoop")
        media_id = tap.media_id = self._ids.new("media")
        bridge_id = tap.bridge_id = self._ids.new("mix")
        await _together(
            self._snoop_channel(snoop_id, point),
            self._media(tap, media_id),
            self._client.bridges.create(bridge_id=bridge_id, type="mixing", name=bridge_id),
        )
        await self._client.bridges.add_channel(bridge_id, snoop_id)
        await self._add(tap.leg, bridge_id, media_id)

    async def _add(self, leg: MediaLeg, bridge_id: str, media_id: str) -> None:
        try:
            await self._client.bridges.add_channel(bridge_id, media_id)
        except AriError as error:
            if error.status != CHANNEL_GONE:
                raise
            fmt = leg.wire_fmt
            why = f"Asterisk ended the media leg after its first audio, at {fmt.rate} Hz{ADVICE}"
            raise AriError(error.status, error.method, error.path, f"{why} ({error.message})") from None

    async def _snoop_channel(self, snoop_id: str, point: Snoop) -> None:
        with self._client.expect("StasisStart", snoop_id) as started:
            await self._client.channels.snoop(point.channel_id, snoop_id=snoop_id, spy=point.spy, whisper=point.whisper)
            await started.wait(OPEN_TIMEOUT_S)

    async def _media(self, tap: Tap, media_id: str) -> None:
        """Create the external media channel; wait until its audio is connected and it may be bridged."""
        leg, address = tap.leg, self._advertised()
        with self._client.expect("StasisStart", media_id) as started:
            try:
                await self._client.channels.external_media(
                    channel_id=media_id, external_host=address, format=leg.wire_fmt.asterisk_name, data=str(leg.uuid)
                )
            except AriError as error:
                if error.status == NOT_DELIVERED:
                    why = f"Asterisk cannot connect to {address}{ADVICE} ({error.message})"
                    raise AriError(error.status, error.method, error.path, why) from None
                raise
            await started.wait(OPEN_TIMEOUT_S)
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await leg.connected.wait()
        except TimeoutError:
            raise AriError(
                0,
                "POST",
                "/channels/externalMedia",
                f"Asterisk did not connect to {address}{ADVICE}",
            ) from None


async def _together(*acts: Awaitable[object]) -> None:
    """Run all to their end, then raise the first error: none is cancelled half-way (see `Taps._close`)."""
    results = await asyncio.gather(*acts, return_exceptions=True)
    try:
        for result in results:
            if isinstance(result, BaseException):
                raise result
    finally:
        del results, result  # the traceback of what it raises refers to this frame
