"""Sounds that are wanted again: the latest are kept, and who asks for one that is being made waits for that one."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass

from bridge.audio.sound import Sound

_ENTRY_BYTES = 500  # what a key and the objects around a sound take, about: many short sounds must not add up unseen


@dataclass(slots=True)
class _Making:
    """A sound that is being made."""

    task: asyncio.Task[Sound]
    waiting: int = 0


class SoundCache:
    """Keeps what was made, by key; the longest unused goes first.

    Args:
        max_bytes: what all sounds together may hold; 0 keeps none.
        lasting_s: how long a sound may be used again.
        clock: seconds that only grow.
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
        """The sound of a key: kept, being made already, or made now by ``make``.

        Making goes on while anybody waits for it, whoever asked first. What ``make`` raises, all who wait get.
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
                del self._making[key]  # at once: who asks now must not wait for what is being given up
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
