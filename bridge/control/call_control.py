"""Actions on any call of the PBX: controlled ones, and ordinary ones where possible."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from bridge.access import Principal
from bridge.ari.client import AriClient
from bridge.audio import tones
from bridge.calls.addresses import Address
from bridge.calls.call_record import Direction
from bridge.calls.journal import Journal
from bridge.calls.records import Records
from bridge.calls.tracker import CallTracker
from bridge.control.legs import Leg, LegEnded, Legs
from bridge.control.originate import NotAnswered, Originator, OutboundCall
from bridge.control.playback import Player, Players
from bridge.control.recorder import Recording
from bridge.control.recording import Recordings
from bridge.errors import AriError, BridgeError
from bridge.taps.taps import Snoop
from bridge.tasks import shield_until_done

log = logging.getLogger(__name__)

RINGBACK_S = 6.0
"""One period of the ringing tone."""
_BUSY = {"busy": "busy", "noanswer": "no_answer", "failed": "congestion"}
"""ARI's hangup reason for an unanswered caller whose transfer fails."""


class NotControlled(BridgeError):
    """The call is not in the Stasis application, and the action is impossible from outside."""


TRANSFER = "transfer"
"""Facts of this kind name the leg that one is transferred ``to``, or the one ``of`` which it is the destination."""


