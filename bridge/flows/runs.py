"""Which call runs which flow: calls that are placed, calls that come in, flows that are fetched."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import uuid4

from bridge.ari.model import Channel
from bridge.calls.addresses import NOBODY, Address, address_json
from bridge.calls.legs import Leg, LegGone
from bridge.calls.placing import NotAnswered, Ringing
from bridge.calls.records import CallRecord
from bridge.config import VoxologyConfig
from bridge.errors import BridgeError
from bridge.flows import callbacks
from bridge.flows.configured import Flow
from bridge.flows.interpreter import Run
from bridge.flows.parts import Parts
from bridge.flows.program import Action, Program
from bridge.flows.program import program as program_of
from bridge.flows.registry import DEFINITIONS
from bridge.flows.spelling import parse
from bridge.flows.variables import Variables, given

log = logging.getLogger(__name__)

MAX_GROUPS = 1000
"""Groups of calls that are remembered."""

AnswerMethod = Literal["none", "hangup_others"]
RingMethod = Literal["ring_all", "linear"]


@dataclass(frozen=True, slots=True)
class PlaceRequest:
    """Calls to place.

    Args:
        source: ``bridge.calls.addresses.Address`` that the called party is shown; None: ``calling.caller_id``.
        destinations: ``Address`` each.
        program: the flow that an answered call runs.
        flow_id: id of a ``[[flows]]`` table instead; it wins over ``program``. Neither: the call is just held.
        variables: at most 100 (see ``bridge.flows.variables``).
        answer_method: ``none``: each that answers runs the flow; ``hangup_others``: only the first, the others end.
        ring_method: all at once, or one after the other (the next when one has not answered).
        timeout_s: how long each may ring; None: ``calling.ring_timeout_s``.
        max_call_s: a call that lasts longer is hung up; None: ``calling.max_call_s`` only.
    """

    destinations: Sequence[Address]
    source: Address | None = None
    program: Program | None = None
    flow_id: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    anonymous: bool = False
    answer_method: AnswerMethod = "none"
    ring_method: RingMethod = "ring_all"
    timeout_s: float | None = None
    max_call_s: float | None = None


@dataclass(slots=True)
class Groupcall:
    """Calls that were placed by one request with ``answer_method: hangup_others`` (VoIPBIN's word)."""

    id: str
    call_ids: list[str]
    answer_method: AnswerMethod
    ring_method: RingMethod
    answer_call_id: str = ""
    source: Address | None = None
    destinations: Sequence[Address] = ()


@dataclass(frozen=True, slots=True)
class Placed:
    """What came of a request: ``calls`` are ``bridge.calls.records.CallRecord``."""

    calls: Sequence[CallRecord]
    groupcalls: Sequence[Groupcall] = ()


@dataclass(slots=True)
class _Running:
    """A flow that runs on a call."""

    run: Run
    task: asyncio.Task[None]


class FlowRuns:
    """Every flow that runs.

    Args:
        flows: those of the configuration.
        parts: what actions work with; ``parts.flow`` and ``parts.dial`` are set here.
        voxology: what ``Dials/Connect`` calls run.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        flows: Sequence[Flow],
        parts: Parts,
        voxology: VoxologyConfig | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._flows = {flow.id: flow for flow in flows}
        self._parts = parts
        self._voxology = voxology or VoxologyConfig()
        self._clock = clock
        self._running: dict[str, _Running] = {}
        self._entering: dict[str, tuple[Flow, Channel]] = {}
        self._groups: dict[str, Groupcall] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        parts.flow = self._program
        parts.dial = self.dial_connect

    # Calls that come in

    def claims(self, channel: Channel, args: Sequence[str]) -> bool:
        """Whether a call that enters our application runs a flow (`Legs.claim`)."""
        if self._closing:
            return False
        numbers = [*args[:1], channel.dialplan.exten]
        flow = next((each for each in self._flows.values() if each.matches(numbers)), None)
        if flow is None:
            return False
        self._entering[channel.id] = flow, channel
        return True

    def claimed(self, leg: Leg, _: Sequence[str]) -> None:
        """A call that was claimed is ours now: its flow begins (`Legs.on_claimed`)."""
        flow, channel = self._entering.pop(leg.id)
        record = self._parts.records.get(leg.id)
        source = Address("", channel.caller.number, channel.caller.name)
        destination = Address("", channel.dialplan.exten)
        if record is not None:
            source = record.source if record.source.target else source
            destination = record.destination if record.destination.target else destination
        self._begin(leg, None, flow.id, {}, {}, source, destination, "incoming", then=flow.config.then)

    # Calls that are placed

    async def place(self, request: PlaceRequest) -> Placed:
        """Place calls; return as soon as they are on their way.

        Raises:
            LookupError: no flow has the id.
            ValueError: a destination cannot be dialled, a variable is too large (in words, naming its index).
            Overloaded: ``calling.max_calls`` is reached.
        """
        if request.flow_id and request.flow_id not in self._flows:
            raise LookupError(f"no flow has the id {request.flow_id[:64]!r}")
        if not request.destinations:
            raise ValueError("destinations: expected at least one")
        for index, destination in enumerate(request.destinations):
            try:
                self._parts.placer.check(destination)
            except ValueError as problem:
                raise ValueError(f"destinations[{index}]: {problem}") from None
        try:
            variables = given(request.variables)
        except ValueError as problem:
            raise ValueError(f"variables: {problem}") from None
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
            self._spawn(self._follow(ringing, request, destination, variables, {}))
        return Placed([self._record(ringing) for ringing in ringings])

    async def dial_connect(
        self,
        number: str,
        *,
        caller_id: str = "",
        session_data: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
        max_call_s: float | None = None,
    ) -> CallRecord:
        """Voxology's ``POST /v1/Dials/Connect``: call ``number``; who answers runs the flow ``voxology.flow``.

        Args:
            number: a telephone number.
            caller_id: what the called phone shows; "": ``calling.caller_id``.
            session_data: JSON object that goes with the call.
            timeout_s: how long it may ring.
            max_call_s: a call that lasts longer is hung up.

        Raises:
            LookupError: ``voxology.flow`` is not set.
            ValueError, Overloaded: as `place`; also ``session_data`` that is too large.
        """
        if not self._voxology.flow:
            raise LookupError("voxology.flow is not configured")
        destination = Address("tel", number)
        try:
            self._parts.placer.check(destination)
        except ValueError as problem:
            raise ValueError(f"call.no: {problem}") from None
        try:
            Variables().set_session_data(session_data or {})
        except ValueError as problem:
            raise ValueError(f"session_data: {problem}") from None
        request = PlaceRequest(
            [destination],
            source=Address("tel", caller_id) if caller_id else None,
            flow_id=self._voxology.flow,
            timeout_s=timeout_s,
            max_call_s=max_call_s,
        )
        ringing = await self._ring(request, destination, "")
        self._spawn(self._follow(ringing, request, destination, {}, session_data or {}))
        return self._record(ringing)

    # Flows that run

    async def run_on(self, call_id: str, program: Program, variables: Mapping[str, str] | None = None) -> None:
        """Run a flow on a call that we hold already; a flow that it runs is stopped first.

        Raises:
            LookupError: we do not hold such a call.
            ValueError: variables that are too many or too large.
        """
        checked = given(variables or {})
        leg = self._parts.legs.get(call_id) or self._parts.legs.take(call_id)
        if leg is None:
            raise LookupError(f"no call that the bridge holds has the id {call_id[:64]!r}")
        await self.stop(leg.id)
        record = self._parts.records.get(leg.id)
        source = record.source if record is not None else NOBODY
        destination = record.destination if record is not None else NOBODY
        direction = record.direction if record is not None else "incoming"
        self._begin(leg, program, "", checked, {}, source, destination, direction, then="hangup")

    async def stop(self, call_id: str) -> bool:
        """End the flow that a call runs, and what it opened; the call stays. False: it ran none."""
        running = self._running.get(call_id) or self._running.get(self._channel_of(call_id))
        if running is None:
            return False
        running.task.cancel()
        await asyncio.gather(running.task, return_exceptions=True)
        return True

    async def before_transfer(self, channel_id: str) -> None:
        """A call is transferred: its flow has no more say (`Acts.before_transfer`)."""
        await self.stop(channel_id)

    def is_running(self, call_id: str) -> bool:
        """Whether a call runs a flow."""
        return call_id in self._running or self._channel_of(call_id) in self._running

    def groupcall(self, groupcall_id: str) -> Groupcall | None:
        """The group with this id, while it is remembered (the last 1000)."""
        return self._groups.get(groupcall_id)

    async def close(self) -> None:
        """End every flow: the bridge process goes."""
        self._closing = True
        tasks = [*self._tasks, *(running.task for running in self._running.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _channel_of(self, call_id: str) -> str:
        record = self._parts.records.get(call_id)
        return record.id if record is not None else ""

    async def _program(self, flow_id: str, run: Run) -> Program:
        """The program of a configured flow; LookupError, WebFailed, FlowRefused."""
        flow = self._flows.get(flow_id)
        if flow is None:
            raise LookupError(f"no flow has the id {flow_id[:64]!r}")
        if flow.program is not None:
            return flow.program
        run.facts["app_id"] = self._voxology.app_id
        asked = callbacks.voxology_body(run, "init_call") if flow.config.spelling == "voxology" else None
        body = asked if asked is not None else callbacks.voipbin_body(run)
        headers = {**flow.headers, "Accept": "application/json"}
        if flow.config.method == "GET":
            answer = await self._parts.web.ask("GET", flow.config.url, headers=headers, trust=flow.trust)
        else:
            headers["Content-Type"] = "application/json"
            answer = await self._parts.web.ask(
                "POST", flow.config.url, body=json.dumps(body).encode(), headers=headers, trust=flow.trust
            )
        return parse(answer.json())

    # One placed call

    async def _ring(self, request: PlaceRequest, destination: Address, groupcall_id: str) -> Ringing:
        return await self._parts.placer.place(
            destination,
            source=request.source,
            anonymous=request.anonymous,
            timeout_s=request.timeout_s,
            groupcall_id=groupcall_id,
            flow_id=request.flow_id,
        )

    def _record(self, ringing: Ringing) -> CallRecord:
        record = self._parts.records.get(ringing.id)
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

    def _answered(
        self,
        leg: Leg,
        request: PlaceRequest,
        destination: Address,
        variables: Mapping[str, str],
        session_data: Mapping[str, Any],
    ) -> None:
        source = request.source or self._source(leg.id)
        if request.program is None and not request.flow_id:
            self._spawn(self._hold(leg, request.max_call_s))
            return
        self._begin(
            leg,
            None if request.flow_id else request.program,
            request.flow_id,
            variables,
            session_data,
            source,
            destination,
            "outgoing",
            then="hangup",
            max_call_s=request.max_call_s,
        )

    def _source(self, call_id: str) -> Address:
        record = self._parts.records.get(call_id)
        return record.source if record is not None else NOBODY

    async def _hold(self, leg: Leg, max_call_s: float | None) -> None:
        """A call without a flow: it waits for what is asked of it over HTTP."""
        try:
            await leg.hold_in_bridge()
            async with asyncio.timeout(max_call_s):
                await leg.gone.wait()
        except TimeoutError:
            await leg.hang_up(told="timeout")
        except LegGone:
            pass

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
            self._spawn(self._one_after_the_other(group, ringings, request, variables))
        else:
            self._spawn(self._first_wins(group, ringings, request, variables))
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

    # One flow

    def _begin(
        self,
        leg: Leg,
        program: Program | None,
        flow_id: str,
        variables: Mapping[str, str],
        session_data: Mapping[str, Any],
        source: Address,
        destination: Address,
        direction: Literal["incoming", "outgoing"],
        *,
        then: Literal["hangup", "continue"],
        max_call_s: float | None = None,
    ) -> None:
        """Run ``program``, or the configured flow ``flow_id``, on a leg."""
        now = self._clock()
        # Voxology: "caller" is the other party, whoever called; "api" our side.
        other, ours = (source, destination) if direction == "incoming" else (destination, source)
        facts = {"direction": direction, "start_time": now, "caller_no": other.target, "api_no": ours.target}
        known = {**variables, **_of_call(leg.id, direction, source, destination, now, facts)}
        run = Run(
            leg,
            program or _entry(flow_id),
            parts=self._parts,
            variables=Variables(known, session_data),
            flow_id=flow_id,
            facts=facts,
        )
        for name, value in (("id", run.id), ("flow_id", flow_id), ("reference_type", "call"), ("reference_id", leg.id)):
            run.variables.set(f"voipbin.activeflow.{name}", value)
        self._parts.records.update(leg.id, flow_id=flow_id, variables=dict(variables))
        task = asyncio.ensure_future(self._conduct(run, then, max_call_s))
        self._running[leg.id] = running = _Running(run, task)
        task.add_done_callback(lambda _: self._over(leg.id, running))

    def _over(self, leg_id: str, running: _Running) -> None:
        if self._running.get(leg_id) is running:
            del self._running[leg_id]

    async def _conduct(self, run: Run, then: str, max_call_s: float | None) -> None:
        leg, events = run.leg, self._parts.events
        events.publish("flow_started", run.described())
        reason = "stopped"
        try:
            try:
                async with asyncio.timeout(max_call_s):
                    end = await run.run()
                reason = end.reason
            except TimeoutError:
                reason = "the call lasted too long"
                await leg.hang_up(told="timeout")
            if leg.gone.is_set():
                return
            if then == "continue":
                await leg.continue_in_dialplan()
            else:
                await leg.hang_up()
        except LegGone:
            pass
        except BridgeError as problem:
            log.warning("call=%s could not be sent on after its flow: %s", run.call_id, problem)
        except Exception:
            reason = "an error of the bridge"
            log.exception("call=%s: its flow failed", run.call_id)
            await asyncio.gather(leg.hang_up(), return_exceptions=True)  # better than silence for ever
        finally:
            log.info("call=%s flow=%s ended: %s", run.call_id, run.flow_id or run.id, reason)
            self._parts.records.update(run.call_id, action=None)
            events.publish("flow_ended", {**run.described(), "reason": reason})

    def _spawn(self, act: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(self._guarded(act))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, act: Coroutine[Any, Any, None]) -> None:
        try:
            await act
        except BridgeError as problem:
            log.warning("a placed call could not be taken care of: %s", problem)
        except Exception:
            log.exception("a placed call could not be taken care of")


def _entry(flow_id: str) -> Program:
    """A program that begins with asking for the configured flow."""
    options = DEFINITIONS["enter_flow"].options.model_validate({"flow_id": flow_id})
    return program_of([Action(str(uuid4()), "", 0, "enter_flow", options)], "voipbin")


def _of_call(
    call_id: str, direction: str, source: Address, destination: Address, now: float, facts: Mapping[str, Any]
) -> dict[str, str]:
    """What a flow knows of its call from the start, in both spellings' names."""
    known = {
        "voipbin.call.id": call_id,
        "voipbin.call.direction": direction,
        "voipbin.call.digits": "",
        "callId": call_id,
        "callerNo": facts["caller_no"],
        "apiNo": facts["api_no"],
        "startTime": callbacks.iso(now),
        "keyPresses": "",
        "keyPress": "",
    }
    for side, address in (("source", source), ("destination", destination)):
        for key, value in address_json(address).items():
            known[f"voipbin.call.{side}.{key}"] = value
    return known
