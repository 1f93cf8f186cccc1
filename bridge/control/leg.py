"""One leg: a channel in the Stasis application that asterisk-bridge controls."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from msgspec import Struct

from bridge.ari.client import AriClient
from bridge.ari.dispatch import call_safely
from bridge.ari.model import Channel, Dialplan
from bridge.calls.call_record import Direction, HangupReason, MuteDirection
from bridge.calls.records import Records
from bridge.control.bridges import MixingBridges
from bridge.control.dtmf import DigitQueue
from bridge.errors import AriError, BridgeError
from bridge.tasks import Changed

log = logging.getLogger(__name__)

T = TypeVar("T")


PARKED = "the call was parked"
HANGUP_TIMEOUT_S = 5.0
REPORT_S = 1.0
"""How much earlier a request may show that a channel is gone than the event that reports why."""
NO_VARIABLE = "Provided variable was not found"
"""Asterisk's message for a variable that is not set; its status 404 is that of a missing channel."""
DIGIT_MS, BETWEEN_MS = 100, 100
"""Asterisk's defaults in milliseconds."""


class LegEnded(BridgeError):
    """The channel has ended, or has left the Stasis application: no further action is possible."""


class LegServices(Struct, frozen=True):
    """The common dependencies of legs.

    Args:
        client: ARI.
        bridges: the mixing bridges of legs.
        records: updated with the state of calls.
        context: ``calling.context``.
        on_moved: called with the id of a leg that has moved to another bridge, or to none.
        on_lost: called with a leg that was hung up, but whose end Asterisk did not report.
    """

    client: AriClient
    bridges: MixingBridges
    records: Records
    context: str
    on_moved: Callable[[str], object]
    on_lost: Callable[[Leg], object]


