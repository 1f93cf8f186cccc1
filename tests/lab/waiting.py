"""Waits for states of other processes, which report no event, and for audio to flow."""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

from bridge.testing.phone import RATE, Phone, PhoneError

PATIENCE_S = 60.0
"""A wait for a state costs nothing when the state comes: only a busy machine uses this up."""
POLL_S = 0.02
WAV_HEADER_BYTES = 44

T = TypeVar("T")


@overload
async def until(condition: Callable[[], Awaitable[T]], timeout_s: float = ...) -> T: ...


@overload
async def until(condition: Callable[[], T], timeout_s: float = ...) -> T: ...


async def until(condition: Callable[[], T | Awaitable[T]], timeout_s: float = PATIENCE_S) -> T:
    """Wait until a condition holds.

    Args:
        condition: a function, or a coroutine function.

    Returns:
        What the condition returned.

    Raises:
        AssertionError: it did not hold in time; the message holds what it returned last.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        found = condition()
        held: T = await found if inspect.isawaitable(found) else found
        if held:
            return held
        assert loop.time() < deadline, f"not within {timeout_s:g} s; last was {held!r}"
        await asyncio.sleep(POLL_S)


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
