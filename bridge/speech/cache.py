"""A cache of sounds; requests for a sound that is being generated share that run."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable

from msgspec import Struct

from bridge.audio.sound import Sound

_ENTRY_BYTES = 500  # approximate size of a key and the objects around a sound: short sounds count too


class _Making(Struct):
    """A sound that is being generated."""

    task: asyncio.Task[Sound]
    waiting: int = 0


class SoundCache:
    """Keeps sounds by key; drops the least recently used first.

    Args:
        max_bytes: limit for all sounds together; 0 keeps none.
        lasting_s: time in seconds until a sound expires.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self, max_bytes: int, *, lasting_s: float = math.inf, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.bytes = 0
        self._max_bytes = max_bytes
        self._lasting_s = lasting_s
        self._clock = clock
        self._kept: OrderedDict[Hashable, tuple[Sound, float]] = OrderedDict()
        self._making: dict[Hashable, _Making] = {}

    async def get(self, key: Hashable, make: Callable[[], Awaitable[Sound]]) -> Sound:
        """Return the sound of a key: from the cache, from a run in progress, or created by ``make``.

        A run continues while any request waits for it. All waiting requests get what ``make`` raises.
        """
        if (sound := self._find(key)) is not None:
            return sound
        making = self._making.get(key)
        if making is None:
            making = self._making[key] = _Making(asyncio.create_task(self._make(key, make), name="make a sound"))
        making.waiting += 1
        try:
            return await asyncio.shield(making.task)
        finally:
            making.waiting -= 1
            if not making.waiting and self._making.get(key) is making:
                del self._making[key]  # first: a new request must not join a cancelled run
                if not making.task.done():
                    making.task.cancel()
                    await asyncio.wait([making.task])

    async def _make(self, key: Hashable, make: Callable[[], Awaitable[Sound]]) -> Sound:
        sound = await make()
        self._keep(key, sound)
        return sound

    def _find(self, key: Hashable) -> Sound | None:
        if key not in self._kept:
            return None
        sound, since = self._kept[key]
        if self._clock() - since > self._lasting_s:
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return sound

    def _keep(self, key: Hashable, sound: Sound) -> None:
        if key in self._kept:
            self._drop(key)
        if _size(sound) > self._max_bytes:
            return
        self._kept[key] = (sound, self._clock())
        self.bytes += _size(sound)
        while self.bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: Hashable) -> None:
        sound, _ = self._kept.pop(key)
        self.bytes -= _size(sound)


def _size(sound: Sound) -> int:
    return len(sound.pcm) + _ENTRY_BYTES
