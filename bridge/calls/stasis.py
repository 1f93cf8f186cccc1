"""Calls in our Stasis application: each is answered and held in a mixing bridge of its own, which streams join.

The bridge is deleted when the caller leaves. Channels that the dialplan sent to another application are none of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Coroutine

from bridge.ari.client import AriClient
from bridge.ari.model import Channel, Event
from bridge.calls.ids import OwnIds
from bridge.errors import AriError

log = logging.getLogger(__name__)

HOLD_TIMEOUT_S = 3.0


class StasisCalls:
    """Holds the calls that entered our Stasis application."""

    def __init__(self, client: AriClient, ids: OwnIds) -> None:
        self._client = client
        self._ids = ids
        self._bridges: dict[str, str] = {}
        self._ready: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        client.on_channel_event("StasisStart", self._on_start)
        client.on_channel_event("StasisEnd", self._on_gone)
        client.on_channel_event("ChannelDestroyed", self._on_gone)

    @property
    def object_ids(self) -> Collection[str]:
        """Ids of the bridges in use."""
        return set(self._bridges.values())

    def bridge_of(self, channel_id: str) -> str | None:
        """The mixing bridge that holds ``channel_id``; None if it is not in our application (or not yet held)."""
        ready = self._ready.get(channel_id)
        return self._bridges[channel_id] if ready is not None and ready.is_set() else None

    async def settled(self, channel_id: str) -> None:
        """Wait until a call that has just entered is held; return at once for any other."""
        ready = self._ready.get(channel_id)
        if ready is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ready.wait(), HOLD_TIMEOUT_S)

    def adopt(self, channels: Collection[Channel]) -> None:
        """Hold the calls that are in our application already: we were away when they entered, or restarted."""
        here = {channel.id for channel in channels}
        for gone in self._bridges.keys() - here:
            self._release(gone)
        for channel in channels:
            if self._is_ours_to_hold(channel):
                self._hold(channel)

    async def stop(self) -> None:
        """Finish what is under way."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    async def release_all(self) -> None:
        """Delete the bridges: the bridge process goes. The calls stay where they are."""
        for channel_id in tuple(self._bridges):
            self._release(channel_id)
        await self.stop()

    def _is_ours_to_hold(self, channel: Channel) -> bool:
        dialplan = channel.dialplan
        return (
            not self._ids.ours(channel.id)
            and dialplan is not None
            and dialplan.app_name == "Stasis"
            and dialplan.app_data.split(",", 1)[0] == self._ids.app
        )

    def _on_start(self, channel: Channel, event: Event) -> None:
        if event.application == self._ids.app and self._is_ours_to_hold(channel):
            self._hold(channel)

    def _on_gone(self, channel: Channel, _: Event) -> None:
        self._release(channel.id)

    def _hold(self, channel: Channel) -> None:
        if channel.id in self._bridges:
            return  # adopted, and its StasisStart comes only now
        bridge_id = self._ids.new("hold")
        self._bridges[channel.id] = bridge_id
        self._ready[channel.id] = asyncio.Event()
        self._spawn(self._answer(channel.id, bridge_id, self._ready[channel.id]))

    async def _answer(self, channel_id: str, bridge_id: str, ready: asyncio.Event) -> None:
        try:
            await self._client.channels.answer(channel_id)
            await self._client.bridges.create(bridge_id=bridge_id, type="mixing", name=bridge_id)
            await self._client.bridges.add_channel(bridge_id, channel_id)
        except AriError as error:
            if self._bridges.get(channel_id) == bridge_id:  # otherwise the caller has left meanwhile
                log.warning("call=%s could not be held: %s", channel_id, error)
            await self._client.bridges.destroy(bridge_id)
            return
        if self._bridges.get(channel_id) != bridge_id:
            await self._client.bridges.destroy(bridge_id)
            return
        ready.set()
        log.info("call=%s answered and held in bridge %s", channel_id, bridge_id)

    def _release(self, channel_id: str) -> None:
        bridge_id = self._bridges.pop(channel_id, None)
        ready = self._ready.pop(channel_id, None)
        if bridge_id is not None and ready is not None and ready.is_set():
            log.info("call=%s left the application", channel_id)
            self._spawn(self._destroy(bridge_id))

    async def _destroy(self, bridge_id: str) -> None:
        try:
            await self._client.bridges.destroy(bridge_id)
        except AriError as error:
            log.warning("bridge=%s left to the next sweep: %s", bridge_id, error)

    def _spawn(self, act: Coroutine[object, object, None]) -> None:
        task = asyncio.ensure_future(act)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