class Leg:
    """A controlled channel. Awaiting methods raise `LegEnded` when it ends, AriError if Asterisk fails.

    A channel that replaces its channel (a transfer, a pickup) is its channel from then on: ``id`` and ``name`` change.
    Created by `Legs`.
    """

    def __init__(self, channel_id: str, name: str, services: LegServices, *, answered: bool) -> None:
        self.id = channel_id
        self.name = name
        """Its channel's name: ``PJSIP/1001-0000002a``; empty until known."""
        self.gone = asyncio.Event()
        """Set when the leg has left the Stasis application, or has ended."""
        self.ended = asyncio.Event()
        """Set when the channel has ended: just after ``gone``, or much later if the leg continued in the dialplan."""
        self.cause = 0
        """Q.850 cause of the channel's end; 0 before, and if the leg continued in the dialplan."""
        self.bridge_id: str | None = None
        """The current bridge: the leg's own, another leg's, or a conference's."""
        self.digits = DigitQueue()
        """DTMF digits that are not consumed yet."""
        self.entered = asyncio.Event()
        """Set when the channel's StasisStart has arrived."""
        self.given_up = False
        """Whether hanging up has begun, perhaps before the channel exists."""
        self.moving = False
        self.parked = False
        """Whether the leg was parked, or has parked the external media that was alone with it in a bridge."""
        self.redials = False
        """Whether the phone has forwarded the call: when this channel has ended, another destination is dialed."""
        self.redialed: Leg | None = None
        """The leg of that other channel, which has the same id."""
        self.away: asyncio.Future[None] | None = None
        """Set while the leg is in the dialplan and will return."""
        self.answered_at = 0.0
        """When the leg was answered, on the event loop's clock; 0: before this run."""
        self.left_at: Dialplan | None = None
        """Where the first channel left the dialplan; None while the leg still has that channel."""
        self._answered = asyncio.Event()
        if answered:
            self._answered.set()
        self._services = services
        self._client = services.client
        self._bridging = asyncio.Lock()
        self._changed = Changed()

    def __repr__(self) -> str:
        return f"<Leg {self.id}>"

    @property
    def answered(self) -> bool:
        """Whether the channel is answered, by its party or by asterisk-bridge."""
        return self._answered.is_set()

    @property
    def whereabouts(self) -> tuple[str, bool, bool, bool]:
        """Id of the channel, and whether it has entered the Stasis application, is in the dialplan, has ended."""
        return self.id, self.entered.is_set(), self.away is not None, self.gone.is_set()

    @property
    def departure(self) -> str:
        """Why the channel is gone, for streams and flows that end because of that."""
        return PARKED if self.parked else "the call ended"

    async def answer(self) -> None:
        """Answer the channel if it is not answered yet."""
        if not self.answered:
            await self._do(lambda: self._client.channels.answer(self.id))
            self.was_answered()

    async def until_answered(self) -> None:
        """Wait until the leg is answered; raise LegEnded if it ends before."""
        await self.unless_gone(self._answered.wait())

    async def hold_in_bridge(self) -> str:
        """Answer the channel, and add it to a new mixing bridge if it is in none; return the bridge's id."""
        async with self._bridging:
            if self.bridge_id is None:
                await self.answer()
                bridge_id = await self._services.bridges.create(self.id)
                await self._join(bridge_id)
            return self.bridge_id or self._raise()

    async def move_to(self, bridge_id: str) -> None:
        """Leave the current bridge and join another: a conference's, or that of another leg."""
        async with self._bridging:
            if self.bridge_id != bridge_id:
                await self._join(bridge_id)

    async def rejoin(self) -> None:
        """Leave the current bridge and join it again; Asterisk then starts to decode the leg's audio from scratch."""
        async with self._bridging:
            bridge_id = self.bridge_id
            if bridge_id is None:
                return
            self.moving = True
            try:
                with self._client.expect("ChannelLeftBridge", self.id) as left:
                    await self._do(lambda: self._client.bridges.remove_channel(bridge_id, self.id))
                    with contextlib.suppress(AriError):
                        await left.wait(REPORT_S)  # seen later, it would count as having left for good
                try:
                    await self._join(bridge_id)
                except BridgeError:
                    self.in_bridge(None)
                    raise
            finally:
                self.moving = False

    async def leave_bridge(self) -> None:
        """Leave the current bridge."""
        async with self._bridging:
            if self.bridge_id is not None:
                left = self.bridge_id
                await self._do(lambda: self._client.bridges.remove_channel(left, self.id))
                self.in_bridge(None)

    async def left(self, bridge_id: str) -> None:
        """Wait until the leg has ended or has left that bridge."""
        while not self.gone.is_set() and self.bridge_id == bridge_id:
            await self._changed.wait()

    async def hang_up(self, reason: str = "normal", *, recorded: HangupReason = "") -> None:
        """Hang up; return when the leg has ended. Ignore a leg that has ended.

        Args:
            reason: ARI's: ``normal``, ``busy``, ``congestion``, ``no_answer``, ``answered_elsewhere``...
            recorded: reason for its call's record instead of the one derived from its course: ``amd``, ``timeout``.
        """
        if self.ended.is_set():
            return
        self.given_up = True
        self._services.records.ending(self.id, recorded, "answered elsewhere" if reason == "answered_elsewhere" else "")
        while not self.ended.is_set():
            channel_id = self.id
            await self._client.channels.hangup(channel_id, reason)
            try:
                async with asyncio.timeout(HANGUP_TIMEOUT_S):
                    while not self.ended.is_set() and self.id == channel_id:
                        await self._changed.wait()
            except TimeoutError:
                log.warning("no ChannelDestroyed after hangup channel=%s", self.id)
                self._services.on_lost(self)
                return

    async def ring(self) -> None:
        """Indicate ringing to an unanswered caller."""
        await self._do(lambda: self._client.channels.ring(self.id))

    async def ring_stop(self) -> None:
        """Stop indicating ringing."""
        await self._do(lambda: self._client.channels.ring_stop(self.id))

    async def send_digits(self, digits: str, *, duration_ms: int | None = None, between_ms: int | None = None) -> None:
        """Send DTMF digits to the party; return when they have been played."""
        await self._do(lambda: self._client.channels.send_dtmf(self.id, digits, between_ms, duration_ms))
        one_ms = (duration_ms or DIGIT_MS) + (BETWEEN_MS if between_ms is None else between_ms)
        await self.unless_gone(asyncio.sleep(len(digits) * one_ms / 1000))

    async def mute(self, direction: Direction = "in") -> None:
        """Mute the audio from the party (``in``), to it (``out``), or both."""
        await self._do(lambda: self._client.channels.mute(self.id, direction))
        now = self._muted() | _parts(direction)
        self._services.records.update(self.id, mute_direction=_direction(now))

    async def unmute(self, direction: Direction = "both") -> None:
        """Unmute the party."""
        muted = self._muted()
        for part in muted & _parts(direction):
            await self._do(lambda part=part: self._client.channels.unmute(self.id, part))  # type: ignore[misc]
        self._services.records.update(self.id, mute_direction=_direction(muted - _parts(direction)))

    async def hold(self) -> None:
        """Play music on hold to the party. The party's own audio still reaches the others, unless `mute` stops it."""
        await self._do(lambda: self._client.channels.hold(self.id))
        self._services.records.update(self.id, on_hold=True)

    async def unhold(self) -> None:
        """Resume the party."""
        await self._do(lambda: self._client.channels.unhold(self.id))
        self._services.records.update(self.id, on_hold=False)

    async def silence(self, on: bool) -> None:
        """Start or stop sending silence to the party, instead of any other audio."""
        channels = self._client.channels
        await self._do(lambda: channels.silence(self.id) if on else channels.silence_stop(self.id))

    async def moh(self, on: bool, music_class: str = "") -> None:
        """Start or stop music for the party, instead of any other audio."""
        channels = self._client.channels
        await self._do(lambda: channels.moh(self.id, music_class or None) if on else channels.moh_stop(self.id))

    async def continue_in_dialplan(
        self, context: str | None = None, extension: str | None = None, priority: int | None = None
    ) -> None:
        """Continue in the dialplan, by default after Stasis(); return when the leg has left the Stasis application."""
        if context is None and extension is None and priority is None and self.left_at is not None:
            context, extension, priority = self.left_at.behind
        await self._do(lambda: self._client.channels.continue_in_dialplan(self.id, context, extension, priority))
        try:
            async with asyncio.timeout(HANGUP_TIMEOUT_S):
                await self.gone.wait()
        except TimeoutError:
            log.warning("no StasisEnd after continue channel=%s", self.id)

    async def visit_dialplan(self, extension: str) -> None:
        """Send the channel to an extension of ``calling.context``; return when ``Stasis(app,resume)`` returns it.

        The channel is not in a mixing bridge during the visit and after it.

        Raises:
            LegEnded: the channel ended in the dialplan.
            ValueError: ``calling.context`` is not configured.
        """
        if self.away is not None:  # sent there by a previous run
            await asyncio.shield(self.away)
            return
        if not self._services.context:
            raise ValueError("calling.context is not configured")
        async with self._bridging:
            away = self.away = asyncio.get_running_loop().create_future()
            self.entered.clear()
            try:
                await self._do(
                    lambda: self._client.channels.continue_in_dialplan(self.id, self._services.context, extension, 1)
                )
            except BaseException:
                self.away = None
                raise
            self.in_bridge(None)
        await asyncio.shield(away)

    async def get_variable(self, name: str) -> str:
        """Return a channel variable or function; empty if it is not set."""
        try:
            return await self._do(lambda: self._client.channels.get_variable(self.id, name))
        except AriError as error:
            if error.message == NO_VARIABLE:
                return ""
            raise

    async def set_variable(self, name: str, value: str) -> None:
        """Set a channel variable or function."""
        await self._do(lambda: self._client.channels.set_variable(self.id, name, value))

    async def unless_gone(self, act: Awaitable[T]) -> T:
        """Await something; raise LegEnded if the leg ends before."""
        task, gone = asyncio.ensure_future(act), asyncio.ensure_future(self.gone.wait())
        try:
            await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise LegEnded(f"{self.name or self.id} has ended")
        finally:
            gone.cancel()
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _join(self, bridge_id: str) -> None:
        self.moving = True
        self._services.bridges.add(bridge_id, self.id)
        added = ""
        try:
            while added != self.id:  # its channel may be replaced meanwhile
                added = await self._do(lambda: self._add_to(bridge_id))
        except BaseException:
            if self.bridge_id != bridge_id:
                self._services.bridges.remove(bridge_id, self.id)
            raise
        else:
            self.in_bridge(bridge_id)
        finally:
            self.moving = False

    async def _add_to(self, bridge_id: str) -> str:
        channel_id = self.id
        await self._client.bridges.add_channel(bridge_id, channel_id)
        return channel_id

    async def _do(self, act: Callable[[], Awaitable[T]]) -> T:
        while True:
            if self.gone.is_set():
                self._raise()
            channel_id = self.id
            try:
                return await act()
            except AriError as error:
                missing = self._is_missing(error)
                if missing and self.id == channel_id:
                    await self._report(channel_id)
                if self.id != channel_id:
                    continue  # its channel was replaced: repeat with the new one
                if missing or self.gone.is_set():
                    raise LegEnded(f"{self.name or self.id} has ended") from error
                raise

    def _is_missing(self, error: AriError) -> bool:
        """Return whether a request failed because the channel does not exist or is not in the Stasis application."""
        if error.status in (409, 422):
            return "Stasis" in error.message and self.away is None
        unknown = error.status == 400 and error.message == "Channel not found"  # from a bridge that it should join
        return unknown or (error.status == 404 and error.message != NO_VARIABLE)

    async def _report(self, channel_id: str) -> None:
        """Wait for the event that reports the end or the replacement of the channel."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REPORT_S):
                while self.id == channel_id and not self.gone.is_set():
                    await self._changed.wait()

    def _raise(self) -> str:
        raise LegEnded(f"{self.name or self.id} has ended")

    def _muted(self) -> set[str]:
        record = self._services.records.get(self.id)
        return _parts(record.mute_direction) if record is not None else set()

    # Methods for `Legs`

    def was_answered(self) -> None:
        """Store that the channel is answered."""
        if not self.answered:
            self.answered_at = asyncio.get_running_loop().time()
        self._answered.set()

    def replaced(self, old: Channel, new: Channel) -> None:
        """Adopt the channel that has replaced the leg's channel."""
        self.id, self.name = new.id, new.name
        self.left_at = self.left_at or old.dialplan
        if new.state == "Up":
            self.was_answered()
        self._changed.notify()
        call_safely(self._services.on_moved, self.id)

    async def restore(self) -> None:
        """Apply mute and hold to the channel that has replaced the leg's channel."""
        record = self._services.records.get(self.id)
        if record is not None and record.mute_direction:
            await self._do(lambda: self._client.channels.mute(self.id, record.mute_direction))
        if record is not None and record.on_hold:
            await self._do(lambda: self._client.channels.hold(self.id))

    def reattach(self) -> None:
        """Resume control after the dialplan has returned the channel."""
        away, self.away = self.away, None
        if away is not None and not away.done():
            away.set_result(None)

    def in_bridge(self, bridge_id: str | None) -> None:
        """Store the current bridge."""
        bridges = self._services.bridges
        if bridge_id is not None and self.gone.is_set():
            bridges.remove(bridge_id, self.id)  # it ended while joining
            return
        before, self.bridge_id = self.bridge_id, bridge_id
        if bridge_id is not None:
            bridges.add(bridge_id, self.id)
        if before == bridge_id:
            return
        if before is not None:
            bridges.remove(before, self.id)
        self._changed.notify()
        call_safely(self._services.on_moved, self.id)

    def channel_gone(self, cause: int, *, ended: bool) -> None:
        """Handle the end of the channel, or its departure from the Stasis application."""
        self.cause = cause or self.cause
        self.gone.set()
        if ended:
            self.ended.set()
        away, self.away = self.away, None
        if away is not None and not away.done():
            away.set_exception(LegEnded(f"{self.name or self.id} has ended"))
            away.exception()  # retrieved, as waiting tasks may have been cancelled
        self._changed.notify()


def _parts(direction: str) -> set[str]:
    return {"in", "out"} if direction == "both" else {direction} - {""}


def _direction(parts: set[str]) -> MuteDirection:
    if len(parts) == 2:
        return "both"
    return "in" if "in" in parts else "out" if parts else ""
