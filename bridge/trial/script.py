"""What the caller of a trial does: wait for a greeting, speak, interrupt the answer, send DTMF."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from msgspec import Struct

from bridge.audio.sound import Sound
from bridge.trial.checks import FAILED, NOT_JUDGED, PASSED, Check
from bridge.trial.exchange import Exchange
from bridge.trial.handset import Handset

GREETING_S = 3.0
"""How long the caller waits for a greeting, in seconds."""
QUIET_S = 0.7
"""Silence after which the other party has finished, in seconds."""
MAX_TURN_S = 20.0
"""How long the caller listens to one answer, in seconds."""
LISTENS_S = 0.8
"""How long the caller listens to an answer before the interruption, in seconds."""
INTERRUPTED_S = 2.0
"""Within this time after the interruption the application must be silent, in seconds."""
PAUSED_S = 0.3
"""Silence that ends an interrupted answer, in seconds."""
STEP_S = 0.02


class Plan(Struct, frozen=True):
    """The behavior of the scripted caller.

    Args:
        speech: audio of the caller.
        digits: DTMF digits of the caller.
        answer_s: limit for the beginning of an answer, in seconds.
        two_way: the application may speak.
    """

    speech: Sound
    digits: str = "5"
    answer_s: float = 5.0
    two_way: bool = True


class Ended(Exception):
    """The application has ended the stream."""


class Script:
    """One conversation.

    Args:
        plan: what the caller does.
        handset: sends and receives audio.
        exchange: prints.
        send_digit: sends a digit; returns whether the dialect carries digits.
        ended: returns whether the connection has ended.
    """

    def __init__(
        self,
        plan: Plan,
        handset: Handset,
        exchange: Exchange,
        send_digit: Callable[[str], bool],
        ended: Callable[[], bool],
    ) -> None:
        self._plan = plan
        self._handset = handset
        self._exchange = exchange
        self._send_digit = send_digit
        self._ended = ended
        self._echoes = False

    async def run(self, report: Callable[[Check], None]) -> None:
        """Hold the conversation, and report each judgment.

        Raises:
            Ended: the application has ended it early.
        """
        if not self._plan.two_way:
            await self._speak()
            await self._until(lambda: not self._handset.speaks, self._plan.speech.seconds + 1)
            report(await self._dtmf())
            return
        await self._greeting()
        answer = await self._answer()
        report(answer)
        report(await self._interruption(answered=answer.outcome == PASSED))
        await self._until(self._finished, MAX_TURN_S)
        report(await self._dtmf())

    async def _greeting(self) -> None:
        began = self._exchange.began
        if await self._until(lambda: self._handset.received_since(began) is not None, GREETING_S):
            heard = self._handset.received_since(began) or began
            self._exchange.note(f"greeting after {(heard - began) * 1000:.0f} ms")
            await self._until(self._finished, MAX_TURN_S)
        self._exchange.note("the line is quiet")

    async def _answer(self) -> Check:
        began = time.monotonic()
        await self._speak()
        limit_s = self._plan.speech.seconds + self._plan.answer_s
        if not await self._until(lambda: self._handset.received_since(began) is not None, limit_s):
            return Check("answer", FAILED, f"no sound within {self._plan.answer_s:g} s after the caller spoke")
        heard = self._handset.received_since(began) or began
        late_s = heard - (began + self._plan.speech.seconds)
        self._echoes = late_s < 0
        if self._echoes:
            return Check("answer", PASSED, f"sound {(heard - began) * 1000:.0f} ms after the caller began, as an echo")
        return Check("answer", PASSED, f"sound {late_s * 1000:.0f} ms after the caller's last word")

    async def _interruption(self, *, answered: bool) -> Check:
        if not answered or self._echoes:
            why = "the application sends sound while the caller speaks" if self._echoes else "there was no answer"
            return Check("interruption", NOT_JUDGED, why)
        handset = self._handset
        await self._until(lambda: handset.quiet_s > PAUSED_S, LISTENS_S)
        if handset.quiet_s > PAUSED_S:
            return Check("interruption", NOT_JUDGED, f"the answer was shorter than {LISTENS_S:g} s")
        self._exchange.note("the caller interrupts")
        began = time.monotonic()
        await self._speak()
        stopped = await self._until(lambda: handset.quiet_s > PAUSED_S, INTERRUPTED_S + PAUSED_S)
        took_ms = max(0.0, time.monotonic() - handset.quiet_s - began) * 1000
        await self._until(lambda: not handset.speaks, self._plan.speech.seconds + 1)
        if not stopped:
            text = f"sound for more than {INTERRUPTED_S:g} s after the caller had begun"
            return Check("interruption", FAILED, f"{text}. Expected: a clear message, or no more audio")
        silent = f"silent {took_ms:.0f} ms after the caller began"
        if handset.playout.cleared_at < began:
            return Check("interruption", NOT_JUDGED, f"{silent} without a clear message: perhaps the end of the answer")
        return Check("interruption", PASSED, f"{silent}, {handset.playout.cleared_ms:.0f} ms of audio cleared")

    async def _dtmf(self) -> Check:
        began, received = time.monotonic(), self._exchange.received
        for digit in self._plan.digits:
            self._exchange.note(f"the caller sends the digit {digit}")
            if not self._send_digit(digit):
                return Check("dtmf", NOT_JUDGED, "the dialect does not carry digits in this direction")
            await self._until(lambda: False, 0.2)
        if not self._plan.digits or not self._plan.two_way:
            return Check("dtmf", NOT_JUDGED, "the application cannot respond")

        def responded() -> bool:
            return self._exchange.received > received or self._handset.received_since(began) is not None

        if not await self._until(responded, self._plan.answer_s):
            return Check("dtmf", FAILED, f"no message and no sound within {self._plan.answer_s:g} s after the digits")
        took_ms = (time.monotonic() - began) * 1000
        await self._until(self._finished, MAX_TURN_S)
        return Check("dtmf", PASSED, f"a response after {took_ms:.0f} ms")

    async def _speak(self) -> None:
        self._exchange.note(f"the caller speaks for {self._plan.speech.seconds:.1f} s")
        self._handset.speak(self._plan.speech)

    def _finished(self) -> bool:
        return self._handset.quiet_s > QUIET_S and not self._handset.speaks

    async def _until(self, condition: Callable[[], bool], limit_s: float) -> bool:
        """Wait for a condition; return whether it is true."""
        deadline = time.monotonic() + limit_s
        while not condition():
            if self._ended():
                raise Ended
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(STEP_S)
        return True
