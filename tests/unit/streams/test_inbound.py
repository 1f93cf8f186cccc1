"""AudioSocket connections that the dialplan makes by itself, and the streams that they open."""

from __future__ import annotations

import contextlib
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from bridge.audio.playout import Playout
from bridge.config import Config
from bridge.media.call_admission import CallAdmission
from bridge.media.counters import Counters
from bridge.media.listener import Unexpected
from bridge.media.websocket import Link
from bridge.streams import registry as module
from bridge.streams.inbound import InboundCalls
from bridge.streams.registry import Streams
from bridge.streams.subscription import routes_of
from bridge.taps.taps import Taps
from tests.fakes.ari_client import FakeAriClient
from tests.fakes.pbx import FakePbx
from tests.fakes.taps import FakeTaps
from tests.fakes.virtual_time import until
from tests.fakes.wire import Wire, nobody


def refusal(inbound: InboundCalls, uuid: UUID) -> str:
    """Return why a connection with this UUID gets no leg."""
    with pytest.raises(Unexpected) as raised:
        inbound.unexpected(uuid)
    return str(raised.value)


async def test_each_refusal_of_a_connection_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
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
    parts: dict[str, Any] = dict.fromkeys(("calls", "still_held", "naming"))
    parts |= {"client": FakeAriClient(FakePbx()), "streams": streams, "max_unordered": config.audiosocket.max_unordered}
    inbound = InboundCalls(routes_of(config), **parts)
    mine, other = uuid4(), uuid4()
    legs = [inbound.unexpected(uuid) for uuid in (mine, other)]
    assert refusal(inbound, mine).startswith("its UUID is in use by another call")
    assert refusal(inbound, uuid4()) == "audiosocket.max_unordered: 2 streams of uuid: routes are open"
    assert "no uuid: route matches it" in refusal(InboundCalls([], **parts), mine)
    legs[0].detach()  # Asterisk has hung up

    def takes_another() -> bool:
        with contextlib.suppress(Unexpected):
            return inbound.unexpected(uuid4()) is not None
        return False

    await until(takes_another)
    await streams.stop()
