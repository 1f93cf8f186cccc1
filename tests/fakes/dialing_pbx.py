"""A fake PBX that opens AudioSocket connections to the listener under test, for real."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from bridge.ari.rest import Parameter
from tests.fakes.asterisk import FakeAsterisk
from tests.fakes.pbx import FakePbx
from tests.fakes.pbx_state import FakeChannel, Json

ENTRY = (("Answer", ""), ("AudioSocket", ""))


class DialingPbx(FakePbx):
    """Has two parties, alice and bob, and keeps book of what is made besides.

    Args:
        port: that of the listener.
    """

    def __init__(self, port: int, app: str = "app") -> None:
        super().__init__(app)
        self.deaf = False
        """The dialplan's AudioSocket connections do not come to us."""
        self.made: list[str] = []
        """What was ever made, in order."""
        self.connections: dict[str, FakeAsterisk] = {}
        """AudioSocket connections by channel."""
        self.received: Counter[str] = Counter()
        """Messages that came on AudioSocket connections, by what the channel is."""
        self._kinds: dict[str, str] = {}
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()
        self.add_entry("taps")
        for name in ("alice", "bob"):
            self.come(name, name, state="Up")

    def add_entry(self, context: str) -> None:
        """Add the entry for taps to a context of the dialplan."""
        self.dialplan[context, "audiosocket"] = ENTRY

    @property
    def there(self) -> list[str]:
        """Ids of the channels and bridges that were made and have not ended."""
        return [each for each in self._kinds if each in self.channels or each in self.bridges]

    @property
    def kinds(self) -> list[str]:
        """What there is now, sorted."""
        return sorted(self._kinds[each] for each in self.there)

    def handle(self, method: str, path: str, params: Mapping[str, Parameter], body: Any = None) -> object:
        before = {*self.channels, *self.bridges}
        answer = super().handle(method, path, params, body)
        for made in {*self.channels, *self.bridges} - before:
            kind = "bridge"
            if path.endswith("/snoop"):
                kind = f"snoop {path.split('/')[2]} {params['spy']} {params['whisper']}"
            elif path.endswith("/externalMedia"):
                kind = f"media {params['format']}"
            self._kinds[made] = kind
            self.made.append(kind)
            if path.endswith("/externalMedia"):
                self._connect_soon(made, UUID(str(params["data"])))
        return answer

    def run(self, channel_id: str, application: str, data: str = "") -> None:
        super().run(channel_id, application, data)
        if application == "AudioSocket" and not self.deaf:
            variables = self.channels[channel_id].variables
            assert variables["MEDIA_LEG_ADDRESS"] == f"127.0.0.1:{self._port}"
            self._connect_soon(channel_id, UUID(variables["MEDIA_LEG_UUID"]))

    def say(self, payload: bytes) -> None:
        """Send a frame on every connection."""
        for connection in self.connections.values():
            connection.send(0x10, payload)

    async def close(self) -> None:
        """Drop what is left."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def emit(self, kind: str, channel: FakeChannel | None = None, *, bridge: Json | None = None, **more: Any) -> None:
        super().emit(kind, channel, bridge=bridge, **more)
        if kind == "ChannelDestroyed" and channel is not None:
            connection = self.connections.pop(channel.id, None)
            if connection is not None:
                connection.writer.close()

    def _connect_soon(self, channel_id: str, uuid: UUID) -> None:
        task = asyncio.create_task(self._connect(channel_id, uuid))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, channel_id: str, uuid: UUID) -> None:
        connection = self.connections[channel_id] = await FakeAsterisk.dial(self._port, uuid)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await connection.read()
                self.received[self._kinds.get(channel_id, "")] += 1
        if channel_id in self.channels:
            self.hang_up(channel_id)
