"""Sounds are kept within bounds, and made once for all who want them at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from bridge.audio.sound import Sound
from bridge.speech.cache import SoundCache
from tests.fakes.virtual_time import pass_time, settle

SOUND = Sound(bytes(9500), 8000)  # 10000 bytes with what is around it


def counted(made: list[str], name: str, sound: Sound = SOUND) -> Callable[[], Awaitable[Sound]]:
    async def make() -> Sound:
        made.append(name)
        await asyncio.sleep(0)
        return sound

    return make


async def test_the_longest_unused_goes_first() -> None:
    cache = SoundCache(30_000)
    made: list[str] = []
    for name in ("a", "b", "c", "a", "d", "a", "b"):
        await cache.get(name, counted(made, name))
    assert made == ["a", "b", "c", "d", "b"]
    assert cache.bytes == 30_000


async def test_what_is_larger_than_everything_is_not_kept_and_pushes_nothing_out() -> None:
    cache = SoundCache(30_000)
    made: list[str] = []
    await cache.get("a", counted(made, "a"))
    for _ in range(2):
        assert len((await cache.get("x", counted(made, "x", Sound(bytes(40_000), 8000)))).pcm) == 40_000
    await cache.get("a", counted(made, "a"))
    assert made == ["a", "x", "x"]
    nothing = SoundCache(0)
    assert await nothing.get("a", counted(made, "a")) is SOUND
    assert nothing.bytes == 0


async def test_many_short_sounds_count_too() -> None:
    cache = SoundCache(10_000)
    for number in range(1000):
        await cache.get(number, counted([], "", Sound(b"", 8000)))
    assert cache.bytes <= 10_000


async def test_a_sound_lasts_as_long_as_it_may() -> None:
    now = 0.0
    cache = SoundCache(30_000, lasting_s=60, clock=lambda: now)
    made: list[str] = []
    for now in (0.0, 59.0, 61.0, 62.0):  # noqa: B007 - read by the clock
        await cache.get("a", counted(made, "a"))
    assert made == ["a", "a"]
    assert cache.bytes == 10_000


async def test_who_asks_at_the_same_time_waits_for_the_same() -> None:
    cache = SoundCache(30_000)
    made: list[str] = []
    sounds = await asyncio.gather(*(cache.get("a", counted(made, "a")) for _ in range(10)))
    assert made == ["a"]
    assert all(sound is SOUND for sound in sounds)


async def test_a_failure_reaches_all_who_wait_and_is_not_kept() -> None:
    cache = SoundCache(30_000)
    made: list[str] = []

    async def fail() -> Sound:
        made.append("failed")
        await pass_time(0.01)
        raise LookupError("no")

    results = await asyncio.gather(*(cache.get("a", fail) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [LookupError] * 3
    assert await cache.get("a", counted(made, "made")) is SOUND
    assert made == ["failed", "made"]


async def test_making_goes_on_while_anybody_waits_and_ends_when_nobody_does() -> None:
    cache = SoundCache(30_000)
    may_end, ended = asyncio.Event(), []

    async def make() -> Sound:
        try:
            await may_end.wait()
        except asyncio.CancelledError:
            ended.append("given up")
            raise
        return SOUND

    first, second = (asyncio.create_task(cache.get("a", make)) for _ in range(2))
    await settle()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert not ended
    may_end.set()
    assert await second is SOUND

    may_end.clear()
    third, fourth = (asyncio.create_task(cache.get("b", make)) for _ in range(2))
    await settle()
    for task in (third, fourth):
        task.cancel()
    await asyncio.wait([third, fourth])
    assert ended == ["given up"]
    may_end.set()
    assert await cache.get("b", make) is SOUND
