"""The mixing bridges of legs: created for one leg, deleted when the last one has left."""

from __future__ import annotations

import logging
from collections.abc import Collection

from bridge.ari.client import AriClient
from bridge.calls.ids import OwnIds
from bridge.errors import AriError
from bridge.logs import cause
from bridge.tasks import BackgroundTasks

log = logging.getLogger(__name__)

BRIDGE_TYPE = "mixing,dtmf_events,proxy_media"
"""Never native: when the media of two phones bypasses Asterisk, DTMF is lost and recordings are empty."""


async def delete_bridge(client: AriClient, bridge_id: str) -> None:
    """Delete a mixing bridge. A failure is logged: the next sweep deletes it."""
    try:
        await client.bridges.destroy(bridge_id)
    except AriError as error:
        log.warning(
            "cleanup failed, next sweep retries mixing_bridge=%s error=%s",
            bridge_id,
            error,
            extra=cause(error.message),
        )


class MixingBridges:
    """The mixing bridges of legs, and the channels that are in them or about to join. Ids of other bridges are ignored.

    Args:
        client: ARI.
        ids: generates the bridges' ids.
    """

    def __init__(self, client: AriClient, ids: OwnIds) -> None:
        self._client = client
        self._ids = ids
        self._members: dict[str, set[str]] = {}
        self._tasks = BackgroundTasks("mixing bridges")

    @property
    def ids(self) -> Collection[str]:
        """Ids of all bridges."""
        return self._members.keys()

    async def create(self, channel_id: str) -> str:
        """Create a mixing bridge that a channel is about to join; return its id."""
        bridge_id = self._ids.new("hold")
        self.adopt(bridge_id, channel_id)
        try:
            await self._client.bridges.create(bridge_id=bridge_id, type=BRIDGE_TYPE, name=bridge_id)
        except BaseException:
            self.remove(bridge_id, channel_id)
            raise
        return bridge_id

    def adopt(self, bridge_id: str, channel_id: str) -> None:
        """Own an existing bridge with one channel in it."""
        self._members[bridge_id] = {channel_id}

    def resume(self, bridge_id: str, channel_id: str) -> None:
        """Own a bridge of the previous run, with a channel in it."""
        self._members.setdefault(bridge_id, set()).add(channel_id)

    def add(self, bridge_id: str, channel_id: str) -> None:
        """Keep a bridge for a channel that joins it."""
        if bridge_id in self._members:
            self._members[bridge_id].add(channel_id)

    def remove(self, bridge_id: str, channel_id: str) -> None:
        """Delete a bridge if this channel was the last one."""
        members = self._members.get(bridge_id)
        if members is not None:
            members.discard(channel_id)
            if not members:
                self._tasks.spawn(self._delete(bridge_id))

    def replace(self, old_id: str, new_id: str) -> None:
        """Replace a channel in its bridge, and in the one that it is about to join."""
        for members in self._members.values():
            if old_id in members:
                members.discard(old_id)
                members.add(new_id)

    def has_only(self, bridge_id: str, channel_id: str) -> bool:
        """Return whether this channel is the only member of a bridge; False for bridges that are not for legs."""
        return self._members.get(bridge_id) == {channel_id}

    async def stop(self, grace_s: float) -> None:
        """Wait until bridges without channels are deleted."""
        await self._tasks.stop(grace_s)

    async def _delete(self, bridge_id: str) -> None:
        try:
            await delete_bridge(self._client, bridge_id)
        finally:
            self._members.pop(bridge_id, None)
