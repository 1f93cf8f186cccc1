"""A house whose channels are replaced by others."""

from __future__ import annotations

from typing import Any, cast

import pytest

from bridge.audio.playout import Playout
from bridge.calls.tracker import CallTracker
from bridge.config import Config, PbxConfig
from bridge.media.call_admission import CallAdmission
from bridge.media.counters import Counters
from bridge.media.websocket import Link
from bridge.streams import registry
from bridge.streams.client_streams import ClientStreams
from bridge.streams.inbound import InboundCalls
from bridge.streams.registry import Streams
from bridge.streams.stream import Stream
from bridge.streams.subscription import routes_of
from bridge.taps.taps import Taps
from tests.fakes.taps import FakeTaps
from tests.fakes.virtual_time import settle
from tests.fakes.wire import Wire, nobody
from tests.unit.control.house import House


class Replacing(House):
    """A house with the calls of its PBX, and a route for the calls to 750."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, claims: bool = False, then: str = "hangup") -> None:
        super().__init__(claims=claims)

        async def dial(*_: object, **__: object) -> Link:
            return Wire()

        monkeypatch.setattr(registry, "dial", dial)
        self.pbx.dialplan["from-internal", "750"] += (("Echo", ""),)
        self.tracker = CallTracker(self.client)
        self.tracker.subscribe(self.records.on_change)
        self.client.on_event("*", self.records.on_event)
        route: dict[str, Any] = {"id": "agent", "match": "750", "url": "ws://app.example.org/", "dialect": "twilio"}
        config = Config.model_validate({"dialplan": [route | {"then": then}]})
        self.fake_taps = FakeTaps()
        self.streams = Streams(
            config,
            taps=cast(Taps, self.fake_taps),
            counters=Counters(),
            new_playout=lambda fmt: Playout(fmt, 10_000, 0),
            admission=CallAdmission(10),
            send_dtmf=nobody,
        )
        self.client_streams = ClientStreams(self.streams, self.tracker, self.stasis)
        self.inbound = InboundCalls(
            routes_of(config),
            client=self.client,
            calls=self.tracker,
            still_held=lambda channel_id: self.stasis.bridge_of(channel_id) is not None,
            naming=PbxConfig(),
            streams=self.streams,
            max_unordered=1,
        )
        self.stasis.on_held = self.inbound.held
        self.stasis.on_released = self.inbound.left

    async def agent_call(self) -> tuple[str, Stream]:
        """Have a phone call the agent; return its channel and the agent's stream."""
        channel_id = self.pbx.call("1002", "750")
        await settle()
        (stream,) = self.streams
        return channel_id, cast(Stream, stream)

    def other_party(self) -> str:
        """Return the channel of a party outside of our application."""
        channel_id = self.pbx.come("other", "1001", "1002", state="Up").id
        self.pbx.run(channel_id, "Dial", "PJSIP/1002")
        return channel_id
