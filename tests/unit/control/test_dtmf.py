"""DTMF digits: in order, once each, bounded."""

from __future__ import annotations

import asyncio

from bridge.control.dtmf import MAX_WAITING, DigitQueue


async def test_in_order_once_each() -> None:
    digits = DigitQueue()
    for digit in "12#":
        digits.put(digit)
    assert [await digits.get(0.01) for _ in range(4)] == ["1", "2", "#", None]


async def test_who_waits_gets_the_next_one() -> None:
    digits = DigitQueue()
    waiting = asyncio.ensure_future(digits.get())
    await asyncio.sleep(0)
    digits.put("7")
    assert await asyncio.wait_for(waiting, 1) == "7"
    assert len(digits) == 0


async def test_who_gives_up_takes_none() -> None:
    digits = DigitQueue()
    waiting = asyncio.ensure_future(digits.get())
    await asyncio.sleep(0)
    waiting.cancel()
    digits.put("7")
    await asyncio.gather(waiting, return_exceptions=True)
    assert await digits.get(0) == "7"


async def test_the_oldest_go_when_nobody_takes_them_and_clear_forgets_all() -> None:
    digits = DigitQueue()
    for number in range(MAX_WAITING + 1):
        digits.put(str(number))
    assert len(digits) == MAX_WAITING
    assert await digits.get() == "1"
    digits.clear()
    assert await digits.get(0.01) is None


async def test_watchers_see_every_key_and_take_none() -> None:
    digits = DigitQueue()
    seen: list[str] = []
    stop = digits.watch(seen.append)
    digits.put("1")
    stop()
    stop()
    digits.put("2")
    assert seen == ["1"]
    assert [await digits.get(), await digits.get()] == ["1", "2"]
