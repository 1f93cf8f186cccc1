"""Places the calls that are asked for, and hands over those that are answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from bridge.calls.addresses import Address
from bridge.calls.records import CallRecord, Records
from bridge.control.legs import Leg
from bridge.control.originate import NotAnswered, Placer, Ringing
from bridge.errors import BridgeError
from bridge.flows.requests import Groupcall, Placed, PlaceRequest
from bridge.tasks import BackgroundTasks

log = logging.getLogger(__name__)

MAX_GROUPS = 1000
"""Groups of calls that are remembered."""

Answered = Callable[[Leg, PlaceRequest, Address, Mapping[str, str], Mapping[str, Any]], object]


class Placing:
    """Calls that are on their way.

    Args:
        placer: dials.
        records: has each call's record.
        answered: told of each call that shall run its flow: the leg, what was asked for, whom it reached, variables
            and session data.
    """

    def __init__(self, placer: Placer, records: Records, answered: Answered) -> None:
        self._placer = placer
        self._records = records
        self._answered = answered
        self._groups: dict[str, Groupcall] = {}
        self._tasks = BackgroundTasks("originated calls")

    def check(self, request: PlaceRequest) -> None:
        """Whether all of it can be dialled.

        Raises:
            ValueError: in words, naming the index.
        """
        if not request.destinations:
            raise ValueError("destinations: expected at least one")
        for index, destination in enumerate(request.destinations):
            try:
                self._placer.check(destination, request.source)
            except ValueError as problem:
                raise type(problem)(f"destinations[{index}]: {problem}") from None

    async def place(
        self, request: PlaceRequest, variables: Mapping[str, str], session_data: Mapping[str, Any]
    ) -> Placed:
        """Place calls; all of them, or none if one is refused.

        Raises:
            Overloaded: ``calling.max_calls`` is reached.
        """
        if request.answer_method == "hangup_others" or request.ring_method == "linear":
            return await self._place_group(request, variables)
        ringings: list[Ringing] = []
        try:
            for destination in request.destinations:
                ringings.append(await self._ring(request, destination, ""))
        except BaseException:
            # All or nothing: who asked is told that no call was placed.
            await asyncio.gather(*(ringing.cancel() for ringing in ringings), return_exceptions=True)
            raise
        for ringing, destination in zip(ringings, request.destinations, strict=True):
            self._tasks.spawn(self._follow(ringing, request, destination, variables, session_data))
        return Placed([self._record(ringing) for ringing in ringings])

    def group(self, group_id: str) -> Groupcall | None:
        """The group with this id, while it is remembered."""
        return self._groups.get(group_id)

    async def close(self) -> None:
        """Follow no call further: the bridge process goes."""
        await self._tasks.stop()

    async def _ring(self, request: PlaceRequest, destination: Address, groupcall_id: str) -> Ringing:
        return await self._placer.place(
            destination,
            source=request.source,
            anonymous=request.anonymous,
            timeout_s=request.timeout_s,
            groupcall_id=groupcall_id,
            flow_id=request.flow_id,
            token=request.principal.id,
        )

    def _record(self, ringing: Ringing) -> CallRecord:
        record = self._records.get(ringing.id)
        assert record is not None, "the placer makes a record"
        return record

    async def _follow(
        self,
        ringing: Ringing,
        request: PlaceRequest,
        destination: Address,
        variables: Mapping[str, str],
        session_data: Mapping[str, Any],
    ) -> None:
        try:
            leg = await ringing.answered()
        except NotAnswered as problem:
            log.info("call=%s to %s: %s", ringing.id, destination, problem)
            return
        self._answered(leg, request, destination, variables, session_data)

    # Several, of which one is wanted

    async def _place_group(self, request: PlaceRequest, variables: Mapping[str, str]) -> Placed:
        group = Groupcall(
            str(uuid4()),
            [],
            request.answer_method,
            request.ring_method,
            source=request.source,
            destinations=tuple(request.destinations),
        )
        at_once = request.destinations if request.ring_method == "ring_all" else request.destinations[:1]
        ringings: dict[Ringing, Address] = {}
        try:
            for destination in at_once:
                ringing = await self._ring(request, destination, group.id)
                ringings[ringing] = destination
                group.call_ids.append(ringing.id)
        except BaseException:
            await asyncio.gather(*(ringing.cancel() for ringing in ringings), return_exceptions=True)
            raise
        self._groups[group.id] = group
        while len(self._groups) > MAX_GROUPS:
            del self._groups[next(iter(self._groups))]
        placed = Placed([self._record(ringing) for ringing in ringings], [group])
        if request.ring_method == "linear":
            self._tasks.spawn(self._one_after_the_other(group, ringings, request, variables))
        else:
            self._tasks.spawn(self._first_wins(group, ringings, request, variables))
        return placed

    async def _first_wins(
        self,
        group: Groupcall,
        ringings: Mapping[Ringing, Address],
        request: PlaceRequest,
        variables: Mapping[str, str],
    ) -> None:
        waiting = {asyncio.ensure_future(ringing.answered()): ringing for ringing in ringings}
        winner: Leg | None = None
        try:
            while waiting and winner is None:
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if winner is None and task.exception() is None:
                        ringing = waiting.pop(task)
                        winner = task.result()
                        group.answer_call_id = winner.id
                        self._answered(winner, request, ringings[ringing], variables, {})
                    elif task.exception() is not None:
                        del waiting[task]  # one that answered in the same moment stays, and is hung up below
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            results = await asyncio.gather(*(each.cancel() for each in waiting.values()), return_exceptions=True)
            for result in results:
                if isinstance(result, Exception):
                    log.warning("a call of group %s could not be ended: %s", group.id, result)

    async def _one_after_the_other(
        self,
        group: Groupcall,
        first: Mapping[Ringing, Address],
        request: PlaceRequest,
        variables: Mapping[str, str],
    ) -> None:
        rest = list(request.destinations[1:])
        ringing, destination = next(iter(first.items()))
        while True:
            try:
                leg = await ringing.answered()
            except NotAnswered as problem:
                log.info("call=%s to %s: %s", ringing.id, destination, problem)
            else:
                group.answer_call_id = leg.id
                self._answered(leg, request, destination, variables, {})
                return
            if not rest:
                return
            destination = rest.pop(0)
            try:
                ringing = await self._ring(request, destination, group.id)
            except (ValueError, BridgeError) as problem:
                log.warning("group %s ends: %s cannot be called: %s", group.id, destination, problem)
                return
            group.call_ids.append(ringing.id)
