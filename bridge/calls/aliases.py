"""Ids that refer to other calls and channels: of merged calls, replaced channels, pickups.

Pure. A limited number of the newest of each kind is kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TypeVar

V = TypeVar("V")

MAX_REMEMBERED = 10_000


class Aliases:
    """Ids of calls and channels that refer to others."""

    def __init__(self) -> None:
        self._merged: dict[str, str] = {}
        self._replaced: dict[str, str] = {}
        self._picked_up: dict[str, str] = {}

    def replace(self, old_id: str, new_id: str) -> None:
        """Record that a channel replaced another."""
        self._replaced.pop(new_id, None)  # prevents a circle
        if old_id != new_id:
            remember(self._replaced, old_id, new_id)

    def channel(self, channel_id: str) -> str:
        """Return the channel that replaced a channel; the channel itself if none did."""
        while channel_id in self._replaced:
            channel_id = self._replaced[channel_id]
        return channel_id

    def pick_up(self, linkedid: str, call_id: str) -> None:
        """Record that parties with this linkedid belong to the call that they have picked up."""
        if linkedid != call_id:
            remember(self._picked_up, linkedid, call_id)

    def linkedid(self, linkedid: str) -> str:
        """Return the id of the call of parties with this linkedid."""
        return self._picked_up.get(linkedid, linkedid)

    def merge(self, call_id: str, into: str) -> None:
        """Record that a call continues as another."""
        remember(self._merged, call_id, into)

    def begin(self, call_id: str) -> None:
        """Record that a call exists: its id is its own."""
        self._merged.pop(call_id, None)

    def call(self, call_id: str, existing: Collection[str]) -> str:
        """Return the id of the call as which a call continues, or the given id."""
        while call_id not in existing and call_id in self._merged:
            call_id = self._merged[call_id]
        return call_id

    def merged(self) -> Iterator[str]:
        """Return the ids of calls that have merged into others."""
        return iter(tuple(self._merged))


def remember(memory: dict[str, V], key: str, value: V, most: int = MAX_REMEMBERED) -> None:
    """Store a value, and drop the oldest above the limit."""
    memory[key] = value
    if len(memory) > most:
        del memory[next(iter(memory))]
