"""The tool ``transfer``: blind, or attended, where a colleague accepts or declines the call by key.

In an attended transfer the caller hears music, and the model silence, until the colleague has decided. Unless the
colleague accepts, the caller returns to the model, which gets the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from bridge.agent_tools.tool import AgentCall, Tool, ToolFailed, ToolRefused, parameters
from bridge.audio.sound import Sound
from bridge.calls.addresses import Address
from bridge.calls.call_record import HangupReason
from bridge.config.agent_limits import AgentLimits
from bridge.control.legs import Leg, LegEnded
from bridge.control.originate import NotAnswered, OutboundCall
from bridge.errors import Overloaded
from bridge.speech.engine import SpeechFailed
from bridge.speech.fetch import SoundUnavailable
from bridge.tasks import first_of, shield_until_done

ACCEPT, DECLINE = "1", "2"
"""Keys of the colleague."""
MAX_ANNOUNCEMENT = 1000
_REASONS: Mapping[HangupReason, str] = {
    "busy": "is busy",
    "noanswer": "does not answer",
    "timeout": "does not answer",
    "dialout": "does not respond",
}


def describe_extensions(limits: AgentLimits) -> str:
    """Return the description of an argument that is an extension."""
    return f"The extension. Allowed: {', '.join(limits.transfer_to) or 'none'}"


def allowed_extension(call: AgentCall, extension: str) -> Address:
    """Return an extension that the model may reach.

    Raises:
        ToolRefused: the agent's limits, or the rules for originated calls, do not allow it.
    """
    if not call.limits.transfer_to.match(extension):
        allowed = ", ".join(call.limits.transfer_to) or "none"
        raise ToolRefused(f"the extension {extension[:80]!r} is not allowed; allowed: {allowed}")
    destination = Address("extension", extension)
    try:
        call.services.policy.endpoint_of(destination)
    except ValueError as problem:
        raise ToolRefused(str(problem)) from None
    return destination


def transfer(limits: AgentLimits) -> Tool:
    """Connect the caller with a colleague."""
    properties: dict[str, Mapping[str, Any]] = {
        "extension": {"type": "string", "description": describe_extensions(limits)}
    }
    blind = "You leave the call immediately: announce the transfer to the caller first."
    attended = (
        "The caller hears music while the colleague hears the announcement and accepts or declines. If the colleague "
        "declines or does not answer, you get the caller back, and the reason."
    )
    required: tuple[str, ...] = ("extension",)
    if limits.transfer_mode != "blind":
        without = " Omit it to connect the caller without asking." if limits.transfer_mode == "any" else ""
        properties["announcement"] = {
            "type": "string",
            "description": f"What the colleague is to know before deciding: who calls, and why.{without}",
            "minLength": 1,
            "maxLength": MAX_ANNOUNCEMENT,
        }
    if limits.transfer_mode == "attended":
        required = ("extension", "announcement")
    how = {"blind": blind, "attended": attended, "any": f"With an announcement: {attended} Without: {blind}"}
    return Tool(
        "transfer",
        f"Transfer the caller to a colleague. {how[limits.transfer_mode]}",
        parameters(required, **properties),
        _transfer,
    )


async def _transfer(call: AgentCall, arguments: Mapping[str, Any]) -> str:
    destination = allowed_extension(call, arguments["extension"])
    announcement = arguments.get("announcement")
    async with call.moving():
        leg = call.leg("transfer")
        try:
            if announcement is None:
                return await _blind(call, leg, destination)
            return await _attended(call, leg, destination, announcement)
        except NotAnswered as problem:
            why = _REASONS.get(problem.reason, f"cannot be reached: {problem}")
            raise ToolFailed(f"the extension {destination.target} {why}; the caller is back with you") from None
        except (ValueError, Overloaded) as problem:
            raise ToolFailed(f"{problem}; the caller is still with you") from None


async def _blind(call: AgentCall, leg: Leg, destination: Address) -> str:
    await call.spoken()
    outbound = await call.services.call_control.dial_for(leg, destination, token=call.principal.id)
    try:
        if outbound.leg.ended.is_set():
            await outbound.answered()  # raises the reason
        await call.leave(leg)
    except BaseException:
        await shield_until_done(outbound.cancel())
        raise
    call.services.call_control.connect_transfer(leg, outbound)
    return "transferred"


async def _attended(call: AgentCall, leg: Leg, destination: Address, announcement: str) -> str:
    sounds = await _sounds(call, announcement)
    await call.spoken()
    outbound: OutboundCall | None = None
    accepted = False
    try:
        await call.hold(leg)
        outbound = await call.services.call_control.dial_for(leg, destination, token=call.principal.id)
        colleague = await leg.unless_gone(outbound.answered())
        refusal = await leg.unless_gone(_ask(call, colleague, sounds))
        if refusal:
            raise ToolFailed(f"the colleague {refusal}; the caller is back with you")
        await call.leave(leg)
        accepted = True
    finally:
        undo = [call.resume(leg), *(() if accepted or outbound is None else (outbound.cancel(),))]
        await shield_until_done(asyncio.gather(*undo, return_exceptions=True))
    call.services.call_control.connect_transfer(leg, outbound)
    return "transferred"


async def _sounds(call: AgentCall, announcement: str) -> Sequence[Sound]:
    """Return the prompts for the colleague; synthesized before the caller is put on hold, as this may fail."""
    announcements = call.services.announcements
    try:
        return (
            await announcements.sentence(announcement),
            await announcements.sound(call.limits.transfer_prompt),
        )
    except (SpeechFailed, SoundUnavailable) as problem:
        raise ToolFailed(f"the announcement cannot be played: {problem}") from None


async def _ask(call: AgentCall, colleague: Leg, sounds: Sequence[Sound]) -> str:
    """Ask a colleague for a decision; return why the call was not accepted, empty if it was."""
    await colleague.hold_in_bridge()
    player = call.services.players.of(colleague)
    pressed = ""

    async def speak() -> None:
        for sound in sounds:
            await player.play(sound.pcm, sound.rate)
        await asyncio.sleep(call.limits.transfer_decision_s)

    async def decide() -> None:
        nonlocal pressed
        while pressed not in (ACCEPT, DECLINE):
            pressed = await colleague.digits.get() or ""

    try:
        await first_of(decide(), colleague.gone.wait(), speak())
    except LegEnded:
        pass
    finally:
        await player.close()
    if colleague.gone.is_set():
        return "hung up"
    return {ACCEPT: "", DECLINE: "declined"}.get(pressed, "did not decide")
