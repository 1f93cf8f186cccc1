"""Waits for states in real time: of other processes, threads and sockets, which report no event."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

PATIENCE_S = 60.0
"""A wait for a state costs nothing when the state comes: only a busy machine uses this up."""
POLL_S = 0.01

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
