"""A call of a real phone through Asterisk, judged by what the phone hears of itself."""

from __future__ import annotations

import asyncio
import re
from itertools import pairwise

from bridge.testing import modem
from bridge.testing.lab_engine import Lab
from bridge.testing.phone import RATE, Samples

PHONE = "1001"
GROUP_S = 4 * modem.BITS_PER_CHARACTER / modem.BAUD
"""How long one number of three digits and a comma sounds."""
MAX_BROKEN = 2
"""Numbers in a row that may be broken: a hole of 100 ms touches two of them."""
BEFORE_S, AFTER_S = 1.5, 1.0


class PhoneCall:
    """A phone that counts aloud by modem tones, and hears its own voice from the echo application.

    Args:
        lab: where the phone is.
        number: what it dials.
        seconds: how long it is to count, beside a little before and after.
    """

    def __init__(self, lab: Lab, number: str, seconds: float) -> None:
        self._phone = lab.phone(PHONE)
        self._number = number
        self._count = round((BEFORE_S + seconds + AFTER_S + 4) / GROUP_S)

    async def begin(self) -> None:
        """Call; return when the call is answered and the phone has begun to count."""
        await self._phone.start()
        self._phone.forget()
        text = "".join(f"{number:03d}," for number in range(self._count))
        await self._phone.call(self._number, play=modem.modulate(text, RATE, lead_s=0.5))
        await self._phone.answered()
        await asyncio.sleep(BEFORE_S)

    async def end(self) -> Samples:
        """Hang up; return what the phone has heard."""
        await asyncio.sleep(AFTER_S)
        await self._phone.hangup()
        return self._phone.recording()

    @staticmethod
    def judge(heard: Samples) -> list[str]:
        """Return what is wrong with what the phone has heard, in words."""
        text = modem.decode(heard, RATE).text
        numbers = [int(number) for number in re.findall(r"(?<![0-9])([0-9]{3}),", text)]
        if len(numbers) < 2:
            return [f"the phone heard nothing of itself: {text[:80]!r}"]
        broken = max(after - before - 1 for before, after in pairwise(numbers))
        if min(after - before for before, after in pairwise(numbers)) < 1:
            return [f"the phone heard itself twice or out of order: {numbers}"]
        if broken > MAX_BROKEN:
            return [f"the phone missed {broken} numbers in a row ({broken * GROUP_S:.2f} s): {numbers}"]
        return []
