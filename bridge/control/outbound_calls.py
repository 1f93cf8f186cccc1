"""Originates the calls of one request, together or one after the other, and hands over answered ones."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal
from uuid import uuid4

from msgspec import Struct
from msgspec.structs import asdict

from bridge.access import Principal
from bridge.calls.addresses import Address
from bridge.calls.call_record import CallRecord
from bridge.calls.journal import Journal
from bridge.calls.records import Records
from bridge.control.legs import Leg, LegEnded
from bridge.control.originate import NotAnswered, Originator, OutboundCall
from bridge.errors import BridgeError
from bridge.tasks import BackgroundTasks

log = logging.getLogger(__name__)

RINGING, HELD = "ringing", "held"
"""Kinds of facts: ringing calls, with their purpose; and answered ones that requests control."""
MAX_GROUPS = 1000
"""Limit of groups kept for look-up."""

AnswerMethod = Literal["none", "hangup_others"]
RingMethod = Literal["ring_all", "linear"]
OnAnswered = Callable[[Leg, Address], object]
"""Called with the leg of an answered call, and the destination that it reached."""


class OriginateRequest(Struct, frozen=True):
    """Calls to originate.

    Args:
        destinations: at least one.
        principal: owner of the calls and of everything that they open.
        source: caller ID; None: ``calling.caller_id``.
        flow_id: id of the configured flow that answered calls run, for their records.
        anonymous: withhold the caller ID.
        answer_method: ``none``: every answered call continues; ``hangup_others``: only the first, the others end.
        ring_method: ``ring_all``, or ``linear`` (the next one when the previous was not answered).
        timeout_s: ringing time of each, in seconds; None: ``calling.ring_timeout_s``.
        max_call_s: maximum duration of a call, in seconds; None: ``calling.max_call_s`` only.
    """

    destinations: Sequence[Address]
    principal: Principal
    source: Address | None = None
    flow_id: str = ""
    anonymous: bool = False
    answer_method: AnswerMethod = "none"
    ring_method: RingMethod = "ring_all"
    timeout_s: float | None = None
    max_call_s: float | None = None


class Groupcall(Struct):
    """Calls of one request of which only one is to be answered."""

    id: str
    call_ids: list[str]
    answer_method: AnswerMethod
    ring_method: RingMethod
    answer_call_id: str = ""
    source: Address | None = None
    destinations: Sequence[Address] = ()


class OriginatedCalls(Struct, frozen=True):
    """The records of a request's calls, and their group if only one of them is to be answered."""

    calls: Sequence[CallRecord]
    groupcalls: Sequence[Groupcall] = ()


