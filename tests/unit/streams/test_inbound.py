"""AudioSocket connections that the dialplan makes by itself, and the streams that they open."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest

from bridge.audio.playout import Playout
from bridge.calls.call import Call, Party
from bridge.calls.model import CallModel
from bridge.config import Config, PbxConfig
from bridge.dialects.base import CallInfo
from bridge.media.call_admission import CallAdmission
from bridge.media.counters import Counters
from bridge.media.listener import Unexpected
from bridge.media.websocket import Link
from bridge.streams import registry as module
from bridge.streams.inbound import AUDIOSOCKET_FACTS_TIMEOUT_S, InboundCalls
from bridge.streams.registry import Streams
from bridge.streams.stream import Stream
from bridge.streams.subscription import routes_of
from tests.fakes.ari_client import FakeAriClient
from tests.fakes.garbage import uncollected
from tests.fakes.media_pbx import taps_with
from tests.fakes.pbx import FakePbx
from tests.fakes.virtual_time import now, pass_time, until
from tests.fakes.wire import Wire, nobody
from tests.unit.calls.recordings import feed, promptly

SECTIONS: dict[str, Any] = {
    "audiosocket": {"max_unordered": 2},
    "dialplan": [{"id": "agents", "match": "uuid:*", "url": "ws://application.example.org/", "dialect": "twilio"}],
}


def new_streams(config: Config) -> Streams:
    """Return streams on a PBX without audio."""
    return Streams(
        config,
        taps=taps_with("b"),
        counters=Counters(),
        new_playout=lambda fmt: Playout(fmt, 10_000, 0),
        admission=CallAdmission(10),
        send_dtmf=nobody,
    )


def parts_around(monkeypatch: pytest.MonkeyPatch) -> tuple[Config, Streams, dict[str, Any]]:
    """Return the configuration, streams to an application that can be reached, and arguments of `InboundCalls`."""

    async def dial(*_: object, **__: object) -> Link:
        return Wire()

    monkeypatch.setattr(module, "dial", dial)
    config = Config.model_validate(SECTIONS)
    streams = new_streams(config)
    parts: dict[str, Any] = {"calls": Calls(CallModel()), "still_held": None, "naming": PbxConfig()}
    parts |= {"client": FakeAriClient(FakePbx()), "streams": streams, "max_unordered": config.audiosocket.max_unordered}
    return config, streams, parts


def refusal(inbound: InboundCalls, uuid: UUID) -> str:
    """Return why a connection with this UUID gets no leg."""
    with pytest.raises(Unexpected) as raised:
        inbound.unexpected(uuid)
    return str(raised.value)


async def test_each_refusal_of_a_connection_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    config, streams, parts = parts_around(monkeypatch)
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


async def test_an_ended_stream_of_the_dialplan_leaves_nothing_to_the_garbage_collector(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, streams, parts = parts_around(monkeypatch)
    inbound = InboundCalls(routes_of(config), **parts)
    with uncollected() as left:
        leg = inbound.unexpected(uuid4())
        await pass_time(1)
        leg.detach()  # Asterisk has hung up
        del leg
        await until(lambda: len(streams) == 0)
        await pass_time(1)
    assert not left


@dataclass
class Calls:
    """The calls of a call model."""

    model: CallModel

    @property
    def calls(self) -> Mapping[str, Call]:
        return self.model.calls

    def find(self, any_id: str) -> tuple[Call, Party] | None:
        return self.model.find(any_id)


@pytest.mark.parametrize("behind_events", [False, True])
@pytest.mark.parametrize("connected", [False, True])
async def test_an_audiosocket_connection_names_who_calls_whom_as_soon_as_ari_knows(
    monkeypatch: pytest.MonkeyPatch, behind_events: bool, connected: bool
) -> None:
    dialed: list[float] = []

    async def dial(*_: object, **__: object) -> Link:
        dialed.append(now())
        return Wire()

    monkeypatch.setattr(module, "dial", dial)
    uuid = UUID("088c6307-908d-4c37-b0fa-e64d5856a89c")
    steps = promptly("dialplan_audiosocket")
    up_to = next(number for number, step in enumerate(steps) if str(uuid) in repr(step)) + 1
    calls = Calls(CallModel())
    if not behind_events:
        list(feed(calls.model, steps[:up_to]))
    streams = new_streams(Config.model_validate(SECTIONS))
    client = FakeAriClient(FakePbx())
    client.connected = connected
    parts: dict[str, Any] = {"client": client, "calls": calls, "still_held": None, "naming": PbxConfig()}
    inbound = InboundCalls(routes_of(Config.model_validate(SECTIONS)), streams=streams, max_unordered=2, **parts)
    began = now()
    inbound.unexpected(uuid)
    (stream,) = streams
    assert isinstance(stream, Stream)
    if behind_events:
        await pass_time(0.1)
        list(feed(calls.model, steps[:up_to]))
    await until(lambda: dialed)
    known = stream.call
    if behind_events and not connected:
        assert known == CallInfo(str(uuid), direction="inbound")
        assert dialed == [began]
    else:
        assert known == CallInfo(str(uuid), "internal", caller="1001", callee="752")
        assert dialed[0] - began < 0.2
    await streams.stop()


async def test_a_connection_that_ari_knows_nothing_of_is_dialed_for_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    dialed: list[float] = []

    async def dial(*_: object, **__: object) -> Link:
        dialed.append(now())
        return Wire()

    monkeypatch.setattr(module, "dial", dial)
    streams = new_streams(Config.model_validate(SECTIONS))
    client = FakeAriClient(FakePbx())
    client.connected = True
    parts: dict[str, Any] = {"client": client, "calls": Calls(CallModel()), "still_held": None, "naming": PbxConfig()}
    inbound = InboundCalls(routes_of(Config.model_validate(SECTIONS)), streams=streams, max_unordered=2, **parts)
    began = now()
    inbound.unexpected(uuid4())
    await until(lambda: dialed)
    assert dialed[0] - began == pytest.approx(AUDIOSOCKET_FACTS_TIMEOUT_S, abs=0.03)
    await streams.stop()
