"""Ids by which others are found: of calls that have merged, of channels that were replaced, of pickups.

Pure. The newest are kept, a bounded number of each kind.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TypeVar

V = TypeVar("V")

MAX_REMEMBERED = 10_000


class Aliases:
    """The ids of calls and channels that stand for those of others."""

    def __init__(self) -> None:
        self._merged: dict[str, str] = {}
        self._replaced: dict[str, str] = {}
        self._picked_up: dict[str, str] = {}

    def replace(self, old_id: str, new_id: str) -> None:
        """Note that a channel has taken another's place."""
        self._replaced.pop(new_id, None)  # else there could be a circle
        if old_id != new_id:
            remember(self._replaced, old_id, new_id)

    def channel(self, channel_id: str) -> str:
        """Return the channel that has a channel's place now: the channel itself if no other has taken it."""
        while channel_id in self._replaced:
            channel_id = self._replaced[channel_id]
        return channel_id

    def pick_up(self, linkedid: str, call_id: str) -> None:
        """Note that parties with this linkedid belong to the call that they have picked up."""
        if linkedid != call_id:
            remember(self._picked_up, linkedid, call_id)

    def linkedid(self, linkedid: str) -> str:
        """Return the id of the call to which parties with this linkedid belong."""
        return self._picked_up.get(linkedid, linkedid)

    def merge(self, call_id: str, into: str) -> None:
        """Note that a call continues as another."""
        remember(self._merged, call_id, into)

    def begin(self, call_id: str) -> None:
        """Note that a call exists: its id is its own."""
        self._merged.pop(call_id, None)

    def call(self, call_id: str, existing: Collection[str]) -> str:
        """Return the id of the call as which a call continues, or the given id."""
        while call_id not in existing and call_id in self._merged:
            call_id = self._merged[call_id]
        return call_id

    def merged(self) -> Iterator[str]:
        """Return the ids of the calls that have merged into others."""
        return iter(tuple(self._merged))


def remember(memory: dict[str, V], key: str, value: V) -> None:
    """Keep a bounded number of the newest."""
    memory[key] = value
    if len(memory) > MAX_REMEMBERED:
        del memory[next(iter(memory))]
