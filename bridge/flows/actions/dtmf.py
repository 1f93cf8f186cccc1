"""DTMF actions: digits_receive, digits_send, and those behind Voxology's COLLECT and PAUSE."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from bridge.flows.action_registry import ActionFailed, action
from bridge.flows.options import MAX_DURATION_MS, OR_VARIABLE, Options
from bridge.flows.variables import holds_variable

if TYPE_CHECKING:
    from bridge.flows.interpreter import Run

MAX_DIGITS = 100
DIGITS = "voipbin.call.digits"
"""VoIPBIN's variable with the received digits."""
KEY_PRESSES = ("keyPresses", "keyPress")
"""Voxology's variables with the received digits."""


def _check_digits(text: str) -> str:
    if not holds_variable(text) and not re.fullmatch(r"[0-9A-Da-d*#]{1,100}", text):
        raise ValueError(f"expected 1 to {MAX_DIGITS} DTMF digits: 0-9, A-D, * and #")
    return text


def _check_terminators(text: str) -> str:
    if not holds_variable(text) and not re.fullmatch(r"[0-9A-Da-d*#]{0,16}", text):
        raise ValueError("expected DTMF digits that end the input: 0-9, A-D, * and #")
    return text


class DigitsReceiveOptions(Options):
    """Options of digits_receive."""

    duration: Annotated[
        int, Field(ge=0, le=MAX_DURATION_MS, description=f"milliseconds from 0 to {MAX_DURATION_MS}"), OR_VARIABLE
    ] = 5000
    key: Annotated[
        str, AfterValidator(_check_terminators), Field(description="DTMF digits that end the input, for example #")
    ] = ""
    length: Annotated[
        int, Field(ge=0, le=MAX_DIGITS, description=f"a number of digits from 0 to {MAX_DIGITS}"), OR_VARIABLE
    ] = 0


@action("digits_receive", options=DigitsReceiveOptions, needs_audio=True)
async def digits_receive(run: Run, options: DigitsReceiveOptions) -> None:
    """Receive DTMF until there are ``length`` digits, one of ``key`` (which is kept), or ``duration`` has passed.

    Digits that arrived earlier and were not consumed count. Without ``length`` and ``key``: one digit.
    """
    wanted = options.length or (MAX_DIGITS if options.key else 1)
    deadline = asyncio.get_running_loop().time() + options.duration / 1000
    digits = ""
    while len(digits) < wanted:
        left_s = deadline - asyncio.get_running_loop().time()
        key = await run.leg.digits.get(max(left_s, 0))
        if key is None:
            break
        digits += key
        if key in options.key.upper():
            break
    remember(run, digits, "")


class CollectOptions(DigitsReceiveOptions):
    """Options of Voxology's COLLECT: the timeout restarts after each digit, and the ending digit is not kept."""

    name: str = ""


@action("collect", options=CollectOptions, needs_audio=True, internal=True)
async def collect(run: Run, options: CollectOptions) -> None:
    """Receive DTMF; the next request to the server carries the digits."""
    wanted = options.length or MAX_DIGITS
    digits = ""
    while len(digits) < wanted:
        key = await run.leg.digits.get(options.duration / 1000)
        if key is None or key in options.key.upper():
            break
        digits += key
    remember(run, digits, options.name)


def remember(run: Run, digits: str, name: str) -> None:
    """Store received digits in the variables of both syntaxes; they may be a PIN, so the call's record omits them."""
    for variable in (DIGITS, *KEY_PRESSES):
        run.variables.set(variable, digits, shown=False)
    if name:
        run.variables.set(name, digits, shown=False)
    run.key_presses.append({"name": name, "digits": digits})
    del run.key_presses[:-MAX_DIGITS]


class DigitsSendOptions(Options):
    """Options of digits_send."""

    digits: Annotated[str, AfterValidator(_check_digits), Field(description=f"1 to {MAX_DIGITS} DTMF digits")]
    duration: Annotated[int, Field(ge=100, le=1000, description="milliseconds from 100 to 1000"), OR_VARIABLE] = 100
    interval: Annotated[int, Field(ge=0, le=5000, description="milliseconds from 0 to 5000"), OR_VARIABLE] = 100


@action("digits_send", options=DigitsSendOptions, needs_audio=True, after_restart="skip")
async def digits_send(run: Run, options: DigitsSendOptions) -> None:
    """Send DTMF to the caller; return when all digits have been sent."""
    digits = options.digits.upper()
    if not re.fullmatch(r"[0-9A-D*#]{1,100}", digits):
        raise ActionFailed(f"digits: {digits[:40]!r} are not DTMF digits")
    await run.leg.send_digits(digits, duration_ms=options.duration, between_ms=options.interval)


class PauseParams(Options):
    """Options of PAUSE: ``seconds``, or ``duration`` in milliseconds; one second if neither is given."""

    seconds: Annotated[
        float | None,
        Field(ge=0, le=MAX_DURATION_MS / 1000, description=f"seconds from 0 to {MAX_DURATION_MS // 1000}"),
        OR_VARIABLE,
    ] = None
    duration: Annotated[
        int | None,
        Field(ge=0, le=MAX_DURATION_MS, description=f"milliseconds from 0 to {MAX_DURATION_MS}"),
        OR_VARIABLE,
    ] = None

    @model_validator(mode="after")
    def _one_of_them(self) -> PauseParams:
        if self.seconds is not None and self.duration is not None:
            raise ValueError("give either seconds or duration, not both")
        return self


class PauseOptions(PauseParams):
    """Options of pause: also whether a digit ends it."""

    digits_handle: Literal["", "next"] = ""


@action("pause", options=PauseOptions, needs_audio=True, internal=True)
async def pause(run: Run, options: PauseOptions) -> None:
    """Wait; with ``digits_handle`` ``next`` only until a digit arrives, which remains to be collected."""
    seconds = 1.0 if options.seconds is None else options.seconds
    if options.duration is not None:
        seconds = options.duration / 1000
    pressed = asyncio.Event()
    digits = run.leg.digits
    unwatch = digits.watch(lambda _: pressed.set()) if options.digits_handle else None
    try:
        if unwatch is None or not len(digits):
            async with asyncio.timeout(seconds):
                await pressed.wait()
    except TimeoutError:
        pass
    finally:
        if unwatch is not None:
            unwatch()
