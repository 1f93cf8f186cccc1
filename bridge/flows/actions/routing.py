"""Actions that connect other parties: connect (Voxology's TRANSFER), and Voxology's DIAL."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from bridge.audio import tones
from bridge.audit import FAILED
from bridge.calls.addresses import ADDRESS_TYPES, Address
from bridge.control.dial_policy import NotAllowed
from bridge.control.legs import Leg, LegEnded
from bridge.control.originate import NotAnswered, OutboundCall
from bridge.errors import AriError, BridgeError, Overloaded
from bridge.flows.action_registry import ActionFailed, Missing, action
from bridge.flows.action_settings import ActionSettings
from bridge.flows.actions.call import hang_up
from bridge.flows.actions.sound import SwitchOption
from bridge.flows.options import OR_VARIABLE, Options
from bridge.flows.program import End
from bridge.flows.variables import holds_variable
from bridge.tasks import shield_until_done

if TYPE_CHECKING:
    from bridge.calls.call_record import HangupReason
    from bridge.flows.interpreter import Run

log = logging.getLogger(__name__)

MAX_DESTINATIONS = 20
MAX_RING_S = 600
RINGBACK_S = 4.0
Prepare = Callable[[Leg, int], Awaitable[None]]
"""Called with the leg of the call that was answered, and the index of its destination."""
ShortText = Annotated[str, Field(max_length=1000, description="a string")]


class AddressOptions(Options):
    """VoIPBIN's address."""

    type: Annotated[
        Literal["", "tel", "sip", "extension", "conference"],
        Field(description=f"one of {', '.join(filter(None, ADDRESS_TYPES))}"),
        OR_VARIABLE,
    ] = ""
    target: Annotated[str, Field(max_length=255, description="a number, a URI, an extension or a conference's id")] = ""
    target_name: ShortText = ""
    name: ShortText = ""
    detail: ShortText = ""

    @property
    def address(self) -> Address:
        """The address as a value. An extension may be given by its ``target_name`` alone."""
        target = self.target or (self.target_name if self.type == "extension" else "")
        return Address(self.type, target, self.target_name, self.name, self.detail)


class ConnectOptions(Options):
    """Options of connect: the destinations, and how they are called."""

    source: AddressOptions | None = None
    destinations: Annotated[
        list[AddressOptions],
        Field(min_length=1, max_length=MAX_DESTINATIONS, description=f"a list of 1 to {MAX_DESTINATIONS} addresses"),
    ]
    early_media: SwitchOption = False
    relay_reason: SwitchOption = False
    anonymous: Annotated[Literal["", "yes", "no", "auto"], Field(description='"yes", "no" or "auto"'), OR_VARIABLE] = ""
    timeout: Annotated[int, Field(ge=0, le=MAX_RING_S, description=f"seconds from 0 to {MAX_RING_S}"), OR_VARIABLE] = 0


def _destinations(options: ConnectOptions, settings: ActionSettings) -> Missing:
    for index, destination in enumerate(options.destinations):
        kind, target = destination.type, destination.address.target
        try:
            if holds_variable(kind):
                continue
            if holds_variable(target):
                settings.policy.template_of(kind)
            else:
                settings.policy.endpoint_of(destination.address)
        except ValueError as problem:
            yield f"destinations[{index}]", str(problem)


@action("connect", options=ConnectOptions, needs=_destinations)
async def connect(run: Run, options: ConnectOptions) -> End | None:
    """Dial all destinations simultaneously, and connect the caller with the first that answers, until one side leaves.

    Sets ``connect.reason`` to why no one answered (``busy``, ``noanswer``...), or ``normal``, and ``connect.call_id``
    to the id of the connected call. With ``relay_reason`` the caller is hung up with that reason.
    """
    return await connect_prepared(run, options)


async def connect_prepared(run: Run, options: ConnectOptions, prepare: Prepare | None = None) -> End | None:
    """Connect as `connect` does, after preparing the call that was answered.

    Args:
        run: the flow.
        options: whom to call, and how.
        prepare: runs on the call that was answered, before the two are connected.
    """
    await run.stop_playback()
    # After a restart the two may still be connected. A destination that was ringing has been hung up, and is dialed
    # again.
    partner = run.services.legs.get(run.variables.get("connect.call_id")) if run.resumed else None
    if partner is None or not partner.answered:
        run.variables.set("connect.call_id", "")
    reason: HangupReason = "normal"
    preparing: Callable[[], Awaitable[None]] | None = None
    try:
        if partner is None or not partner.answered:
            partner, index = await _first_answer(run, options)
            preparing = partial(prepare, partner, index) if prepare is not None else None
    except NotAnswered as problem:
        reason = problem.reason
    if partner is not None:
        await _talk(run, partner, preparing)
    run.variables.set("connect.reason", reason)
    if options.relay_reason:
        await hang_up(run, reason)
        return End(f"hung up: {reason}")
    return None


