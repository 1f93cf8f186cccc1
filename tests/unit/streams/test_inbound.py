"""AudioSocket connections that the dialplan makes by itself, and the streams that they open."""

from __future__ import annotations

from typing import Any, cast
from uuid import uuid4

import pytest

from bridge.audio.playout import Playout
from bridge.config import Config
from bridge.media.call_admission import CallAdmission
from bridge.media.counters import Counters
from bridge.media.websocket import Link
from bridge.streams import registry as module
from bridge.streams.inbound import InboundCalls
from bridge.streams.registry import Streams
from bridge.streams.subscription import routes_of
from bridge.taps.taps import Taps
from tests.fakes.taps import FakeTaps
from tests.fakes.virtual_time import until
from tests.fakes.wire import Wire, nobody


async def test_the_streams_of_uuid_routes_are_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def dial(*_: object, **__: object) -> Link:
        return Wire()

    monkeypatch.setattr(module, "dial", dial)
    sections: dict[str, Any] = {
        "audiosocket": {"max_unordered": 2},
        "dialplan": [{"id": "agents", "match": "uuid:*", "url": "ws://application.example.org/", "dialect": "twilio"}],
    }
    config = Config.model_validate(sections)
    streams = Streams(
        config,
        taps=cast(Taps, FakeTaps()),
        counters=Counters(),
        new_playout=lambda fmt: Playout(fmt, 10_000, 0),
        admission=CallAdmission(10),
        send_dtmf=nobody,
    )
    unused: Any = None
    inbound = InboundCalls(
        routes_of(config),
        client=unused,
        calls=unused,
        still_held=unused,
        naming=unused,
        streams=streams,
        max_unordered=config.audiosocket.max_unordered,
    )
    legs = [inbound.unexpected(uuid4()) for _ in range(4)]
    assert [leg is not None for leg in legs] == [True, True, False, False]
    assert caplog.text.count("audiosocket.max_unordered: 2 streams of uuid: routes are open") == 1
    assert legs[0] is not None
    legs[0].detach()  # Asterisk has hung up
    await until(lambda: inbound.unexpected(uuid4()) is not None)
    await streams.stop()
