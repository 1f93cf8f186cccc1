"""Actions about keys: digits_receive, digits_send, and what Voxology's COLLECT and PAUSE are made of."""

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
"""Where VoIPBIN keeps what was pressed."""
KEY_PRESSES = ("keyPresses", "keyPress")
"""Where Voxology does."""


def _check_digits(text: str) -> str:
    if not holds_variable(text) and not re.fullmatch(r"[0-9A-Da-d*#]{1,100}", text):
        raise ValueError(f"expected 1 to {MAX_DIGITS} keys: 0-9, A-D, * and #")
    return text


def _check_terminators(text: str) -> str:
    if not holds_variable(text) and not re.fullmatch(r"[0-9A-Da-d*#]{0,16}", text):
        raise ValueError("expected keys that end it: 0-9, A-D, * and #")
    return text


class DigitsReceiveOptions(Options):
    """Take keys from the caller."""

    duration: Annotated[
        int, Field(ge=0, le=MAX_DURATION_MS, description=f"milliseconds from 0 to {MAX_DURATION_MS}"), OR_VARIABLE
    ] = 5000
    key: Annotated[str, AfterValidator(_check_terminators), Field(description="keys that end it, for example #")] = ""
    length: Annotated[
        int, Field(ge=0, le=MAX_DIGITS, description=f"a number of keys from 0 to {MAX_DIGITS}"), OR_VARIABLE
    ] = 0


@action("digits_receive", options=DigitsReceiveOptions, needs_audio=True)
async def digits_receive(run: Run, options: DigitsReceiveOptions) -> None:
    """Take keys until there are ``length``, one of ``key`` (which is kept), or ``duration`` is over.

    Keys that were pressed before and that nobody took count. Without ``length`` and ``key``: one key.
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
    """Voxology's: the time counts anew after each key, and the key that ends it is not kept."""

    name: str = ""


@action("collect", options=CollectOptions, needs_audio=True, internal=True)
async def collect(run: Run, options: CollectOptions) -> None:
    """Take keys; the result is told to the server that is asked next."""
    wanted = options.length or MAX_DIGITS
    digits = ""
    while len(digits) < wanted:
        key = await run.leg.digits.get(options.duration / 1000)
        if key is None or key in options.key.upper():
            break
        digits += key
    remember(run, digits, options.name)


def remember(run: Run, digits: str, name: str) -> None:
    """Keep what was collected under the names of both syntaxes. It may be a PIN: the call's record does not show it."""
    for variable in (DIGITS, *KEY_PRESSES):
        run.variables.set(variable, digits, shown=False)
    if name:
        run.variables.set(name, digits, shown=False)
    run.key_presses.append({"name": name, "digits": digits})
    del run.key_presses[:-MAX_DIGITS]


class DigitsSendOptions(Options):
    """Press keys."""

    digits: Annotated[str, AfterValidator(_check_digits), Field(description=f"1 to {MAX_DIGITS} keys")]
    duration: Annotated[int, Field(ge=100, le=1000, description="milliseconds from 100 to 1000"), OR_VARIABLE] = 100
    interval: Annotated[int, Field(ge=0, le=5000, description="milliseconds from 0 to 5000"), OR_VARIABLE] = 100


@action("digits_send", options=DigitsSendOptions, needs_audio=True, after_restart="skip")
async def digits_send(run: Run, options: DigitsSendOptions) -> None:
    """Send keys to the caller's side; returns when they have sounded."""
    digits = options.digits.upper()
    if not re.fullmatch(r"[0-9A-D*#]{1,100}", digits):
        raise ActionFailed(f"digits: {digits[:40]!r} are no keys")
    await run.leg.send_digits(digits, duration_ms=options.duration, between_ms=options.interval)


class PauseParams(Options):
    """For how long: ``seconds``, or ``duration`` in milliseconds; one second if neither is given."""

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
            raise ValueError("seconds and duration are both given; expected one of them")
        return self


class PauseOptions(PauseParams):
    """And whether a digit ends it."""

    digits_handle: Literal["", "next"] = ""


@action("pause", options=PauseOptions, needs_audio=True, internal=True)
async def pause(run: Run, options: PauseOptions) -> None:
    """Do nothing for a while; ``digits_handle`` ``next``: until a digit comes, which stays to be collected."""
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