async def _first_answer(run: Run, options: ConnectOptions) -> tuple[Leg, int]:
    """Return the first leg that answers, and the index of its destination.

    Raises:
        NotAnswered: no destination answered; with the first one's reason.
    """
    bridge: str | None = None
    if options.early_media and len(options.destinations) == 1:
        bridge = await run.leg.hold_in_bridge()
    calls = _Calls()
    ringback = await _let_ring(run, silent=bridge is not None)
    try:
        try:
            for index, destination in enumerate(options.destinations):
                await calls.originate(run, options, destination.address, index, bridge)
            winner = await calls.first()
        finally:
            await shield_until_done(_stop_ringing(run, ringback, calls))
        if not run.leg.answered:
            await run.leg.ring_stop()
    except BaseException:
        if calls.winner is not None:  # the caller left at the time of the answer
            await _hang_up(calls.winner)
        raise
    return winner


async def _let_ring(run: Run, *, silent: bool) -> asyncio.Task[None]:
    """Indicate ringing to the caller: by signaling before the call is answered, by a tone afterwards."""

    async def tone() -> None:
        sound = tones.ringback(RINGBACK_S)
        while not silent:
            await run.speak(sound.pcm, sound.rate)
        await asyncio.Event().wait()

    if run.leg.answered:
        await run.leg.hold_in_bridge()
        return asyncio.ensure_future(tone())
    await run.leg.ring()
    return asyncio.ensure_future(asyncio.sleep(0))


async def _stop_ringing(run: Run, ringback: asyncio.Task[None], calls: _Calls) -> None:
    """Stop dialing the destinations that have not answered, and the caller's ringing tone."""
    ringback.cancel()
    outcome, _ = await asyncio.gather(ringback, calls.give_up(), return_exceptions=True)
    if isinstance(outcome, Exception) and not isinstance(outcome, LegEnded):
        log.warning("ringing tone failed, still dialing call=%s error=%s", run.call_id, outcome)
    await run.stop_playback()


def _not_originated(run: Run, to: Address, problem: Exception) -> None:
    log.warning("destination cannot be dialed call=%s to=%s error=%s", run.call_id, to, problem)
    run.audit("call.originate", FAILED, destinations=[str(to)], reason=str(problem))


