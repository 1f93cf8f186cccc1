"""A PBX that keeps book of the channels and bridges that taps make on it, and dials the bridge's listener for real."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import Any
from uuid import UUID

from bridge.ari.dispatch import Dispatcher, Expectation
from bridge.ari.model import Channel, ChannelDestroyed, StasisEnd, StasisStart
from bridge.errors import AriError
from tests.fakes.asterisk import FakeAsterisk


class FakePbx:
    """What `bridge.taps.taps` needs of an AriClient.

    Args:
        port: that of the listener.
    """

    def __init__(self, port: int) -> None:
        self.channels = self.bridges = self
        """ARI's resources, as far as they are needed."""
        self.parties = {"alice", "bob"}
        """Channels that can be snooped on."""
        self.contexts = {"taps"}
        """Contexts of the dialplan with the entry for taps."""
        self.refuses_continue = False
        self.deaf = False
        """Its AudioSocket connections do not come to us."""
        self.there: dict[str, str] = {}
        """Ids of the channels and bridges there are, with what they are."""
        self.made: list[str] = []
        """What was ever made, in order."""
        self.connections: dict[str, FakeAsterisk] = {}
        """AudioSocket connections by channel."""
        self.received: Counter[str] = Counter()
        """Messages that came on AudioSocket connections, by what the channel is."""
        self._port = port
        self._dispatcher = Dispatcher()
        self._variables: dict[str, dict[str, str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def kinds(self) -> list[str]:
        """What there is now, sorted."""
        return sorted(self.there.values())

    def expect(self, event_type: str, subject_id: str) -> Expectation:
        return self._dispatcher.expect(event_type, subject_id)

    async def snoop(self, channel_id: str, *, snoop_id: str, spy: str, whisper: str) -> None:
        await self._answered()
        if channel_id not in self.parties:
            raise AriError(404, "POST", f"/channels/{channel_id}/snoop", "Channel not found")
        self._add(snoop_id, f"snoop {channel_id} {spy} {whisper}")
        self._tell(StasisStart(type="StasisStart", channel=Channel(id=snoop_id, name=f"Snoop/{snoop_id}")))

    async def external_media(self, *, channel_id: str, external_host: str, format: str, data: str) -> None:  # noqa: ARG002
        await self._answered()
        self._add(channel_id, f"media {format}")
        self._tell(StasisStart(type="StasisStart", channel=Channel(id=channel_id, name=f"AudioSocket/{channel_id}")))
        self._dial(channel_id, UUID(data))

    async def set_variable(self, channel_id: str, name: str, value: str) -> None:
        await self._answered()
        self._variables.setdefault(channel_id, {})[name] = value

    async def continue_in_dialplan(self, channel_id: str, *, context: str, extension: str, priority: int) -> None:
        await self._answered()
        if self.refuses_continue:
            raise AriError(409, "POST", f"/channels/{channel_id}/continue", "refused by the test")
        channel = Channel(id=channel_id, name=f"Snoop/{channel_id}")
        self._tell(StasisEnd(type="StasisEnd", channel=channel))
        if (context in self.contexts, extension, priority) != (True, "audiosocket", 1):
            self.end(channel_id)
            return
        variables = self._variables[channel_id]
        assert variables["MEDIA_LEG_ADDRESS"] == f"127.0.0.1:{self._port}"
        if not self.deaf:
            self._dial(channel_id, UUID(variables["MEDIA_LEG_UUID"]))

    async def hangup(self, channel_id: str) -> None:
        await self._answered()
        self.end(channel_id)

    async def create(self, *, bridge_id: str, type: str, name: str) -> None:  # noqa: ARG002
        await self._answered()
        self._add(bridge_id, "bridge")

    async def add_channel(self, bridge_id: str, channel_id: str) -> None:
        await self._answered()
        assert {bridge_id, channel_id} <= set(self.there)

    async def destroy(self, bridge_id: str) -> None:
        await self._answered()
        self.there.pop(bridge_id, None)

    def end(self, channel_id: str) -> None:
        """A channel ends, and its connection with it."""
        if self.there.pop(channel_id, None) is None:
            return
        connection = self.connections.pop(channel_id, None)
        if connection is not None:
            connection.writer.close()
        channel = Channel(id=channel_id, name=channel_id)
        self._tell(ChannelDestroyed(type="ChannelDestroyed", channel=channel))

    def say(self, payload: bytes) -> None:
        """Send a frame on every connection."""
        for connection in self.connections.values():
            connection.send(0x10, payload)

    async def close(self) -> None:
        """Drop what is left."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _add(self, object_id: str, kind: str) -> None:
        self.there[object_id] = kind
        self.made.append(kind)

    def _tell(self, event: Any) -> None:
        asyncio.get_running_loop().call_soon(self._dispatcher.dispatch, event)

    def _dial(self, channel_id: str, uuid: UUID) -> None:
        task = asyncio.create_task(self._connect(channel_id, uuid))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, channel_id: str, uuid: UUID) -> None:
        connection = self.connections[channel_id] = await FakeAsterisk.dial(self._port, uuid)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await connection.read()
                self.received[self.there.get(channel_id, "")] += 1
        self.end(channel_id)

    async def _answered(self) -> None:
        await asyncio.sleep(0.001)
