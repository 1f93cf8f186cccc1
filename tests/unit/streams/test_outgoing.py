"""All streams that the bridge has dialled: what becomes of them when it stops."""

from __future__ import annotations

from typing import Any, cast

import pytest

from bridge.audio.playout import Playout
from bridge.calls.tap import Taps
from bridge.config import Config
from bridge.dialects.base import CallInfo
from bridge.media.counters import Counters
from bridge.media.websocket import Link
from bridge.streams import outgoing as module
from bridge.streams.outgoing import GIVE_WAY_S, Outgoing
from bridge.streams.room import Room
from bridge.streams.subscription import Subscription
from tests.unit.streams.test_pushed_stream import Pbx, Wire

STORE = "redis://store.example.org"


async def nobody(*_: object) -> None:
    """No key is pressed."""


@pytest.mark.parametrize(("store", "expected"), [("", None), (STORE, GIVE_WAY_S)])
async def test_a_bridge_that_stops_gives_way_where_there_are_others(
    store: str, expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire()
    wire.answers_close = False
    wire.paused()  # the application does not read

    async def dial(*_: object, **__: object) -> Link:
        return wire

    monkeypatch.setattr(module, "dial", dial)
    sections: dict[str, Any] = {"cluster": {"store": store}} if store else {}
    streams = Outgoing(
        Config.model_validate(sections),
        taps=cast(Taps, Pbx()),
        counters=Counters(),
        new_playout=lambda fmt: Playout(fmt, 10_000, 0),
        room=Room(10),
        press=nobody,
    )
    target = Subscription(id="s", url="ws://application.example.org/", dialect="yeastar", extensions=("1001",))
    stream = streams.open("test", CallInfo("call"), (), target, lambda *_: None)
    await stream.settled(1)
    await streams.stop()
    assert wire.sent[-1] == "close 1001"
    assert wire.take_back_s == expected
    assert wire.closed is bool(store), "the claims are let go of when this is over"
    wire.abort(1006, "the test is over")