class _Calls:
    """The calls to all destinations of one ``connect``."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Task[Leg], OutboundCall] = {}
        self._indexes: dict[asyncio.Task[Leg], int] = {}
        self._reasons: dict[int, HangupReason] = {}
        self.winner: Leg | None = None
        """The leg that answered first."""

    async def originate(self, run: Run, options: ConnectOptions, to: Address, index: int, bridge: str | None) -> None:
        """Dial one destination; if that is impossible, its reason is ``failed``."""
        source = options.source.address if options.source is not None else None
        record = run.services.records.get(run.leg.id)
        try:
            # A flow may always show the number of its own caller.
            if source is not None and (record is None or source.target != record.source.target):
                run.services.originator.check(to, source)
                if not run.flow_id and not run.principal.shows(source.target):  # a configured flow may show any number
                    raise NotAllowed(
                        f"source: the token {run.principal.id} may not use this caller ID; caller_ids lists others"
                    )
        except ValueError as problem:
            _not_originated(run, to, problem)
            self._reasons[index] = "failed"
            return
        originating = asyncio.ensure_future(
            run.services.originator.originate(
                to,
                source=source,
                anonymous=options.anonymous == "yes",
                timeout_s=options.timeout or None,
                originator=run.leg.id,
                early_media_bridge=bridge,
                token=run.principal.id,
            )
        )
        try:
            outbound = await asyncio.shield(originating)
        except asyncio.CancelledError:
            # A destination that is dialed by now must stop ringing.
            (late,) = await asyncio.gather(originating, return_exceptions=True)
            if not isinstance(late, BaseException):
                run.audit("call.originate", destinations=[str(to)], calls=[late.id])
                await late.cancel()
            raise
        except NotAnswered as problem:
            run.audit("call.originate", destinations=[str(to)])
            self._reasons[index] = problem.reason
            return
        except (ValueError, Overloaded, AriError) as problem:
            _not_originated(run, to, problem)
            self._reasons[index] = "failed"
            return
        run.audit("call.originate", destinations=[str(to)], calls=[outbound.id])
        task = asyncio.ensure_future(outbound.answered())
        self._waiting[task], self._indexes[task] = outbound, index

    async def first(self) -> tuple[Leg, int]:
        """Wait for the first answer; return the leg, and the index of its destination.

        Raises:
            NotAnswered: no destination answered.
        """
        while self._waiting:
            done, _ = await asyncio.wait(self._waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=self._indexes.__getitem__):
                problem = task.exception()
                if problem is None:
                    del self._waiting[task]
                    self.winner = task.result()
                    return self.winner, self._indexes[task]
                del self._waiting[task]
                self._reasons[self._indexes[task]] = problem.reason if isinstance(problem, NotAnswered) else "failed"
        raise NotAnswered(self._reasons[min(self._reasons)])

    async def give_up(self) -> None:
        """End all other calls."""
        for task in self._waiting:
            task.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)
        elsewhere = self.winner is not None
        cancels = (each.cancel(answered_elsewhere=elsewhere) for each in self._waiting.values())
        for result in await asyncio.gather(*cancels, return_exceptions=True):
            if isinstance(result, Exception):
                log.warning("hangup of a dialed call failed error=%s", result)


async def _talk(run: Run, partner: Leg, prepare: Callable[[], Awaitable[None]] | None) -> None:
    """Prepare the partner, and connect caller and partner until one of them leaves."""
    streams = run.services.streams
    try:
        run.variables.set("connect.call_id", partner.id)
        run.keep(run)
        if prepare is not None:
            await prepare()
        await run.leg.hold_in_bridge()
        partners = await run.services.legs.bridge_together(run.leg, partner)
        streams.transfer_joined(run.leg, partner)
        try:
            await partners.peer_left()
        finally:
            streams.transfer_left(run.leg)
    except LegEnded:
        if run.leg.gone.is_set():
            raise
    finally:
        await _hang_up(partner)


async def _hang_up(leg: Leg) -> None:
    if not leg.gone.is_set():
        with contextlib.suppress(LegEnded):
            await leg.hang_up()


class DialOptions(Options):
    """Options of DIAL: the destination, for a separate flow."""

    no: Annotated[str, Field(min_length=1, max_length=255, description="a number")]
    caller_id_no: Annotated[str, Field(max_length=255, description="a number")] = ""
    session_data: dict[str, Any] | None = None
    timeout: Annotated[int, Field(ge=0, le=MAX_RING_S, description=f"seconds from 0 to {MAX_RING_S}"), OR_VARIABLE] = 0


def _flow_and_number(options: DialOptions, settings: ActionSettings) -> Missing:
    if not settings.voxology_flow:
        yield "", "requires voxology.flow, the flow that the called party runs"
    try:
        if holds_variable(options.no):
            settings.policy.template_of("tel")
        else:
            settings.policy.endpoint_of(Address("tel", options.no))
    except ValueError as problem:
        yield "no", str(problem)


@action("dial", options=DialOptions, needs=_flow_and_number, internal=True, after_restart="skip")
async def dial(run: Run, options: DialOptions) -> None:
    """Originate another call that runs the flow of ``voxology.flow``; this flow continues immediately."""
    data = run.variables.session_data if options.session_data is None else options.session_data
    try:
        record = await run.flows.dial_connect(
            options.no,
            principal=run.principal,
            caller_id=options.caller_id_no,
            session_data=data,
            timeout_s=options.timeout or None,
        )
    except (LookupError, ValueError, BridgeError) as problem:
        reason = str(problem.args[0] if problem.args else problem)
        run.audit("call.originate", FAILED, destinations=[f"tel {options.no}"], reason=reason)
        if isinstance(problem, BridgeError):
            raise
        raise ActionFailed(reason) from None
    run.audit("call.originate", destinations=[f"tel {options.no}"], calls=[record.id])
    run.variables.set("dial.call_id", record.id)
