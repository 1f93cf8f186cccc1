"""Actions on the call itself: answer, hangup, mute, sensitive_start and sensitive_stop, amd."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from bridge.calls.call_record import HangupReason
from bridge.control.legs import LegEnded
from bridge.control.sensitive import DEFAULT_TIMEOUT_S, MAX_TIMEOUT_S
from bridge.flows.action_registry import action, dialplan_entry
from bridge.flows.actions.sound import NoOptions, SwitchOption
from bridge.flows.checking import is_set
from bridge.flows.options import OR_VARIABLE, Options
from bridge.flows.program import End

if TYPE_CHECKING:
    from bridge.flows.interpreter import Run

ARI_REASONS: dict[HangupReason, str] = {
    "normal": "normal",
    "busy": "busy",
    "failed": "congestion",
    "noanswer": "no_answer",
    "timeout": "no_answer",
    "cancel": "normal",
    "dialout": "normal",
    "amd": "normal",
}
"""Asterisk's hangup reason for each of VoIPBIN's."""
Reason = Annotated[
    Literal["", "normal", "busy", "failed", "noanswer", "timeout", "cancel", "dialout", "amd"],
    Field(description=f"one of {', '.join(ARI_REASONS)}"),
    OR_VARIABLE,
]


@action("answer", options=NoOptions)
async def answer(run: Run, _: NoOptions) -> None:
    """Answer the call."""
    await run.leg.answer()


class HangupOptions(Options):
    """Options of hangup."""

    reason: Reason = ""
    reference_id: Annotated[str, Field(max_length=200, description="the id of a call whose reason is taken")] = ""


@action("hangup", "hangup_relay", options=HangupOptions)
async def hangup(run: Run, options: HangupOptions) -> End:
    """End the call; reject an unanswered one with the reason."""
    reason: HangupReason = options.reason or "normal"
    if is_set(options.reference_id):
        record = run.services.records.get(options.reference_id)
        reason = (record.hangup_reason if record is not None else "") or reason
    await hang_up(run, reason)
    return End(f"hung up: {reason}")


async def hang_up(run: Run, reason: HangupReason) -> None:
    """End the call for one of VoIPBIN's reasons."""
    run.hanging_up = f"hung up: {reason}"
    await run.stop_playback()
    recorded: HangupReason = "" if reason == "normal" else reason  # empty: derived from the course of the call
    await run.leg.hang_up(ARI_REASONS.get(reason, "normal"), recorded=recorded)


class MuteOptions(Options):
    """Options of mute."""

    direction: Annotated[Literal["in", "out", "both"], Field(description='"in", "out" or "both"'), OR_VARIABLE] = "in"


@action("mute", options=MuteOptions, needs_audio=True, after_restart="skip")
async def mute(run: Run, options: MuteOptions) -> None:
    """Mute the audio from the caller (``in``), to the caller (``out``), or both."""
    await run.leg.mute(options.direction)


class SensitiveOptions(Options):
    """Options of sensitive_start."""

    duration: Annotated[
        int,
        Field(ge=1, le=MAX_TIMEOUT_S, description=f"seconds from 1 to {MAX_TIMEOUT_S}"),
        OR_VARIABLE,
    ] = DEFAULT_TIMEOUT_S


@action("sensitive_start", options=SensitiveOptions, after_restart="skip")
async def sensitive_start(run: Run, options: SensitiveOptions) -> None:
    """Withhold the call's audio and digits from applications and recordings; only actions of the flow get digits."""
    await _in_call(run, run.services.sensitive.start(run.leg.id, options.duration))


@action("sensitive_stop", options=NoOptions, after_restart="skip")
async def sensitive_stop(run: Run, _: NoOptions) -> None:
    """End sensitive mode; without it, do nothing."""
    await _in_call(run, run.services.sensitive.stop(run.leg.id))


async def _in_call(run: Run, act: Awaitable[None]) -> None:
    try:
        await act
    except KeyError:
        raise LegEnded(f"{run.leg.id} has ended") from None


class AmdOptions(Options):
    """Options of amd."""

    machine_handle: Annotated[
        Literal["", "hangup", "continue"], Field(description='"hangup" or "continue"'), OR_VARIABLE
    ] = ""
    async_: Annotated[SwitchOption, Field(alias="async")] = False


@action("amd", options=AmdOptions, needs=dialplan_entry)
async def amd(run: Run, options: AmdOptions) -> End | None:
    """Detect whether a person or a machine has answered, with Asterisk's ``AMD()``; takes some seconds.

    Sets ``amd.status`` to ``HUMAN``, ``MACHINE``, ``NOTSURE`` or ``HANGUP``, and ``amd.cause`` to Asterisk's reason.
    """
    await run.leg.answer()
    await run.stop_playback()
    await run.leg.visit_dialplan("amd")
    status = await run.leg.get_variable("AMDSTATUS")
    run.variables.set("amd.status", status)
    run.variables.set("amd.cause", await run.leg.get_variable("AMDCAUSE"))
    if status == "MACHINE" and options.machine_handle == "hangup":
        await hang_up(run, "amd")
        return End("hung up: amd")
    return None
