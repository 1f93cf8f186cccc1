"""Keys of an application: in order, joined, bounded, and gone with their stream."""

from __future__ import annotations

import asyncio

from bridge.media.counters import Counters
from bridge.streams.dtmf_queue import MAX_QUEUED_DIGITS, DtmfQueue


class Pbx:
    """Takes keys only when it is let."""

    def __init__(self) -> None:
        self.pressed: list[str] = []
        self.at_once = 0
        self.most_at_once = 0
        self.let = asyncio.Event()
        self.counters = Counters()
        self.keys = DtmfQueue(self.press, self.counters)

    async def press(self, digits: str) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.let.wait()
            if digits == "D":
                raise RuntimeError("no such channel")
            self.pressed.append(digits)
        finally:
            self.at_once -= 1


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_keys_are_pressed_in_order_one_request_at_a_time_and_joined() -> None:
    pbx = Pbx()
    pbx.keys.add("1")
    await turns()
    for digit in "23456":
        pbx.keys.add(digit)
        await turns()
    pbx.let.set()
    await turns()
    assert pbx.pressed == ["1", "23456"]
    assert pbx.most_at_once == 1
    pbx.keys.add("7")
    await turns()
    assert pbx.pressed == ["1", "23456", "7"]


async def test_what_waits_is_bounded_and_the_rest_counted() -> None:
    pbx = Pbx()
    pbx.keys.add("#")
    await turns()
    for _ in range(20_000):
        pbx.keys.add("1")
    assert len(pbx.keys) == MAX_QUEUED_DIGITS
    assert pbx.counters.keys_dropped == 20_000 - MAX_QUEUED_DIGITS
    pbx.let.set()
    await turns()
    assert pbx.pressed == ["#", "1" * MAX_QUEUED_DIGITS]


async def test_what_asterisk_has_not_sounded_yet_is_bounded_too() -> None:
    pbx = Pbx()
    pbx.let.set()
    for _ in range(100):
        pbx.keys.add("5" * MAX_QUEUED_DIGITS)
        await turns(3)
    assert sum(map(len, pbx.pressed)) <= 2 * MAX_QUEUED_DIGITS
    assert pbx.counters.keys_dropped >= 97 * MAX_QUEUED_DIGITS
    pbx.keys.close()


async def test_the_end_of_the_stream_forgets_what_waits() -> None:
    pbx = Pbx()
    pbx.keys.add("1")
    await turns()
    pbx.keys.add("2")
    pbx.keys.close()
    pbx.let.set()
    pbx.keys.add("3")
    await turns()
    assert pbx.pressed == []
    assert pbx.at_once == 0


async def test_a_refusal_does_not_stop_later_keys() -> None:
    pbx = Pbx()
    pbx.let.set()
    pbx.keys.add("D")
    await turns()
    pbx.keys.add("1")
    await turns()
    assert pbx.pressed == ["1"]
