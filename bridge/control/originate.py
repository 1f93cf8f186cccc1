"""Originate a call: dial a destination, and return its leg when it is answered.

ARI's ``create`` and ``dial``, not ``originate``: the channel is in our application from the start, so it can be in a
bridge while it rings (early media), and its end tells a cause even where originate's tells none (seen on 22.10: a
phone that hangs up after it answered, 16 against 0). What Asterisk says of such a channel, tried with real phones:

    rings, then answered         Dial "", RINGING, ANSWER; state Up (no second StasisStart)
    486 Busy here                ChannelHangupRequest and ChannelDestroyed with cause 17, no Dial event
    603, 480                     the same with 21, 19
    nobody answers in time       ChannelHangupRequest (soft, 32), ChannelDestroyed 19
    the far end is silent        the same, and no RINGING before it
    hung up by us                ChannelHangupRequest (soft, 32), ChannelDestroyed 16
    not registered, no endpoint  ``create`` answers 500 "Allocation failed"; no event at all
    Local, no such extension     ChannelDestroyed 16 at once, no RINGING
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import Mapping

from bridge.ari.client import AriClient
from bridge.calls.addresses import NOBODY, Address
from bridge.calls.call_record import HangupReason
from bridge.calls.ids import OwnIds
from bridge.calls.records import Records
from bridge.config.calling import CallingConfig
from bridge.control.dial_policy import DialPolicy
from bridge.control.legs import Leg, LegGone, Legs
from bridge.errors import AriError, BridgeError, Overloaded
from bridge.media.call_admission import CallAdmission
from bridge.tasks import BackgroundTasks

log = logging.getLogger(__name__)

START_TIMEOUT_S = 5.0
RETRY_S = 5.0
"""Until a call that has lasted too long is hung up again, if Asterisk did not do it."""


class NotAnswered(BridgeError):
    """An outbound call was not answered.

    Args:
        reason: as in the call's record.
        cause: Q.850; 0 if unknown.
    """

    def __init__(self, reason: HangupReason, cause: int = 0) -> None:
        super().__init__(f"not answered: {reason}")
        self.reason = reason
        self.cause = cause


class OutboundCall:
    """A call that rings. `Originator` creates it."""

    def __init__(self, leg: Leg, records: Records) -> None:
        self.id = leg.id
        """The id of its channel, and of the call."""
        self.leg = leg
        self._records = records

    async def answered(self) -> Leg:
        """Wait until it is answered. Cancelling this does not cancel the call.

        Raises:
            NotAnswered: it is over.
        """
        try:
            await self.leg.until_answered()
        except LegGone:
            await self.leg.ended.wait()  # the record is complete then
        if self.leg.ended.is_set():
            record = self._records.get(self.id)
            raise NotAnswered((record.hangup_reason if record else "") or "failed", self.leg.cause)
        return self.leg

    async def cancel(self) -> None:
        """Give it up; returns when its channel is gone. One that is answered is hung up, one that is over is fine."""
        await self.leg.hang_up()


class Originator:
    """Originates calls.

    Args:
        client: where requests go.
        ids: makes the calls' ids.
        legs: gets the legs.
        records: gets the records.
        config: limits of a call.
        policy: which calls are allowed.
        admission: whether one more call may start.
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
        self._timers = BackgroundTasks("longest duration")
        self._stopping = False

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
            source: whom the called phone sees; by default ``calling.caller_id``. A request needs `check` first.
            anonymous: the called phone sees nobody.
            timeout_s: how long it may ring; by default ``calling.ring_timeout_s``.
            originator: channel on whose behalf: the new one becomes a party of its call.
            early_media_bridge: a bridge that hears what comes before the answer.
            variables: channel variables.
            token: id of the token by which it is originated.

        Raises:
            ValueError: as `check`.
            Overloaded: ``calling.max_calls`` originated calls are up, too many were originated within a
                minute, or asterisk-bridge is stopping.
        """
        endpoint = self._policy.endpoint_of(destination)
        if self._stopping:
            raise Overloaded("the bridge is shutting down")
        # One on behalf of a call that is up belongs to that call.
        self._admission.check(streams=0, admitted=originator is not None)
        if self._legs.originated >= self._config.max_calls:
            raise Overloaded(
                f"{self._legs.originated} originated calls are active; no more are allowed (calling.max_calls)"
            )
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
        wanted = {**_caller_id(caller, destination, anonymous=anonymous), **(variables or {})}
        ring_s = self._config.ring_timeout_s if timeout_s is None else timeout_s
        try:
            with self._client.expect("StasisStart", call_id) as started:
                await self._client.channels.create(
                    endpoint=endpoint, channel_id=call_id, originator=originator, variables=wanted
                )
                await started.wait(START_TIMEOUT_S)
            if leg.given_up:  # before its channel was there to be hung up
                raise LegGone(f"{call_id} was given up")
            if early_media_bridge is not None:
                await leg.move_to(early_media_bridge)
            await self._client.channels.dial(call_id, timeout=max(1, math.ceil(ring_s)))
        except (AriError, LegGone) as error:
            log.info("call=%s to %s could not be originated: %s", call_id, endpoint, error)
            await self._give_up(leg)
        except BaseException:
            await self._give_up(leg)
            raise
        else:
            self._timers.spawn(self._hang_up_in_time(leg))
        return call

    async def stop(self) -> None:
        """Originate no further call; `Legs.stop` hangs up those that are up."""
        self._stopping = True
        await self._timers.stop()

    async def _give_up(self, leg: Leg) -> None:
        """A call that was not even dialled: no event may ever tell of its end."""
        self._records.failed(leg.id)
        try:
            await self._client.channels.hangup(leg.id)
        except AriError as error:
            log.warning("cleanup failed, next sweep retries channel=%s error=%s", leg.id, error)
        finally:
            if not leg.ended.is_set():
                self._legs.presume_ended(leg)

    async def _hang_up_in_time(self, leg: Leg) -> None:
        try:
            async with asyncio.timeout(self._config.max_call_s):
                await leg.ended.wait()
        except TimeoutError:
            log.warning(
                "call reached its longest duration, hanging up channel=%s seconds=%g", leg.id, self._config.max_call_s
            )
        while not leg.ended.is_set():
            try:
                await leg.hang_up(told="timeout")
            except AriError as error:
                log.warning("hangup failed, trying again channel=%s error=%s", leg.id, error)
                await asyncio.sleep(RETRY_S)


def _caller_id(caller: Address, destination: Address, *, anonymous: bool) -> dict[str, str]:
    """Functions to set on the new channel. To a channel that Asterisk calls, its *connected* party is who calls it."""
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
    """For a SIP header: no line breaks, quotes or brackets."""
    return re.sub(r'[\x00-\x1f"<>\\]', "", text)[:80]
