"""Streams that clients open on a party or a conference: they follow it, restore their audio, and end with it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from typing import cast

import pytest

from bridge.access import CONFIGURATION
from bridge.audio.playout import Playout
from bridge.calls.call import Call, CallEnded, Change, Party, PartyChanged, PartyLeft
from bridge.calls.tracker import CallTracker
from bridge.config import Config
from bridge.control.stasis import StasisCalls
from bridge.dialects.voipbin import Voipbin
from bridge.errors import AriError, Overloaded
from bridge.media.call_admission import CallAdmission
from bridge.media.counters import Counters
from bridge.streams.client_streams import RESTORES, ClientStreams
from bridge.streams.registry import Streams
from bridge.streams.stream import Stream
from bridge.streams.wanted_tracks import ClientDirection
from bridge.taps.taps import ConfBridge, Join, Snoop, TapPoint, Taps
from tests.fakes.garbage import uncollected
from tests.fakes.taps import FRAME, FakeTaps, playing
from tests.fakes.virtual_time import pass_time, until
from tests.fakes.wire import Wire

OUTSIDE = Snoop("party", "both", "out")
BROKE = "the audio connection from the PBX broke repeatedly"


class Calls:
    """One call with two parties, and the bridges of our application (`CallTracker`, `StasisCalls`)."""

    def __init__(self) -> None:
        self.call = Call("call", "", answered=True)
        self.parties = {
            name: Party(name, index, name=f"PJSIP/{name}-1") for index, name in enumerate(("party", "other"))
        }
        self.held: dict[str, str] = {}
        self.failure: Exception | None = None
        self._listeners: list[Callable[[Change], object]] = []
        for party in self.parties.values():
            self.call.add(party)

    def subscribe(self, listener: Callable[[Change], object]) -> None:
        self._listeners.append(listener)

    def find(self, any_id: str) -> tuple[Call, Party] | None:
        party = self.parties.get(any_id)
        return (self.call, party) if party is not None else None

    def bridge_of(self, channel_id: str) -> str | None:
        return self.held.get(channel_id)

    async def settled(self, _: str) -> None:
        if self.failure is not None:
            raise self.failure

    def tell(self, change: Change) -> None:
        for listener in self._listeners:
            listener(change)

    def enter(self, channel_id: str, bridge_id: str) -> None:
        self.held[channel_id] = bridge_id
        self.tell(PartyChanged(self.call, self.parties[channel_id], frozenset({"in_stasis"})))

    def leave(self, channel_id: str, moved_to: str | None = None) -> None:
        party = self.parties[channel_id] if moved_to else self.parties.pop(channel_id)
        self.tell(PartyLeft(self.call, party, moved_to=moved_to))


class SensitiveCalls:
    """Calls and bridges in sensitive mode."""

    def __init__(self) -> None:
        self.covered: set[str] = set()

    def covers(self, identity: str, /) -> bool:
        return identity in self.covered

    def covers_bridge(self, bridge_id: str, /) -> bool:
        return bridge_id in self.covered


class World:
    """Clients, and what is around them."""

    def __init__(self) -> None:
        self.pbx = FakeTaps()
        self.calls = Calls()
        self.sensitive = SensitiveCalls()
        self.wire = Wire()
        self.sent: list[tuple[str, str]] = []
        self.conference_exists = True
        self.streams = Streams(
            Config(),
            taps=cast(Taps, self.pbx),
            counters=Counters(),
            new_playout=lambda fmt: Playout(fmt, 10_000, 0),
            admission=CallAdmission(1),
            send_dtmf=self._send_dtmf,
        )
        self.clients = ClientStreams(
            self.streams, cast(CallTracker, self.calls), cast(StasisCalls, self.calls), self.sensitive
        )

    async def _send_dtmf(self, channel_id: str, digits: str) -> None:
        self.sent.append((channel_id, digits))

    def open(self, listen: ClientDirection = "both", speak: ClientDirection = "out") -> Stream:
        call, party = self.calls.call, self.calls.parties["party"]
        return self.clients.open(
            *(call, party, Voipbin("sln"), self.wire), listen=listen, speak=speak, principal=CONFIGURATION
        )

    def open_on_conference(self, place: TapPoint, *, captures: bool = True) -> Stream:
        return self.clients.open_on_conference(
            *("sales", place, Voipbin("sln"), self.wire),
            exists=lambda: self.conference_exists,
            principal=CONFIGURATION,
            participants=lambda: ["party"],
            captures=captures,
        )

    @property
    def open_now(self) -> list[TapPoint]:
        return list(self.pbx.open_now.values())

    async def ended(self, stream: Stream) -> tuple[int, str] | None:
        """Return the close code and the reason of a stream that has ended by itself."""
        await stream.wait()
        assert not self.pbx.open_now
        assert len(self.streams) == 0
        assert not self.clients.of_party("party")
        return self.wire.closed_with


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.streams.stop()
    assert not world.pbx.open_now


async def test_a_stream_is_described_with_its_party(world: World) -> None:
    stream = world.open("in")
    await stream.settled(1)
    described = stream.describe()
    names = ("call_id", "channel_id", "conference_id", "started_by", "direction_listen")
    assert [described[name] for name in names] == ["call", "party", "", "client", "in"]
    assert described["tracks"] == [{"name": "in", "channel_id": "party"}]
    assert (stream.origin.plays, stream.asked) == (True, ("in",))
    with pytest.raises(Overloaded):
        world.open()


async def test_a_leg_that_breaks_is_opened_again_three_times(world: World) -> None:
    stream = world.open()
    await stream.settled(1)
    for restores in range(RESTORES):
        world.wire.on_message(FRAME)
        world.pbx.leg_at(OUTSIDE).detach()
        await until(lambda: len(world.pbx.opened) == restores + 2)  # noqa: B023 - called before the next round
        assert playing(world.pbx.leg_at(OUTSIDE)) == FRAME
    world.pbx.leg_at(OUTSIDE).detach()
    assert await world.ended(stream) == (1011, BROKE)


async def test_a_leg_that_breaks_because_the_party_leaves_ends_the_stream(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """The socket is quicker than the events."""
    stream = world.open()
    await stream.settled(1)
    world.pbx.leg_at(OUTSIDE).detach()
    del world.calls.parties["party"]
    assert await world.ended(stream) == (1000, "call ended")
    assert world.pbx.opened == [OUTSIDE]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("gone", [True, False])
async def test_audio_that_cannot_be_had_ends_the_stream(world: World, gone: bool) -> None:
    world.pbx.failures.append(AriError(500, "POST", "/channels", "no such channel"))
    stream = world.open()
    if gone:
        del world.calls.parties["party"]
    expected = (1000, "call ended") if gone else (1011, "no audio from the PBX: no such channel")
    assert await world.ended(stream) == expected
    assert not world.pbx.opened


async def test_a_stream_follows_its_party_into_our_application_and_loses_nothing(world: World) -> None:
    stream = world.open("in")
    await stream.settled(1)
    outside = Snoop("party", "in", "out")
    before = world.pbx.leg_at(outside)
    world.wire.on_message(FRAME)
    world.calls.enter("party", "b")
    await until(lambda: before not in world.pbx.open_now)
    assert world.open_now == [], "nothing is played where the party is no longer"
    await until(lambda: len(world.open_now) == 2)
    assert set(world.open_now) == {Snoop("party", "in", "none"), Join("b")}
    assert playing(world.pbx.leg_at(Join("b"))) == FRAME
    assert not stream.ended


async def test_a_stream_follows_its_party_into_another_bridge(world: World) -> None:
    world.calls.held["party"] = "b"
    stream = world.open()
    await stream.settled(1)
    assert world.open_now == [Join("b")]
    world.clients.party_moved("party")
    world.clients.party_moved("other")
    assert [track.tap_point for track in stream.tracks] == [Join("b")], "it is where the party is"
    world.calls.held["party"] = "c"
    world.clients.party_moved("party")
    world.calls.held["party"] = "d"
    world.clients.party_moved("party")
    await until(lambda: world.open_now == [Join("d")])
    assert Join("c") not in world.pbx.opened


async def test_a_leg_that_breaks_after_a_move_is_lost_audio(world: World) -> None:
    stream = world.open()
    await stream.settled(1)
    world.calls.enter("party", "b")
    await until(lambda: world.open_now == [Join("b")])
    for restores in range(RESTORES):
        world.pbx.leg_at(Join("b")).detach()
        await until(lambda: len(world.pbx.opened) == restores + 3)  # noqa: B023 - called before the next round
    world.pbx.leg_at(Join("b")).detach()
    assert await world.ended(stream) == (1011, BROKE)


async def test_a_party_that_moves_and_leaves_ends_the_stream(world: World) -> None:
    stream = world.open()
    await stream.settled(1)
    world.calls.enter("party", "b")
    world.calls.leave("party")
    assert await world.ended(stream) == (1000, "call ended")


async def test_a_party_that_cannot_be_held_ends_the_stream(world: World) -> None:
    stream = world.open()
    await stream.settled(1)
    world.calls.failure = AriError(0, "POST", "/bridges/b", "the call could not be answered yet")
    world.calls.enter("party", "b")
    assert await world.ended(stream) == (1011, "no audio from the PBX: the call could not be answered yet")


async def test_a_fault_while_audio_is_opened_ends_the_stream(world: World) -> None:
    world.pbx.failures.append(ZeroDivisionError("a fault"))
    stream = world.open()
    assert await world.ended(stream) == (1011, "internal error")


async def test_a_fault_while_a_party_is_followed_ends_the_stream(world: World) -> None:
    stream = world.open()
    await stream.settled(1)
    world.calls.failure = ZeroDivisionError("a fault")
    world.calls.enter("party", "b")
    assert await world.ended(stream) == (1011, "internal error")


async def test_a_slow_move_is_no_lost_audio(world: World) -> None:
    """A snoop that only listens is at the same tap point inside and outside our application."""
    stream = world.open("in", "none")
    await stream.settled(1)
    world.pbx.close_s = 0.7
    for moves in range(RESTORES + 1):
        world.calls.enter("party", "b")
        await until(lambda: len(world.pbx.opened) == moves + 2 or stream.ended)  # noqa: B023 - called before the next
    assert not stream.ended


async def test_the_party_hears_what_waits_when_it_leaves_our_application(world: World) -> None:
    """Inside the application one leg sends to everybody; outside, one sends to the party and another to the others."""
    world.calls.held["party"] = "b"
    stream = world.open("in", "both")
    await stream.settled(1)
    world.wire.on_message(FRAME)
    del world.calls.held["party"]
    world.calls.tell(PartyChanged(world.calls.call, world.calls.parties["party"], frozenset({"in_stasis"})))
    await until(lambda: set(world.open_now) == {Snoop("party", "in", "out"), Snoop("party", "none", "in")})
    assert playing(world.pbx.leg_at(Snoop("party", "in", "out"))) == FRAME


async def test_a_stream_keeps_on_when_calls_merge_and_when_the_other_party_leaves(world: World) -> None:
    stream = world.open()
    await stream.settled(1)
    world.calls.leave("other")
    world.calls.leave("party", moved_to="older")
    world.calls.tell(CallEnded(world.calls.call, merged_into="older"))
    assert not stream.ended
    assert stream.describe()["call_id"] == "older"
    world.calls.tell(CallEnded(Call("older", "")))
    assert await world.ended(stream) == (1000, "call ended")


@pytest.mark.parametrize(("speak", "expected"), [("out", [("party", "12")]), ("none", [])])
async def test_only_a_client_that_speaks_sends_digits(
    world: World, speak: ClientDirection, expected: list[tuple[str, str]]
) -> None:
    stream = world.open(speak=speak)
    await stream.settled(1)
    world.wire.on_message('{"event":"dtmf","dtmf":{"digits":"12"}}')
    stream.end("enough")
    await stream.wait()
    assert world.sent == expected


async def test_sensitive_mode_is_that_of_the_party(world: World) -> None:
    world.sensitive.covered = {"other", "call"}
    stream = world.open()
    assert not stream.sensitive
    world.sensitive.covered.add("party")
    world.streams.review()
    assert stream.sensitive


async def test_a_stream_on_a_conference(world: World) -> None:
    stream = world.open_on_conference(Join("c"))
    await stream.settled(1)
    described = stream.describe()
    assert (described["conference_id"], described["call_id"], described["channel_id"]) == ("sales", "", "")
    assert described["direction_listen"] == "both"
    world.wire.on_message('{"event":"dtmf","dtmf":{"digits":"12"}}')
    world.pbx.leg_at(Join("c")).detach()
    await until(lambda: len(world.pbx.opened) == 2)
    world.clients.end_conference("support")
    assert not stream.ended
    world.clients.end_conference("sales")
    assert await world.ended(stream) == (1000, "conference ended")
    assert world.sent == []


async def test_a_conference_that_has_gone_with_its_audio(world: World) -> None:
    stream = world.open_on_conference(ConfBridge("sales", "context"), captures=False)
    await stream.settled(1)
    assert stream.describe()["direction_listen"] == "none"
    world.conference_exists = False
    world.pbx.leg_at(ConfBridge("sales", "context")).detach()
    assert await world.ended(stream) == (1000, "conference ended")


@pytest.mark.parametrize(
    ("covered", "place"), [("c", Join("c")), ("party", Join("c")), ("party", ConfBridge("s", "x"))]
)
async def test_a_conference_is_sensitive_with_each_of_its_participants(
    world: World, covered: str, place: TapPoint
) -> None:
    stream = world.open_on_conference(place)
    assert not stream.sensitive
    world.sensitive.covered.add(covered)
    stream.review()
    assert stream.sensitive


@pytest.mark.parametrize("course", ["plain", "moved", "silent", "refused", "conference"])
async def test_an_ended_stream_leaves_nothing_to_the_garbage_collector(world: World, course: str) -> None:
    with uncollected() as left:
        if course in ("silent", "refused"):
            world.pbx.failures.extend(AriError(404, "POST", "/channels", "gone") for _ in range(RESTORES))
        stream = world.open_on_conference(ConfBridge("sales", "c")) if course == "conference" else world.open()
        await stream.settled(0.1)
        world.wire.on_message("not a message of this dialect")
        world.wire.on_message('{"event": "dtmf", "dtmf": {"digits": "1"}}')
        if course == "moved":
            world.calls.enter("party", "ours")
        if course != "refused":
            stream.end("the test is over")
        await stream.wait()
        del stream
        await until(lambda: len(world.streams) == 0)
        await pass_time(10)
    assert not left
