"""Waits for states of a real Asterisk and its phones, and for audio to flow."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from bridge.testing.phone import RATE, Phone, PhoneError
from tests.waiting import PATIENCE_S, POLL_S, until

__all__ = ["PATIENCE_S", "WAV_HEADER_BYTES", "random_moment", "sends", "sent_s", "stays", "until"]

WAV_HEADER_BYTES = 44


async def stays(condition: Callable[[], object], seconds: float) -> None:
    """Check that a condition holds all the time: what must not happen reports nothing that a test could wait for.

    Args:
        condition: a function.
        seconds: how long it has to hold. A busy machine only makes the check weaker.

    Raises:
        AssertionError: it did not hold.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while loop.time() < deadline:
        assert condition()
        await asyncio.sleep(POLL_S)
    assert condition()


def sent_s(phone: Phone) -> float:
    """Return for how many seconds a phone has sent audio in its call so far."""
    try:
        size = phone.recording_path("enc").stat().st_size
    except PhoneError:  # there is no file yet
        return 0.0
    return max(0, size - WAV_HEADER_BYTES) / 2 / RATE


async def sends(phone: Phone, seconds: float) -> None:
    """Wait until a phone in a call has sent this much more audio.

    The call's own clock: on a busy machine what is judged afterwards lasts as long as on an idle one.
    """
    wanted = sent_s(phone) + seconds
    await until(lambda: sent_s(phone) >= wanted, PATIENCE_S + seconds)


async def random_moment(chance: random.Random, most_s: float) -> None:
    """Let a random time pass: where a test is about events that come at any moment."""
    await asyncio.sleep(chance.uniform(0, most_s))  # no state: the moment is what a test tries
