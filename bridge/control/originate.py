"""Originates calls: dials a destination, and returns its leg when it is answered.

By ARI's ``create`` and ``dial`` instead of ``originate``: the channel is in the Stasis application from the start, so
it can be in a bridge while it rings (early media), and its end has a cause even where originate reports none (seen on
22.10: a phone that hangs up after it answered, 16 against 0). Asterisk's events for such a channel, tried with real
phones:

    rings, then answered         Dial "", RINGING, ANSWER; state Up (no second StasisStart)
    486 Busy here                ChannelHangupRequest and ChannelDestroyed with cause 17, no Dial event
    603, 480                     the same with 21, 19; ChannelDestroyed has the SIP response as its tech_cause
    302 Moved Temporarily        Dial CANCEL with ``forward`` (three times), then as above with 23
    not answered in time         ChannelHangupRequest (soft, 32), ChannelDestroyed 19
    no response from the peer    the same, and no RINGING before it
    hung up by asterisk-bridge   ChannelHangupRequest (soft, 32), ChannelDestroyed 16
    not registered, no endpoint  ``create`` returns 500 "Allocation failed"; no event at all
    Local, no such extension     ChannelDestroyed 16 immediately, no RINGING
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from collections.abc import Mapping, Sequence

from msgspec import Struct

from bridge.ari.client import AriClient
from bridge.ari.model import Channel, Dial, Event
from bridge.calls.addresses import NOBODY, Address
from bridge.calls.call_record import HangupReason
from bridge.calls.ids import OwnIds
from bridge.calls.records import Records
from bridge.config.calling import CallingConfig
from bridge.control.dial_policy import DialPolicy
from bridge.control.forwarding import MAX_FORWARDS, destinations_of, exists, explain
from bridge.control.legs import Leg, LegEnded, Legs
from bridge.errors import AriError, BridgeError, Overloaded
from bridge.media.call_admission import CallAdmission
from bridge.tasks import BackgroundTasks

log = logging.getLogger(__name__)

START_TIMEOUT_S = 5.0
RETRY_S = 5.0
"""Interval of attempts to hang up a call that has lasted too long, in seconds."""


class NotAnswered(BridgeError):
    """An outbound call was not answered.

    Args:
        reason: as in the call's record.
        cause: Q.850; 0 if unknown.
        detail: as in the call's record.
    """

    def __init__(self, reason: HangupReason, cause: int = 0, detail: str = "") -> None:
        super().__init__(f"not answered: {reason}" + (f" ({detail})" if detail else ""))
        self.reason = reason
        self.cause = cause


class OutboundCall:
    """A ringing call. Created by `Originator`."""

    def __init__(self, leg: Leg, records: Records) -> None:
        self.id = leg.id
        """The id of its channel, and of the call."""
        self._leg = leg
        self._records = records

    @property
    def leg(self) -> Leg:
        """The leg of the call; a different one after its phone has forwarded it."""
        while self._leg.redialed is not None:
            self._leg = self._leg.redialed
        return self._leg

    async def answered(self) -> Leg:
        """Wait for the answer. Cancelling this does not cancel the call.

        Raises:
            NotAnswered: the call has ended.
        """
        while True:
            leg = self.leg
            try:
                await leg.until_answered()
            except LegEnded:
                await leg.ended.wait()  # completes the record
            if not leg.ended.is_set():
                return leg
            if leg.redialed is None:
                break
        record = self._records.get(self.id)
        if record is None:
            raise NotAnswered("failed", leg.cause)
        raise NotAnswered(record.hangup_reason or "failed", leg.cause, record.hangup_detail)

    async def cancel(self, *, answered_elsewhere: bool = False) -> None:
        """Hang up, also an answered call; return when its channel has ended. Ignore a call that has ended.

        Args:
            answered_elsewhere: another phone has answered: this one shows no missed call.
        """
        await self.leg.hang_up("answered_elsewhere" if answered_elsewhere else "normal")


class _Dialing(Struct):
    """Parameters of a call's dialing, also after its phone forwards it."""

    destination: Address
    source: Address
    anonymous: bool
    rings_until: float
    """On the event loop's clock."""
    originator: str | None
    early_media_bridge: str | None
    variables: Mapping[str, str]
    token: str
    reached: Address
    """The currently dialed address: the destination, or where it was forwarded to."""
    forwards: Sequence[Address] = ()
    """Possible destinations of the latest forward."""
    seen: list[str] = []
    """Numbers that the call was forwarded to."""


