"""Selection and execution of flows: outbound calls, incoming calls, fetched flows."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal
from weakref import WeakKeyDictionary

from msgspec.structs import replace

from bridge.access import CONFIGURATION, Principal
from bridge.ari.model import Channel
from bridge.calls.addresses import NOBODY, Address
from bridge.calls.call_record import CallRecord
from bridge.calls.journal import Journal
from bridge.config import FlowConfig, VoxologyConfig
from bridge.control.legs import Leg, LegEnded
from bridge.control.outbound_calls import OnAnswered, OriginatedCalls, OriginateRequest, OutboundCalls
from bridge.errors import BridgeError
from bridge.flows import callbacks
from bridge.flows.call_limits import CallLimits
from bridge.flows.call_variables import of_call
from bridge.flows.checking import check_possible
from bridge.flows.flow_config import Flow
from bridge.flows.interpreter import Run
from bridge.flows.program import Program, Then
from bridge.flows.resuming import (
    Conduct,
    Starter,
    entry_of,
    forget,
    frames_of,
    keep,
    program_fact,
    program_of_fact,
    run_of,
)
from bridge.flows.services import FlowServices
from bridge.flows.syntax import parse_in_thread
from bridge.flows.variables import Variables, request_variables
from bridge.outbound.gate import Gate

log = logging.getLogger(__name__)


class FlowManager:
    """All running flows.

    Args:
        flows: the configured flows.
        services: the parts of asterisk-bridge that actions use.
        outbound_calls: originates calls.
        voxology: the flow of ``Dials/Connect`` calls.
        clock: returns seconds since 1970.
        journal: stores the state of each flow; None: flows do not resume after a restart.
    """

    def __init__(
        self,
        flows: Sequence[Flow],
        services: FlowServices,
        outbound_calls: OutboundCalls,
        voxology: VoxologyConfig | None = None,
        clock: Callable[[], float] = time.time,
        *,
        journal: Journal | None = None,
    ) -> None:
        self.configure(flows)
        self._services = services
        self._outbound_calls = outbound_calls
        self._voxology = voxology or VoxologyConfig()
        self._clock = clock
        self._running: dict[Leg, asyncio.Task[None]] = {}
        """Running flows by the call's leg."""
        self._conducts: WeakKeyDictionary[Leg, Conduct] = WeakKeyDictionary()  # those of the latest flows
        self._entering: dict[str, tuple[Flow, Channel]] = {}
        self._closing = False
        self._suspended = False
        self._journal = journal or Journal()
        self.limits = CallLimits(self._journal, self._running.__contains__)

    def configure(self, flows: Sequence[Flow]) -> None:
        """Replace the configured flows, for flows that begin or are entered from now on."""
        self._flows = {flow.id: flow for flow in flows}

    @property
    def configured(self) -> list[FlowConfig]:
        """The configured flows, in their order."""
        return [flow.config for flow in self._flows.values()]

    @property
    def number_type(self) -> Literal["tel", "extension"]:
        """The type of a number that names none."""
        return self._services.settings.policy.number_type

    # Incoming calls

    def flow_of(self, channel: Channel, args: Sequence[str]) -> Flow | None:
        """Return the flow for a call that enters the Stasis application; None if no flow matches."""
        numbers = [*args[:1], channel.dialplan.exten]
        return next((each for each in self._flows.values() if each.matches(numbers)), None)

    def claims(self, channel: Channel, args: Sequence[str]) -> bool:
        """Return whether a call that enters the Stasis application runs a flow (`Legs.claim`)."""
        flow = self.flow_of(channel, args)
        if self._closing or flow is None:
            return False
        self._entering[channel.id] = flow, channel
        return True

    def claimed(self, leg: Leg, _: Sequence[str]) -> None:
        """Begin the flow of a claimed call (`Legs.on_claimed`)."""
        flow, channel = self._entering.pop(leg.id)
        record = self._services.records.get(leg.id)
        source = Address("", channel.shown_caller.number, channel.shown_caller.name)
        destination = Address("", channel.dialplan.exten)
        if record is not None:
            source = record.source  # empty if presentation is restricted
            destination = record.destination if record.destination.target else destination
        self._begin(
            leg,
            None,
            flow.id,
            source=source,
            destination=destination,
            direction="incoming",
            principal=CONFIGURATION,
            then=flow.config.then,
        )

    # Outbound calls

    async def originate(
        self,
        request: OriginateRequest,
        program: Program | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> OriginatedCalls:
        """Originate calls that run a flow when answered; return while they ring.

        Args:
            request: names the flow in ``flow_id``.
            program: the flow if ``flow_id`` is empty.
            variables: at most 100 (see `bridge.flows.variables`).

        Returns:
            The calls.

        Raises:
            LookupError: unknown flow.
            ValueError: a destination cannot be dialed (the message has its index), or a variable is invalid.
            Overloaded: ``calling.max_calls`` is reached.
        """
        if request.flow_id and request.flow_id not in self._flows:
            raise LookupError(f"unknown flow {request.flow_id[:64]!r}")
        on_answered = self._starter(request, program, request_variables(variables or {}))
        return await self._outbound_calls.originate(request, on_answered)

    def starter(self, request: OriginateRequest, fact: Mapping[str, Any]) -> OnAnswered:
        """Return the callback for the answer of a call that was ringing before a restart. Call in a thread.

        Args:
            request: of the call.
            fact: the stored `Starter.fact`.

        Raises:
            InvalidFlow: the flow is no longer valid.
        """
        program = program_of_fact(fact["program"]) if fact["program"] is not None else None
        return self._starter(request, program, fact["variables"], fact["session_data"])

    async def dial_connect(
        self,
        number: str,
        *,
        principal: Principal,
        caller_id: str = "",
        session_data: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
        max_call_s: float | None = None,
    ) -> CallRecord:
        """Originate a call to ``number`` that runs the flow ``voxology.flow``: Voxology's ``POST /v1/Dials/Connect``.

        Args:
            number: a telephone number.
            principal: who requests it.
            caller_id: caller ID shown to the called party; empty: ``calling.caller_id``.
            session_data: JSON object that belongs to the call.
            timeout_s: ringing time in seconds.
            max_call_s: maximum duration of the call in seconds.

        Returns:
            The call's record.

        Raises:
            LookupError: ``voxology.flow`` is not set.
            ValueError: as for `originate`, or ``session_data`` is too large.
            Overloaded: ``calling.max_calls`` is reached.
        """
        if not self._voxology.flow:
            raise LookupError("voxology.flow is not configured")
        destination = Address("tel", number)
        source = Address("tel", caller_id) if caller_id else None
        try:
            self._services.originator.check(destination, source)
        except ValueError as problem:
            raise type(problem)(f"call.no: {problem}") from None
        try:
            Variables().set_session_data(session_data or {})
        except ValueError as problem:
            raise ValueError(f"session_data: {problem}") from None
        request = OriginateRequest(
            [destination],
            principal,
            source=source,
            flow_id=self._voxology.flow,
            timeout_s=timeout_s,
            max_call_s=max_call_s,
        )
        on_answered = self._starter(request, None, {}, session_data or {})
        originated = await self._outbound_calls.originate(request, on_answered)
        return originated.calls[0]

    def _starter(
        self,
        request: OriginateRequest,
        program: Program | None,
        variables: Mapping[str, str],
        session_data: Mapping[str, Any] | None = None,
    ) -> OnAnswered:
        """Return the callback that starts the flow of a request on an answered call."""
        fact = {
            "program": None if request.flow_id else program_fact(program),
            "variables": dict(variables),
            "session_data": dict(session_data or {}),
        }
        return Starter(self._answered, request, program, fact)

    def _answered(self, starter: Starter, leg: Leg, destination: Address) -> None:
        request = starter.request
        self._begin(
            leg,
            None if request.flow_id else starter.program,
            request.flow_id,
            variables=starter.fact["variables"],
            session_data=starter.fact["session_data"],
            source=request.source or self._source(leg.id),
            destination=destination,
            direction="outgoing",
            principal=request.principal,
            then="hangup",
            max_call_s=request.max_call_s,
        )

    # Running flows

    async def before_transfer(self, channel_id: str) -> None:
        """End the flow of a call that is transferred, and close what it opened; the call stays.

        Implements `CallControl.before_transfer`.
        """
        legs = [leg for leg in self._running if leg.id == channel_id]
        for leg in legs:
            self.limits.watch(leg, self._conducts[leg].ends_at)
        await self._end(legs)

    async def close(self) -> None:
        """End every flow, for the end of the process."""
        self._closing = True
        await self._end([*self._running])
        await self.limits.close()

    async def _end(self, legs: Sequence[Leg]) -> None:
        for leg in legs:
            self._running[leg].cancel()
        await asyncio.gather(*(self._running[leg] for leg in legs), return_exceptions=True)

    async def suspend(self) -> None:
        """End every flow in this process without events: the next run resumes them."""
        self._suspended = True
        await self.close()

    async def resume(
        self, leg: Leg, flow: Mapping[str, Any], programs: Mapping[str, Any], principal: Principal
    ) -> None:
        """Continue a flow that ran before a restart.

        Args:
            leg: the call.
            flow: the stored fact of the flow.
            programs: the stored fact of its lists of actions.
            principal: who started it.

        Raises:
            InvalidFlow: a list is no longer valid.
            TypeError: a fact is malformed.
            KeyError: a fact lacks a key.
            ValueError: a fact has an invalid value.
        """
        frames = await asyncio.to_thread(frames_of, flow, programs["programs"])
        run = run_of(leg, flow, frames, principal, self._services, self)
        log.info("flow resumed call=%s flow=%s", leg.id, run.flow_id or run.id)
        self._start(run, Conduct(**flow["conduct"]))

    async def parse(self, load: Callable[[], Any]) -> Program:
        """Load and check the program in a server's response, in a thread; raise InvalidFlow."""
        return await parse_in_thread(load, self._check)

    async def parse_request(self, load: Callable[[], Any]) -> Program:
        """Load and check the program of a request in a thread, including its hosts; raise InvalidFlow."""
        return await parse_in_thread(load, lambda program: self._check(program, self._services.gate))

    def _check(self, program: Program, gate: Gate | None = None) -> None:
        check_possible(program, replace(self._services.settings, flows=self._flows.keys()), gate)

    async def program_of(self, flow_id: str, run: Run) -> Program:
        """Return the program of a configured flow; raise LookupError, WebFailed or InvalidFlow."""
        flow = self._flows.get(flow_id)
        if flow is None:
            raise LookupError(f"unknown flow {flow_id[:64]!r}")
        if flow.program is not None:
            return flow.program
        run.facts["app_id"] = self._voxology.app_id
        asked = callbacks.voxology_body(run, "init_call") if flow.config.syntax == "voxology" else None
        body = asked if asked is not None else callbacks.voipbin_body(run)
        headers = {"Accept": "application/json"}
        content: bytes | None = None
        if flow.config.method == "POST":
            headers["Content-Type"] = "application/json"
            content = json.dumps(body).encode()
        answer = await self._services.web.ask(
            flow.config.method,
            flow.config.url,
            body=content,
            headers=headers,
            secrets=flow.config.headers,
            trust=flow.config.trust(),
            configured=True,
            flow_id=flow_id,
        )
        return await self.parse(answer.json)

    def run_on(self, leg: Leg, program: Program, principal: Principal) -> None:
        """Run a program on an existing call that runs nothing else, within the call's limit, and hang up then."""
        record, before = self._services.records.get(leg.id), self._conducts.get(leg)
        self._begin(
            leg,
            program,
            "",
            source=record.source if record is not None else NOBODY,
            destination=record.destination if record is not None else NOBODY,
            direction=record.direction if record is not None else "incoming",
            principal=principal,
            then="hangup",
            max_call_s=before.left_s if before is not None else None,
        )

    def _source(self, call_id: str) -> Address:
        record = self._services.records.get(call_id)
        return record.source if record is not None else NOBODY

    # One flow

    def _begin(
        self,
        leg: Leg,
        program: Program | None,
        flow_id: str,
        *,
        variables: Mapping[str, str] = {},
        session_data: Mapping[str, Any] = {},
        source: Address,
        destination: Address,
        direction: Literal["incoming", "outgoing"],
        principal: Principal,
        then: Then,
        max_call_s: float | None = None,
    ) -> None:
        """Run ``program``, or the configured flow ``flow_id``, on a leg."""
        now = self._clock()
        # Voxology's "caller" is the remote party in both directions; "api" is our side.
        other, ours = (source, destination) if direction == "incoming" else (destination, source)
        facts = {"direction": direction, "start_time": now, "caller_no": other.target, "api_no": ours.target}
        known = {**variables, **of_call(leg.id, direction, source, destination, now, facts)}
        run = Run(
            leg,
            program or entry_of(flow_id),
            principal=principal,
            services=self._services,
            flows=self,
            variables=Variables(known, session_data, shown=variables),
            flow_id=flow_id,
            facts=facts,
        )
        for name, value in (("id", run.id), ("flow_id", flow_id), ("reference_type", "call"), ("reference_id", leg.id)):
            run.variables.set(f"voipbin.activeflow.{name}", value, shown=False)
        run.variables.is_sensitive = lambda: self._services.sensitive.covers(leg.id)
        self._services.records.update(leg.id, flow_id=flow_id, variables=dict(variables))
        self._services.events.publish("flow_started", run.described())
        self._start(run, Conduct(then, None if max_call_s is None else time.time() + max_call_s))

    def _start(self, run: Run, conduct: Conduct) -> None:
        run.keep = lambda each: keep(self._journal, each, conduct)
        self._conducts[run.leg] = conduct
        task = self._running[run.leg] = asyncio.ensure_future(self._conduct(run, conduct))
        task.add_done_callback(lambda _: self._over(run, task))

    def _over(self, run: Run, task: asyncio.Task[None]) -> None:
        if self._running.get(run.leg) is task:
            del self._running[run.leg]
            forget(self._journal, run)

    async def _conduct(self, run: Run, conduct: Conduct) -> None:
        leg, events = run.leg, self._services.events
        reason = "stopped"
        try:
            try:
                async with asyncio.timeout(conduct.left_s):
                    end = await run.run()
                reason = end.reason
            except TimeoutError:
                reason = "the call lasted too long"
                await leg.hang_up(recorded="timeout")
            if leg.gone.is_set():
                return
            if conduct.then == "continue":
                await leg.continue_in_dialplan()
            else:
                await leg.hang_up()
        except LegEnded:
            pass
        except BridgeError as problem:
            log.warning("call not continued after its flow, hanging up call=%s error=%s", run.call_id, problem)
            await asyncio.gather(leg.hang_up(), return_exceptions=True)  # better than endless silence
        except Exception:
            reason = "an internal error"
            log.exception(
                "flow failed, an internal error, hanging up call=%s flow=%s", run.call_id, run.flow_id or run.id
            )
            await asyncio.gather(leg.hang_up(), return_exceptions=True)
        finally:
            if not self._suspended:
                log.info("flow ended call=%s flow=%s reason=%s", run.call_id, run.flow_id or run.id, reason)
                variables = run.variables.shown
                self._services.records.update(run.call_id, action=None, variables=variables)
                events.publish("flow_ended", {**run.described(), "reason": reason, "variables": variables})
