"""The product's ARI client on a fake PBX: everything but the sockets is the real one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from bridge.ari.client import AriClient
from bridge.ari.resources import Applications, Bridges, Channels, Endpoints, Recordings, System
from bridge.ari.rest import Parameter, Rest, explain_status
from bridge.errors import AriError
from tests.fakes.pbx import FakePbx, Refused


class FakeAriClient(AriClient):
    """The product's ARI client, with a `FakePbx` in place of HTTP and the events connection.

    Args:
        at_once: events are received as they happen, not after what runs then.
    """

    def __init__(self, pbx: FakePbx, app: str = "", *, at_once: bool = False) -> None:
        app = app or pbx.app
        super().__init__("http://pbx.invalid:8088", "user", "password", app)
        self._at_once = at_once
        self._delayed: list[bytes] | None = None
        pbx.clients.append(self)
        self._rest = rest = FakeRest(pbx)
        self.channels = Channels(rest, app)
        self.bridges = Bridges(rest)
        self.applications = Applications(rest)
        self.recordings = Recordings(rest)
        self.endpoints = Endpoints(rest)
        self.asterisk = System(rest)

    async def start(self, wait: bool = False) -> None:  # noqa: ARG002 - it is connected already
        self.connect()

    async def stop(self) -> None:
        self.disconnect()
        await super().stop()

    def connect(self) -> None:
        """Open the events connection."""
        self._opened()

    def disconnect(self) -> None:
        """Lose the events connection."""
        self._closed()

    def delay_events(self) -> None:
        """Let requests overtake the events that come from now on."""
        self._delayed = []

    def deliver_events(self) -> None:
        """Receive the delayed events, in order, and no longer delay any."""
        delayed, self._delayed = self._delayed or [], None
        for event in delayed:
            self._receive(event)

    def receive_soon(self, event: bytes) -> None:
        """Receive an event after what runs now, if the events connection is open."""
        if self._delayed is not None:
            self._delayed.append(event)
        elif self._at_once:
            self._receive(event)
        elif self.connected:
            asyncio.get_running_loop().call_soon(self._receive, event)

    def _receive(self, event: bytes) -> None:
        if self.connected:
            self._take(event)


class FakeRest(Rest):
    """Requests that a `FakePbx` answers."""

    def __init__(self, pbx: FakePbx) -> None:
        super().__init__("http://pbx.invalid:8088", "user", "password")
        self._pbx = pbx

    async def _send(self, method: str, path: str, params: Mapping[str, Parameter] | None, body: Any) -> bytes:
        if not self._allows(path):
            raise AriError(0, method, path, "the client was stopped")
        given = {name: value for name, value in (params or {}).items() if value is not None}
        try:
            return await self._pbx.answer(method, path, given, body)
        except Refused as refused:
            raise AriError(refused.status, method, path, explain_status(refused.status, refused.message)) from None
