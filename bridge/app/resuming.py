"""Resumes calls that the previous run controlled: compares its facts with Asterisk's channels."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable

from msgspec.structs import replace

from bridge.access import Principal
from bridge.app.call_subsystem import CallSubsystem
from bridge.app.suspending import PARKED, end_holds, hand_over, unpark
from bridge.ari.client import AriClient
from bridge.ari.model import Bridge, Channel
from bridge.calls.addresses import Address
from bridge.calls.ids import OwnIds
from bridge.calls.journal import LIMIT, OF_LEGS, ON_HOLD, Fact, Journal
from bridge.calls.records import Records
from bridge.conferences.conferences import MEMBER
from bridge.control.call_control import TRANSFER
from bridge.control.legs import Leg, Legs, Partners
from bridge.control.originate import OutboundCall
from bridge.control.outbound_calls import HELD, RINGING, OriginateRequest
from bridge.control.sensitive import SensitiveMode
from bridge.control.stasis import StasisCalls
from bridge.errors import AriError, BridgeError
from bridge.flows.resuming import FLOW, PROGRAMS
from bridge.tasks import BackgroundTasks

log = logging.getLogger(__name__)


class Resuming:
    """Resumes calls, once.

    A channel that has a fact, or that asterisk-bridge originated, becomes a leg again. Each then continues what it was
    executing: a flow, ringing, a conference, hold. One that executed nothing stays connected to its partner, or is hung
    up: its flow will call again.

    Args:
        journal: the facts of the previous run.
        context: ``calling.context``.
        principal_of: returns the principal of a fact.
        extension: the extension and context to which the calls are sent instead; None: they are resumed.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        client: AriClient,
        ids: OwnIds,
        legs: Legs,
        stasis: StasisCalls,
        records: Records,
        sensitive: SensitiveMode,
        calling: CallSubsystem,
        context: str,
        principal_of: Callable[[Fact], Principal],
        extension: tuple[str, str] | None = None,
    ) -> None:
        self._journal = journal
        self._client = client
        self._ids = ids
        self._legs = legs
        self._stasis = stasis
        self._records = records
        self._sensitive = sensitive
        self._calling = calling
        self._context = context
        self._principal_of = principal_of
        self._extension = extension
        self._tasks = BackgroundTasks("resumed calls")
        self._done = not journal.kept

    async def resume(self) -> None:
        """Resume the calls that still exist, and discard the other facts.

        Raises:
            AriError: Asterisk does not respond, and nothing has been resumed.
        """
        if self._done:
            return
        channels = {channel.id: channel for channel in await self._client.channels.list()}
        bridges = await self._client.bridges.list()
        await self._calling.recordings.resume(channels)
        await unpark(self._client, self._journal.found.get(PARKED, {}), channels)
        await end_holds(self._client, self._journal.found.get(ON_HOLD, {}), channels)
        self._done = True  # what fails from here on must not be started twice
        for resume in (
            self._sensitive.resume,
            lambda: self._calling.conferences.resume([each.id for each in bridges]),
            lambda: self._calling.status_callbacks.resume(self._calling.recordings),
        ):
            try:
                resume()
            except (KeyError, TypeError) as problem:
                log.error("some calls of the previous run not resumed error=%r", problem)
        legs = self._take(channels.values(), bridges)
        # Also if the connection is lost meanwhile: nothing else would resume them.
        await asyncio.shield(self._tasks.spawn(self._take_up(legs)))

    async def _take_up(self, legs: Collection[Leg]) -> None:
        self._tasks.spawn(self._calling.recordings.settled())  # a sensitive mode may have ended meanwhile
        busy = [leg for leg in legs if any(leg.id in self._journal.found.get(kind, ()) for kind in OF_LEGS)]
        idle = [leg for leg in legs if leg not in busy]
        # First: the phone that a flow calls again is available then.
        await asyncio.gather(*(self._hang_up(leg) for leg in idle if not self._keeps(leg, legs, busy)))
        if self._extension is not None:
            await hand_over(self._legs, *self._extension)
        else:
            await asyncio.gather(*map(self._continue, legs))
        self._journal.settled()
        if legs:
            log.info("calls of the previous run resumed count=%d", len(legs))

    def _take(self, channels: Iterable[Channel], bridges: Iterable[Bridge]) -> list[Leg]:
        place = {member: bridge.id for bridge in bridges if self._ids.ours(bridge.id) for member in bridge.channels}
        legs = []
        for channel in channels:
            known = any(channel.id in self._journal.found.get(kind, ()) for kind in OF_LEGS)
            if (not known and self._ids.kind(channel.id) != "call") or channel.id.endswith(";2"):
                continue
            here = self._stasis.resume(channel)
            away = known and not here and channel.dialplan.context == self._context != ""
            if (here or away) and self._legs.get(channel.id) is None:
                legs.append(self._legs.resume(channel, place.get(channel.id), away=away))
        return legs

    async def _continue(self, leg: Leg) -> None:
        """Resume the flow, ringing, conference or hold of a call."""
        if leg.gone.is_set():
            return
        take = self._journal.take
        flow, programs, ringing = take(FLOW, leg.id), take(PROGRAMS, leg.id), take(RINGING, leg.id)
        held, member, transfer = take(HELD, leg.id), take(MEMBER, leg.id), take(TRANSFER, leg.id)
        record = self._records.get(leg.id)
        call = None
        if record is not None and record.originated:
            call = self._calling.originator.resume(leg, record.tm_create or 0.0)
        limit = take(LIMIT, leg.id)
        try:
            if limit is not None:
                self._calling.flow_manager.limits.watch(leg, limit["ends_at"])
            if transfer is not None:  # also of a call whose flow had not ended yet
                await self._continue_transfer(leg, call, transfer)
            elif flow is not None and programs is not None:
                principal = self._principal_of(flow["principal"])
                await self._calling.flow_manager.resume(leg, flow, programs, principal)
            elif ringing is not None and call is not None:
                request = self._request(ringing)
                starter, outbound = ringing["starter"], self._calling.outbound_calls
                if starter is None:
                    on_answered = outbound.holder(request)
                else:
                    on_answered = await asyncio.to_thread(self._calling.flow_manager.starter, request, starter)
                outbound.resume(call, request, on_answered)
            elif held is not None:
                self._calling.outbound_calls.hold_until(leg, held["ends_at"])
            elif member is not None:
                self._calling.bring(leg, member["conference_id"])
        except (BridgeError, ValueError, KeyError, TypeError, IndexError) as problem:
            log.error("call not resumed, hanging up channel=%s error=%r", leg.id, problem)
            await self._hang_up(leg)

    async def _continue_transfer(self, leg: Leg, call: OutboundCall | None, fact: Fact) -> None:
        """Connect both legs of a transfer; one whose other leg has ended talks with the party in its place, or ends.

        Args:
            leg: one of the two.
            call: the call that originated it; None: no record has it.
            fact: what the journal has of its transfer.
        """
        other = self._legs.get(fact["of"] if "of" in fact else fact["to"])
        if other is not None:
            if "of" in fact:
                # Without a record of its own if another channel has taken the place of the one that was originated.
                call = call or self._calling.originator.resume(leg, time.time())
                self._calling.call_control.connect_transfer(other, call)
            return
        found = (self._legs.together(leg, each) for each in self._legs.present if each is not leg)
        partners = next(filter(None, found), None)
        if partners is None:
            await self._hang_up(leg)
        else:
            self._tasks.spawn(self._until_parted(partners))

    def _request(self, fact: Fact) -> OriginateRequest:
        request = OriginateRequest(
            [Address(**fact["destination"])],
            self._principal_of(fact["principal"]),
            flow_id=fact["flow_id"],
            max_call_s=fact["max_call_s"],
        )
        return request if fact["source"] is None else replace(request, source=Address(**fact["source"]))

    def _keeps(self, leg: Leg, legs: Collection[Leg], busy: Collection[Leg]) -> bool:
        """Return whether a leg without a fact of its own is connected to another one, and not waiting alone."""
        others = [other for other in legs if other is not leg and other.bridge_id == leg.bridge_id is not None]
        if not others or leg.bridge_id is None or not leg.answered:
            return False
        if not any(other in busy for other in others):  # otherwise the flow that connected them controls them
            self._tasks.spawn(self._until_parted(Partners(leg, others[0], leg.bridge_id)))
        return True

    async def _until_parted(self, partners: Partners) -> None:
        await partners.peer_left()
        await asyncio.gather(self._hang_up(partners.leg), self._hang_up(partners.other))

    async def stop(self) -> None:
        """Stop following the partners of resumed calls."""
        await self._tasks.stop()

    async def _hang_up(self, leg: Leg) -> None:
        try:
            await leg.hang_up()
        except AriError as error:
            log.warning("hangup failed channel=%s error=%s", leg.id, error)
