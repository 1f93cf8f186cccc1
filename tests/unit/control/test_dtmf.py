"""Keys: in order, once each, bounded."""

from __future__ import annotations

import asyncio

from bridge.control.dtmf import MAX_WAITING, Keys


async def test_in_order_once_each() -> None:
    keys = Keys()
    for digit in "12#":
        keys.press(digit)
    assert [await keys.get(0.01) for _ in range(4)] == ["1", "2", "#", None]


async def test_who_waits_gets_the_next_one() -> None:
    keys = Keys()
    waiting = asyncio.ensure_future(keys.get())
    await asyncio.sleep(0)
    keys.press("7")
    assert await asyncio.wait_for(waiting, 1) == "7"
    assert len(keys) == 0


async def test_who_gives_up_takes_none() -> None:
    keys = Keys()
    waiting = asyncio.ensure_future(keys.get())
    await asyncio.sleep(0)
    waiting.cancel()
    keys.press("7")
    await asyncio.gather(waiting, return_exceptions=True)
    assert await keys.get(0) == "7"


async def test_the_oldest_go_when_nobody_takes_them_and_clear_forgets_all() -> None:
    keys = Keys()
    for number in range(MAX_WAITING + 1):
        keys.press(str(number))
    assert len(keys) == MAX_WAITING
    assert await keys.get() == "1"
    keys.clear()
    assert await keys.get(0.01) is None


async def test_watchers_see_every_key_and_take_none() -> None:
    keys = Keys()
    seen: list[str] = []
    stop = keys.watch(seen.append)
    keys.press("1")
    stop()
    stop()
    keys.press("2")
    assert seen == ["1"]
    assert [await keys.get(), await keys.get()] == ["1", "2"]