class OutboundCalls:
    """Outbound calls of requests, until they are answered.

    Args:
        originator: dials.
        records: the calls' records.
        journal: stores ringing and held calls; None: none is resumed after a restart.
    """

    def __init__(self, originator: Originator, records: Records, journal: Journal | None = None) -> None:
        self._originator = originator
        self._records = records
        self._journal = journal or Journal()
        self._groups: dict[str, Groupcall] = {}
        self._tasks = BackgroundTasks("outbound call")

    async def originate(self, request: OriginateRequest, on_answered: OnAnswered | None = None) -> OriginatedCalls:
        """Originate calls, all or none; return while they ring.

        Args:
            request: the calls.
            on_answered: takes over answered calls; None: they are held in a mixing bridge.

        Returns:
            The calls.

        Raises:
            ValueError: a destination cannot be dialed (the message has its index).
            Overloaded: ``calling.max_calls`` is reached.
        """
        self._check(request)
        if on_answered is None:
            on_answered = self.holder(request)
        if request.answer_method == "hangup_others" or request.ring_method == "linear":
            return await self._originate_group(request, on_answered)
        calls = await self._dial_all(request, request.destinations)
        for call, destination in calls.items():
            self._keep(call, destination, request, on_answered)
            self._tasks.spawn(self._follow(call, destination, on_answered))
        return OriginatedCalls([self._record(call) for call in calls])

    def holder(self, request: OriginateRequest) -> OnAnswered:
        """Return the callback that holds an answered call, for requests to control."""
        return lambda leg, _: self.hold(leg, request.max_call_s)

    def hold(self, leg: Leg, max_call_s: float | None) -> None:
        """Hold a call for requests to control, until it ends."""
        self.hold_until(leg, None if max_call_s is None else time.time() + max_call_s)

    def hold_until(self, leg: Leg, ends_at: float | None) -> None:
        """Hold a call as `hold`, until a time in seconds since 1970."""
        self._journal.put(HELD, leg.id, {"ends_at": ends_at})
        self._tasks.spawn(self._hold(leg, None if ends_at is None else max(ends_at - time.time(), 0.0)))

    def resume(self, call: OutboundCall, request: OriginateRequest, on_answered: OnAnswered) -> None:
        """Follow a ringing call of a previous run; its request has one destination."""
        (destination,) = request.destinations
        self._keep(call, destination, request, on_answered)
        self._tasks.spawn(self._follow(call, destination, on_answered))

    def _keep(
        self, call: OutboundCall, destination: Address, request: OriginateRequest, on_answered: OnAnswered
    ) -> None:
        fact = {
            "principal": request.principal.fact,
            "destination": asdict(destination),
            "source": asdict(request.source) if request.source is not None else None,
            "flow_id": request.flow_id,
            "max_call_s": request.max_call_s,
            "starter": getattr(on_answered, "fact", None),
        }
        self._journal.put(RINGING, call.leg.id, fact)

    def group(self, group_id: str) -> Groupcall | None:
        """Return the group with this id while it is kept (the last 1000)."""
        return self._groups.get(group_id)

    async def close(self) -> None:
        """Stop following calls, for the end of the process."""
        await self._tasks.stop()

    def _check(self, request: OriginateRequest) -> None:
        if not request.destinations:
            raise ValueError("destinations: expected at least one")
        for index, destination in enumerate(request.destinations):
            try:
                self._originator.check(destination, request.source)
            except ValueError as problem:
                raise type(problem)(f"destinations[{index}]: {problem}") from None

    async def _dial(self, request: OriginateRequest, destination: Address, group_id: str = "") -> OutboundCall:
        return await self._originator.originate(
            destination,
            source=request.source,
            anonymous=request.anonymous,
            timeout_s=request.timeout_s,
            groupcall_id=group_id,
            flow_id=request.flow_id,
            token=request.principal.id,
        )

    async def _dial_all(
        self, request: OriginateRequest, destinations: Sequence[Address], group_id: str = ""
    ) -> dict[OutboundCall, Address]:
        calls: dict[OutboundCall, Address] = {}
        try:
            for destination in destinations:
                calls[await self._dial(request, destination, group_id)] = destination
        except BaseException:
            # All or none: the response reports that no call was originated.
            await asyncio.gather(*(call.cancel() for call in calls), return_exceptions=True)
            raise
        return calls

    def _record(self, call: OutboundCall) -> CallRecord:
        record = self._records.get(call.id)
        assert record is not None, "the originator creates a record"
        return record

    async def _follow(self, call: OutboundCall, destination: Address, on_answered: OnAnswered) -> Leg | None:
        """Wait for the answer and hand the leg over; return None if it was not answered."""
        try:
            leg = await call.answered()
        except NotAnswered as problem:
            log.info("call not answered call=%s to=%s reason=%s", call.id, destination, problem)
            return None
        finally:
            self._journal.drop(RINGING, call.leg.id)
        on_answered(leg, destination)
        return leg

    async def _hold(self, leg: Leg, max_call_s: float | None) -> None:
        """Hold a call for HTTP requests to control, until it ends."""
        try:
            await leg.hold_in_bridge()
            async with asyncio.timeout(max_call_s):
                await leg.gone.wait()
        except TimeoutError:
            await leg.hang_up(recorded="timeout")
        except LegEnded:
            pass
        except BridgeError as problem:
            log.warning("holding failed channel=%s error=%s", leg.id, problem)
            await asyncio.gather(leg.hang_up(recorded="failed"), return_exceptions=True)  # better than endless silence
        finally:
            self._journal.drop(HELD, leg.id)

    # Groups

    async def _originate_group(self, request: OriginateRequest, on_answered: OnAnswered) -> OriginatedCalls:
        group = Groupcall(
            str(uuid4()),
            [],
            request.answer_method,
            request.ring_method,
            source=request.source,
            destinations=tuple(request.destinations),
        )
        linear = request.ring_method == "linear"
        calls = await self._dial_all(request, request.destinations[: 1 if linear else None], group.id)
        group.call_ids += [call.id for call in calls]
        self._groups[group.id] = group
        while len(self._groups) > MAX_GROUPS:
            del self._groups[next(iter(self._groups))]
        for call, destination in calls.items():
            self._keep(call, destination, request, on_answered)
        if linear:
            self._tasks.spawn(self._one_after_the_other(group, next(iter(calls)), request, on_answered))
        else:
            self._tasks.spawn(self._first_wins(group, calls, on_answered))
        return OriginatedCalls([self._record(call) for call in calls], [group])

    async def _first_wins(
        self, group: Groupcall, calls: Mapping[OutboundCall, Address], on_answered: OnAnswered
    ) -> None:
        waiting = {asyncio.ensure_future(call.answered()): call for call in calls}
        try:
            while waiting and not group.answer_call_id:
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    self._journal.drop(RINGING, waiting[task].leg.id)
                    if task.exception() is not None:
                        del waiting[task]
                    elif not group.answer_call_id:  # a simultaneous second answer is hung up below
                        call = waiting.pop(task)
                        group.answer_call_id = call.id
                        on_answered(task.result(), calls[call])
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            results = await asyncio.gather(
                *(each.cancel(answered_elsewhere=group.answer_call_id != "") for each in waiting.values()),
                return_exceptions=True,
            )
            for result in results:
                if isinstance(result, Exception):
                    log.warning("hangup failed group=%s error=%s", group.id, result)

    async def _one_after_the_other(
        self, group: Groupcall, call: OutboundCall, request: OriginateRequest, on_answered: OnAnswered
    ) -> None:
        for index, destination in enumerate(request.destinations):
            if index > 0:
                try:
                    call = await self._dial(request, destination, group.id)
                except (ValueError, BridgeError) as problem:
                    log.warning(
                        "group ends, destination cannot be dialed group=%s to=%s error=%s",
                        group.id,
                        destination,
                        problem,
                    )
                    return
                group.call_ids.append(call.id)
                self._keep(call, destination, request, on_answered)
            leg = await self._follow(call, destination, on_answered)
            if leg is not None:
                group.answer_call_id = call.id
                return