class Originator:
    """Originates calls.

    Args:
        client: ARI.
        ids: generates the calls' ids.
        legs: gets the legs.
        records: gets the records.
        config: limits of a call.
        policy: which calls are allowed.
        admission: whether another call may start.
    """

    def __init__(
        self,
        client: AriClient,
        ids: OwnIds,
        legs: Legs,
        records: Records,
        config: CallingConfig,
        policy: DialPolicy,
        *,
        admission: CallAdmission,
    ) -> None:
        self._client = client
        self._ids = ids
        self._legs = legs
        self._records = records
        self._config = config
        self._policy = policy
        self._admission = admission
        self._tasks = BackgroundTasks("originated calls")
        self._dialing: dict[str, _Dialing] = {}
        self._stopping = False
        client.on_channel_event("Dial", self._on_dial)

    def check(self, destination: Address, source: Address | None = None) -> None:
        """Check whether a destination can be dialed, and whether ``source`` may be its caller ID.

        Raises:
            ValueError: as `DialPolicy.endpoint_of` and `DialPolicy.check_source`.
        """
        self._policy.endpoint_of(destination)
        self._policy.check_source(source)

    async def originate(
        self,
        destination: Address,
        *,
        source: Address | None = None,
        anonymous: bool = False,
        timeout_s: float | None = None,
        originator: str | None = None,
        early_media_bridge: str | None = None,
        groupcall_id: str = "",
        flow_id: str = "",
        variables: Mapping[str, str] | None = None,
        token: str = "",
    ) -> OutboundCall:
        """Dial; return when Asterisk has begun to, or has refused (which `OutboundCall.answered` raises).

        Args:
            destination: where to call.
            source: caller ID for the called phone; by default ``calling.caller_id``. Call `check` first for a
                request's.
            anonymous: withhold the caller ID.
            timeout_s: ringing time in seconds; by default ``calling.ring_timeout_s``.
            originator: id of a channel whose call the new one joins.
            early_media_bridge: a bridge that receives early media.
            groupcall_id: id of its group, for the record.
            flow_id: id of its flow, for the record.
            variables: channel variables.
            token: id of the token of the request.

        Returns:
            The ringing call.

        Raises:
            ValueError: as `check`.
            Overloaded: ``calling.max_calls`` or a limit of calls within a minute is reached, or asterisk-bridge is
                stopping.
        """
        endpoint = self._policy.endpoint_of(destination)
        if self._stopping:
            raise Overloaded("asterisk-bridge is shutting down")
        # A call on behalf of an existing one is part of that call.
        self._admission.check(streams=0, admitted=originator is not None)
        if self._legs.originated >= self._config.max_calls:
            raise Overloaded(f"{self._legs.originated} originated calls exist, the limit calling.max_calls")
        self._policy.count(token)
        caller = source if source is not None and source.target else Address(target=self._config.caller_id)
        call_id = self._ids.new("call")
        self._records.originated(
            call_id,
            source=source or (caller if caller.target else NOBODY),
            destination=destination,
            groupcall_id=groupcall_id,
            flow_id=flow_id,
            master_call_id=originator or "",
        )
        leg = self._legs.expect(call_id)
        call = OutboundCall(leg, self._records)
        ring_s = self._config.ring_timeout_s if timeout_s is None else timeout_s
        rings_until = asyncio.get_running_loop().time() + ring_s
        dialing = self._dialing[call_id] = _Dialing(
            destination,
            caller,
            anonymous,
            rings_until,
            originator,
            early_media_bridge,
            variables or {},
            token,
            destination,
        )
        try:
            await self._dial(leg, dialing, destination, endpoint)
        except BaseException:
            del self._dialing[call_id]
            raise
        self._tasks.spawn(self._see_through(leg, dialing))
        return call

    def resume(self, leg: Leg, tm_create: float) -> OutboundCall:
        """Resume a call of a previous run; forwards of a ringing one are not followed.

        Args:
            leg: its leg.
            tm_create: when it was originated, in seconds since 1970.
        """
        self._tasks.spawn(self._see_resumed_through(leg, max(time.time() - tm_create, 0.0)))
        return OutboundCall(leg, self._records)

    async def _see_resumed_through(self, leg: Leg, lasted_s: float) -> None:
        try:
            async with asyncio.timeout(max(self._config.max_call_s - lasted_s, 0.0)):
                await leg.ended.wait()
        except TimeoutError:
            await self._hang_up_too_long(leg)

    async def stop(self) -> None:
        """Stop originating calls; `Legs.stop` hangs up existing ones."""
        self._stopping = True
        await self._tasks.stop()

    async def _dial(self, leg: Leg, dialing: _Dialing, to: Address, endpoint: str) -> None:
        """Create a leg's channel and dial it; end the call if that is impossible."""
        variables = {**_caller_id(dialing.source, to, anonymous=dialing.anonymous), **dialing.variables}
        if to is not dialing.destination:
            variables["REDIRECTING(from-num,i)"] = _clean(dialing.destination.target)
            variables["REDIRECTING(reason,i)"] = "cfu"
            variables["REDIRECTING(count,i)"] = "1"  # required for a Diversion header
        try:
            with self._client.expect("StasisStart", leg.id) as started:
                await self._client.channels.create(
                    endpoint=endpoint, channel_id=leg.id, originator=dialing.originator, variables=variables
                )
                await started.wait(START_TIMEOUT_S)
            if leg.given_up:  # before its channel existed
                raise LegEnded(f"dialing {leg.id} was canceled")
            if dialing.early_media_bridge is not None:
                await leg.move_to(dialing.early_media_bridge)
            ring_s = dialing.rings_until - asyncio.get_running_loop().time()
            await self._client.channels.dial(leg.id, timeout=max(1, math.ceil(ring_s)))
        except (AriError, LegEnded) as error:
            why = "" if isinstance(error, LegEnded) else await explain(self._client, to, endpoint, error)
            log.info("call not originated call=%s to=%s error=%s", leg.id, endpoint, why or error)
            await self._give_up(leg, why)
        except BaseException:
            await self._give_up(leg)
            raise

    def _on_dial(self, channel: Channel, event: Event) -> None:
        """Decide about a call that its phone forwards; Asterisk ends its channel after this event."""
        leg, dialing = self._legs.get(channel.id), self._dialing.get(channel.id)
        if not isinstance(event, Dial) or not event.forward or leg is None or dialing is None:
            return
        if leg.redials or leg.answered or leg.given_up:
            return
        forwards = destinations_of(event.forward, dialing.reached, self._policy)
        to = forwards[0].target if forwards else event.forward[:80]
        leg.redials = self._may_redial(dialing, forwards)
        log.info("phone forwards call=%s to=%s followed=%s", leg.id, to, leg.redials)
        self._records.forwarded(leg.id, to, redialed=leg.redials)
        if leg.redials:
            dialing.forwards = forwards
            dialing.seen += [each.target for each in forwards]

    def _may_redial(self, dialing: _Dialing, forwards: Sequence[Address]) -> bool:
        before = {dialing.destination.target, *dialing.seen}
        if not self._config.follow_forwards or self._stopping or not forwards:
            return False
        if before & {each.target for each in forwards} or len(before) > MAX_FORWARDS:
            return False
        try:
            self._policy.count(dialing.token)
        except Overloaded:
            return False
        return True

    async def _redial(self, leg: Leg, dialing: _Dialing) -> None:
        """Dial the first existing destination of a forward."""
        to = dialing.forwards[0]
        for each in dialing.forwards:
            if await exists(self._client, self._policy.endpoint_of(each)):
                to = each
                break
        dialing.reached = to
        await self._dial(leg, dialing, to, self._policy.endpoint_of(to))

    async def _see_through(self, leg: Leg, dialing: _Dialing) -> None:
        """Dial a call again wherever its phones forward it to, and hang it up when it has lasted too long.

        Args:
            leg: the first one; its phone may have forwarded it already.
            dialing: how it is dialed.
        """
        call_id = leg.id
        try:
            async with asyncio.timeout(self._config.max_call_s):
                while True:
                    await leg.ended.wait()
                    if leg.redialed is None:
                        return
                    leg = leg.redialed
                    await self._redial(leg, dialing)
        except TimeoutError:
            await self._hang_up_too_long(leg)
        finally:
            del self._dialing[call_id]

    async def _give_up(self, leg: Leg, why: str = "") -> None:
        """End a call that was not even dialed: no event may ever report its end."""
        self._records.failed(leg.id, why)
        try:
            await self._client.channels.hangup(leg.id)
        except AriError as error:
            log.warning("cleanup failed, next sweep retries channel=%s error=%s", leg.id, error)
        finally:
            if not leg.ended.is_set():
                self._legs.presume_ended(leg)

    async def _hang_up_too_long(self, leg: Leg) -> None:
        log.warning(
            "call reached its maximum duration, hanging up channel=%s seconds=%g", leg.id, self._config.max_call_s
        )
        while not leg.ended.is_set():
            try:
                await leg.hang_up(recorded="timeout")
            except AriError as error:
                log.warning("hangup failed, retrying channel=%s error=%s", leg.id, error)
                await asyncio.sleep(RETRY_S)


def _caller_id(caller: Address, destination: Address, *, anonymous: bool) -> dict[str, str]:
    """Return functions to set on the new channel. For a dialed channel, the *connected* party is its caller."""
    variables = {}
    if caller.target:
        variables["CONNECTEDLINE(num,i)"] = _clean(re.sub(r"^sips?:([^@;]+).*$", r"\1", caller.target))
        variables["CONNECTEDLINE(name,i)"] = _clean(caller.target_name)
    if anonymous:
        variables["CONNECTEDLINE(pres,i)"] = "prohib"
    if destination.type == "tel":
        variables["CALLERID(num)"] = _clean(destination.target)
    return variables


def _clean(text: str) -> str:
    """Return a string for a SIP header: without line breaks, quotes or brackets."""
    return re.sub(r'[\x00-\x1f"<>\\]', "", text)[:80]