class CallControl:
    """Actions on calls, by call or channel id.

    All raise KeyError for an unknown call, LegEnded if it has just ended, AriError if Asterisk refuses; those that
    require the Stasis application raise NotControlled.
    """

    def __init__(
        self,
        *,
        client: AriClient,
        tracker: CallTracker,
        legs: Legs,
        records: Records,
        originator: Originator,
        players: Players,
        recordings: Recordings,
        journal: Journal | None = None,
    ) -> None:
        self.before_transfer: list[Callable[[str], Awaitable[None]]] = []
        """Each is awaited with the channel's id before a transfer: to end its flow, or its route's stream."""
        self._client = client
        self._tracker = tracker
        self._legs = legs
        self._records = records
        self._originator = originator
        self._players = players
        self._recordings = recordings
        self._journal = journal or Journal()
        self._tasks: set[asyncio.Task[None]] = set()
        self._transfers: dict[Leg, asyncio.Task[None]] = {}
        """The latest transfer of each leg."""
        self._destinations: dict[Leg, OutboundCall] = {}
        """The destination of that."""
        self._releasing: set[Leg] = set()
        """Legs whose flow or stream is being ended."""
        client.on_replaced(lambda *_: self._note_transfers())

    async def hangup(self, call_id: str) -> None:
        """Hang up; return when the call has ended. A ringing call is cancelled."""
        channel_id = self._channel_of(call_id)
        leg = self._legs.get(channel_id)
        if leg is not None:
            await leg.hang_up()
            return
        self._records.ending(call_id)
        with self._client.expect("ChannelDestroyed", channel_id) as destroyed:
            await self._client.channels.hangup(channel_id)
            try:
                await destroyed.wait(5.0)
            except AriError as error:
                log.warning("no ChannelDestroyed after hangup channel=%s error=%s", channel_id, error.message)

    async def hold(self, call_id: str) -> None:
        """Put the party on hold with music."""
        await self.leg(call_id, "hold").hold()

    async def unhold(self, call_id: str) -> None:
        """Resume the party."""
        await self.leg(call_id, "unhold").unhold()

    async def mute(self, call_id: str, direction: Direction = "both") -> None:
        """Mute the audio from the party (``in``), to it (``out``), or both."""
        await self.leg(call_id, "mute").mute(direction)

    async def unmute(self, call_id: str, direction: Direction = "both") -> None:
        """Unmute the party."""
        await self.leg(call_id, "unmute").unmute(direction)

    async def silence(self, call_id: str, on: bool) -> None:
        """Start or stop sending silence to the party."""
        await self.leg(call_id, "silence").silence(on)

    async def moh(self, call_id: str, on: bool) -> None:
        """Start or stop music on hold for the party."""
        await self.leg(call_id, "moh").moh(on)

    async def send_digits(
        self, call_id: str, digits: str, *, duration_ms: int | None = None, between_ms: int | None = None
    ) -> None:
        """Send DTMF digits to the party; return when they have been played."""
        await self.leg(call_id, "dtmf").send_digits(digits, duration_ms=duration_ms, between_ms=between_ms)

    async def play(self, call_id: str, pcm: bytes, rate: int, *, direction: Direction = "out") -> None:
        """Play audio; return when it has been played.

        Args:
            call_id: the call or channel.
            pcm: s16le mono samples.
            rate: sampling rate in Hz.
            direction: who receives it: ``out`` the party, ``in`` the others, ``both`` all of them.
        """
        players = self._players_of(call_id, direction)
        try:
            plays = [asyncio.ensure_future(player.play(pcm, rate)) for player in players]
            try:
                await asyncio.gather(*plays)
            finally:
                for play in plays:
                    play.cancel()
                await asyncio.gather(*plays, return_exceptions=True)
        finally:
            await asyncio.gather(*(player.close() for player in players))

    async def transfer(self, call_id: str, destination: Address, *, token: str = "") -> str:
        """Transfer a call: dial another destination, and connect it with the call when it answers.

        The call's flow, or the stream of its route, ends, and it leaves its current peer: that of an earlier transfer,
        the other side of a ``connect``, a conference. The call ends when either side hangs up, or if the destination
        does not answer. A destination that does not even ring, such as a phone that is not registered, leaves the call
        unchanged.

        Args:
            call_id: the call or channel.
            destination: where to transfer it.
            token: id of the token of the request, for ``calling.max_calls_per_minute_per_token``.

        Returns:
            The id of the originated call.

        Raises:
            ValueError: the destination cannot be dialed. The call is unchanged.
            Overloaded: as `Originator.originate`. The call is unchanged.
        """
        leg = self.leg(call_id, "transfer")
        outbound = await self.dial_for(leg, destination, token=token)
        if outbound.leg.ended.is_set():
            log.info("transfer failed, the call is unchanged channel=%s call=%s", leg.id, outbound.id)
            return outbound.id
        self._note_transfer(leg, outbound)  # before the end of the flow: a crash must find one of the two
        try:
            await self.release(leg)
        except BaseException:
            self._journal.drop(TRANSFER, leg.id)
            self._journal.drop(TRANSFER, outbound.leg.id)
            self._note_transfers()
            await outbound.cancel()
            raise
        self.connect_transfer(leg, outbound)
        return outbound.id

    async def dial_for(self, leg: Leg, destination: Address, *, token: str = "") -> OutboundCall:
        """Dial a destination on behalf of a call, whose caller ID it shows; the call itself is unchanged.

        Args:
            leg: the call.
            destination: where to call.
            token: id of the token of the request.

        Returns:
            The ringing call, or one that has ended because the destination does not even ring.

        Raises:
            NotControlled: the call has not been answered.
            ValueError: the destination cannot be dialed.
            Overloaded: as `Originator.originate`.
        """
        record = self._records.get(leg.id)
        if record is not None and record.originated and not leg.answered:
            raise NotControlled("transfer is impossible now: the call has not been answered")
        return await self._originator.originate(
            destination, source=record.source if record is not None else None, originator=leg.id, token=token
        )

    async def release(self, leg: Leg) -> None:
        """End a call's flow, or the stream of its route, to let another action take over the call immediately.

        Raises:
            NotControlled: another action is about to take over the call.
        """
        if leg in self._releasing:
            raise NotControlled("another request is just changing what the call does. Try again later")
        self._releasing.add(leg)
        try:
            for end in self.before_transfer:
                await end(leg.id)
        finally:
            self._releasing.discard(leg)

    async def redirect(self, call_id: str, begin: Callable[[Leg], object]) -> None:
        """End the flow of a call, or the stream of its route, and begin another.

        Args:
            call_id: the call or channel.
            begin: called with the leg, which is in the Stasis application.

        Raises:
            KeyError: unknown call.
            NotControlled: asterisk-bridge does not control the call; it is not answered, or is being transferred.
        """
        leg = self.leg(call_id, "redirect")
        record = self._records.get(leg.id)
        if record is not None and record.originated and not leg.answered:
            raise NotControlled("redirect is impossible now: the call has not been answered")
        if leg in self._transfers:
            raise NotControlled("redirect is impossible: the call is being transferred")
        await self.release(leg)
        if leg.gone.is_set():
            raise LegEnded("the call ended")
        begin(leg)

    def connect_transfer(self, leg: Leg, outbound: OutboundCall) -> None:
        """Connect a leg with the destination of its transfer when that answers; both end with either.

        Args:
            leg: the transferred call.
            outbound: the call to the destination; after a restart the two may be connected already.
        """
        before = self._transfers.get(leg)
        task = asyncio.create_task(self._transfer(leg, outbound, before), name=f"transfer of {leg.id}")
        self._transfers[leg], self._destinations[leg] = task, outbound
        self._tasks.add(task)
        task.add_done_callback(lambda _: self._transferred(leg, outbound, task))
        self._note_transfers()

    async def recording_start(
        self,
        call_id: str,
        *,
        principal: Principal,
        direction: Direction = "both",
        format: str = "wav",
        max_silence_s: int = 0,
        max_duration_s: int = 0,
        terminate_on: str = "",
        beep: bool = False,
    ) -> Recording:
        """Record the audio of a party; return when recording has begun. Args are those of `Recordings.start`.

        Raises:
            ValueError: unknown format.
        """
        return await self._recordings.start(
            self._channel_of(call_id),
            principal=principal,
            direction=direction,
            format=format,
            max_silence_s=max_silence_s,
            max_duration_s=max_duration_s,
            terminate_on=terminate_on,
            beep=beep,
        )

    async def recording_stop(self, call_id: str) -> Recording:
        """End the call's latest recording; return when its file is complete. Raise KeyError if none runs."""
        channel_id = self._channel_of(call_id)
        for recording in reversed(self._recordings.list()):
            if recording.status == "recording" and recording.channel_id == channel_id:
                return await self._recordings.stop(recording.id)
        raise KeyError(call_id)

    async def stop(self) -> None:
        """Cancel running transfers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _channel_of(self, call_id: str) -> str:
        """Return the channel of a call's id: that of an originated call, else its first party's."""
        if self._legs.get(call_id) is not None:
            return call_id
        found = self._tracker.find(call_id)
        if found is None:
            raise KeyError(call_id)
        return found[1].id

    def leg(self, call_id: str, what: str) -> Leg:
        """Take control of a call.

        Args:
            call_id: the call or channel.
            what: the intended action, for the error.

        Raises:
            NotControlled: it is not in the Stasis application, or in the dialplan at present.
        """
        channel_id = self._channel_of(call_id)
        leg = self._legs.take(channel_id)
        if leg is None:
            raise NotControlled(
                f"{what} requires a call that asterisk-bridge controls. Hand this one over with Stasis() in the "
                "dialplan, or create the call over HTTP"
            )
        if leg.away is not None:
            raise NotControlled(
                f"{what} is impossible now: the call is in the dialplan, in a queue or a room. Try again later"
            )
        return leg

    def _players_of(self, call_id: str, direction: Direction) -> list[Player]:
        channel_id = self._channel_of(call_id)
        leg = self._legs.take(channel_id)
        if (
            leg is not None
            and leg.away is None
            and (direction == "both" or (direction == "out" and self._legs.is_alone(leg)))
        ):
            # Without other audio to the party, Asterisk has nothing to mix a whisper into.
            return [self._players.of(leg)]
        # A snoop that whispers in both directions discards audio when one direction is quiet (docs/decisions/taps.md).
        ways = ("out", "in") if direction == "both" else (direction,)
        return [self._players.at(Snoop(channel_id, spy="none", whisper=way)) for way in ways]

    def _note_transfers(self) -> None:
        """Write both sides of each transfer, which name each other by their present channels."""
        for leg, outbound in self._destinations.items():
            self._note_transfer(leg, outbound)

    def _note_transfer(self, leg: Leg, outbound: OutboundCall) -> None:
        self._journal.put(TRANSFER, leg.id, {"to": outbound.leg.id})
        self._journal.put(TRANSFER, outbound.leg.id, {"of": leg.id})

    def _transferred(self, leg: Leg, outbound: OutboundCall, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._journal.drop(TRANSFER, outbound.leg.id)
        if self._transfers.get(leg) is task:
            del self._transfers[leg], self._destinations[leg]
            self._journal.drop(TRANSFER, leg.id)

    async def _transfer(self, leg: Leg, outbound: OutboundCall, before: asyncio.Task[None] | None) -> None:
        ending = [leg]
        try:
            if before is not None:
                before.cancel()
                await asyncio.gather(before, return_exceptions=True)
            partners = self._legs.together(leg, outbound.leg)
            if partners is None:
                if not self._legs.is_alone(leg):
                    await leg.leave_bridge()
                other = await self._ring_through(leg, outbound)
                partners = await self._legs.bridge_together(leg, other)
            try:
                await partners.peer_left()
            finally:
                ending += [partners.leg, partners.other]
        except LegEnded:
            pass  # the call hung up meanwhile
        except NotAnswered as problem:
            log.info("transfer failed channel=%s error=%s", leg.id, problem)
            if not leg.answered:
                await _hang_up(leg, _BUSY.get(problem.reason, "normal"))
        except AriError as error:
            log.warning("transfer failed channel=%s error=%s", leg.id, error)
        finally:
            ours = self._transfers.get(leg) is asyncio.current_task()  # otherwise a later transfer owns the leg
            await shield_until_done(
                asyncio.gather(
                    *(_hang_up(each, "normal") for each in {*ending, outbound.leg} if ours or each is not leg)
                )
            )

    async def _ring_through(self, leg: Leg, outbound: OutboundCall) -> Leg:
        """Wait for the answer, while the waiting party gets a ringing tone."""
        if outbound.leg.answered:
            return await outbound.answered()
        answer = asyncio.ensure_future(outbound.answered())
        sound = asyncio.ensure_future(self._sound_ringing(leg))
        try:
            return await leg.unless_gone(answer)
        finally:
            sound.cancel()
            await asyncio.gather(sound, return_exceptions=True)

    async def _sound_ringing(self, leg: Leg) -> None:
        if not leg.answered:
            await leg.ring()
            return
        player = self._players.of(leg)
        ringback = tones.ringback(RINGBACK_S)
        try:
            while True:
                await player.play(ringback.pcm, ringback.rate)
        finally:
            await player.close()


async def _hang_up(leg: Leg, reason: str) -> None:
    try:
        await leg.hang_up(reason)
    except BridgeError as error:
        log.warning("hangup failed channel=%s error=%s", leg.id, error)
