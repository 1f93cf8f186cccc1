"""Tracks of a stream that we dial: those that only speak, those that move, and what waits until they are open."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any, cast

import pytest

from bridge.access import CONFIGURATION
from bridge.audio.playout import Playout
from bridge.dialects.base import CallInfo, Dialect, Message, TrackInfo
from bridge.dialects.twilio import Twilio
from bridge.dialects.voipbin import Voipbin
from bridge.dialects.voxology import Voxology
from bridge.media.counters import Counters
from bridge.media.dial import Backoff, LinkFailed
from bridge.media.leg import MediaLeg
from bridge.media.websocket import Link
from bridge.streams.pushed import PushedStream
from bridge.streams.track import TrackPlace
from bridge.taps.taps import Join, Snoop, TapPoint, Taps

FRAME = b"\1\0" * 160


class Wire(Link):
    """A WebSocket whose messages are kept."""

    def __init__(self) -> None:
        super().__init__(Counters(), max_unsent_ms=1000, ping_interval_s=60)
        self.sent: list[Message] = []
        self.answers_close = True
        self.take_back_s: float | None = None

    def close(self, code: int, reason: str, *, take_back_s: float | None = None) -> None:
        self.take_back_s = take_back_s
        super().close(code, reason, take_back_s=take_back_s)

    def _write(self, message: Message) -> None:
        self.sent.append(message)

    def _write_close(self, code: int, reason: str) -> None:  # noqa: ARG002 - as `Link` has it
        self.sent.append(f"close {code}")
        if self.answers_close:
            asyncio.get_running_loop().call_soon(self.lost)

    def _write_ping(self) -> None:
        pass

    def _write_pong(self, payload: bytes) -> None:
        pass

    def _disconnect(self) -> None:
        self.lost()


class Pbx:
    """Opens legs, as `Taps` does, but for no PBX."""

    def __init__(self) -> None:
        self.open_now: dict[MediaLeg, TapPoint] = {}
        self.opened: list[TapPoint] = []
        self.let_in = asyncio.Event()
        self.let_in.set()

    async def open(self, leg: MediaLeg, place: TapPoint) -> MediaLeg:
        await self.let_in.wait()
        self.open_now[leg] = place
        self.opened.append(place)
        return leg

    async def close(self, tap: MediaLeg) -> None:
        self.open_now.pop(tap, None)

    def leg_at(self, place: TapPoint) -> MediaLeg:
        (leg,) = (leg for leg, where in self.open_now.items() if where == place)
        return leg


class World:
    """One stream and what is around it."""

    def __init__(self) -> None:
        self.pbx = Pbx()
        self.wire = Wire()
        self.reachable = True
        self.backoff = Backoff(5, 5)
        self.asked_s = 0.0
        self.dialed: list[float] = []
        self.streams: list[PushedStream] = []
        self.ended: list[str] = []
        self.connected = 0
        self.sensitive: set[str] = set()

    def stream(self, dialect: Dialect, *tracks: str) -> PushedStream:
        stream = PushedStream(
            "p1",
            "test",
            CallInfo("call"),
            tracks,
            dialect=dialect,
            dial=self._dial,
            backoff=self.backoff,
            taps=cast(Taps, self.pbx),
            counters=Counters(),
            new_playout=lambda fmt: Playout(fmt, 10_000, 0),
            window_ms=5000,
            on_end=lambda _, reason: self.ended.append(reason),
            on_dtmf=lambda _: None,
            on_connected=self._count,
            principal=CONFIGURATION,
            is_sensitive=self.sensitive.__contains__,
        )
        self.streams.append(stream)
        return stream

    def _count(self, _: PushedStream) -> None:
        self.connected += 1

    async def _dial(self) -> Link:
        self.dialed.append(asyncio.get_running_loop().time())
        if not self.reachable:
            raise LinkFailed("not there", self.asked_s)
        return self.wire

    @property
    def texts(self) -> list[str]:
        return [message for message in self.wire.sent if isinstance(message, str)]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    for stream in world.streams:
        stream.end("the test is over")
        await stream.wait()
    assert not world.pbx.open_now


def track(name: str, place: TapPoint, *, speaks: bool = False, hears: bool = True) -> TrackPlace:
    return TrackPlace(TrackInfo(name, "party"), place, speaks=speaks, hears=hears)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(2):
        while not condition():
            await asyncio.sleep(0.005)


def playing(leg: MediaLeg) -> bytes | None:
    return leg.playout.take()


async def test_nothing_of_a_track_that_only_speaks_goes_out(world: World) -> None:
    stream = world.stream(Voipbin("sln"))
    stream.set_tracks([track("(speaks 0)", Join("b"), speaks=True, hears=False)])
    await stream.settled(1)
    leg = world.pbx.leg_at(Join("b"))
    leg.on_audio(FRAME)
    assert leg.on_tick is not None
    leg.on_tick()
    assert world.wire.sent == []
    assert stream.tracks == []
    assert stream.first_channel == "party"
    world.wire.on_message(FRAME)
    assert playing(leg) == FRAME


async def test_no_dialect_is_told_of_a_track_that_only_speaks(world: World) -> None:
    stream = world.stream(Twilio(connect=True), "inbound")
    stream.set_tracks(
        [track("inbound", Snoop("party", "in", "none")), track("(speaks 0)", Join("b"), speaks=True, hears=False)]
    )
    await stream.settled(1)
    world.pbx.leg_at(Join("b")).on_audio(FRAME)
    assert len(world.texts) == 2  # connected, start
    world.pbx.leg_at(Snoop("party", "in", "none")).on_audio(FRAME)
    stream.key_pressed("party", "5")
    assert ['"event":"media"' in text for text in world.texts[2:]] == [True, False]
    assert world.texts[-1].count('"digit":"5"') == 1


async def test_a_track_of_a_sensitive_party_begins_in_silence_and_reports_no_digit(world: World) -> None:
    """Its own call need not be in sensitive mode: it may share a bridge with a party of one that is."""
    place = Snoop("party", "in", "none")
    world.sensitive.add("party")
    stream = world.stream(Twilio(connect=True), "inbound")
    stream.set_tracks([track("inbound", place)])
    assert stream.sensitive
    await stream.settled(1)
    stream.key_pressed("party", "5")
    world.pbx.leg_at(place).sink(FRAME)
    (media,) = world.texts[2:]
    assert json.loads(media)["media"]["payload"] == base64.b64encode(b"\xff" * 160).decode()
    world.sensitive.clear()
    stream.review()
    stream.key_pressed("party", "6")
    assert '"digit":"6"' in world.texts[-1]


async def test_a_leg_that_asterisk_opened_reports_no_digit_in_silence(world: World) -> None:
    world.sensitive.add("party")
    stream = world.stream(Twilio(connect=True), "inbound")
    await stream.settled(1)
    leg = stream.new_leg()
    stream.adopt(TrackInfo("inbound", "party"), leg)
    stream.review()
    sent = len(world.texts)
    leg.on_dtmf("5")
    assert len(world.texts) == sent
    world.sensitive.clear()
    stream.review()
    leg.on_dtmf("6")
    assert '"digit":"6"' in world.texts[-1]


async def test_a_track_that_moves_goes_on_and_so_does_what_waits_to_be_played(world: World) -> None:
    stream = world.stream(Voxology(), "caller")
    stream.set_tracks([track("caller", Join("b"))])
    await stream.settled(1)
    told = len(world.texts)
    stream.set_tracks([track("caller", Join("c"))])
    await until(lambda: list(world.pbx.open_now.values()) == [Join("c")])
    assert world.texts[told:] == []
    for _ in range(10):
        world.pbx.leg_at(Join("c")).on_audio(FRAME)
        await asyncio.sleep(0.02)
    assert {"live_track" in text for text in world.texts[told:]} == {True}
    assert stream.tracks[0].name == "caller"

    speaking = world.stream(Voipbin("sln"))
    world.wire = Wire()
    speaking.set_tracks([track("mix", Join("b"), speaks=True)])
    await speaking.settled(1)
    world.wire.on_message(FRAME + FRAME)
    assert playing(world.pbx.leg_at(Join("b"))) == FRAME
    speaking.set_tracks([track("mix", Join("d"), speaks=True)])
    await until(lambda: Join("d") in world.pbx.open_now.values())
    assert playing(world.pbx.leg_at(Join("d"))) == FRAME


async def test_a_track_that_moves_twice_while_it_is_opened_ends_up_in_the_last_place(world: World) -> None:
    stream = world.stream(Voipbin("sln"))
    world.pbx.let_in.clear()
    stream.set_tracks([track("mix", Join("b"))])
    await asyncio.sleep(0.01)
    stream.set_tracks([track("mix", Join("c"))])
    stream.set_tracks([track("mix", Join("d"))])
    world.pbx.let_in.set()
    await until(lambda: list(world.pbx.open_now.values()) == [Join("d")])
    assert Join("c") not in world.pbx.opened


async def test_another_party_is_another_track(world: World) -> None:
    stream = world.stream(Voxology(), "caller")
    stream.set_tracks([track("caller", Snoop("party", "in", "none"))])
    await stream.settled(1)
    stream.set_tracks([TrackPlace(TrackInfo("caller", "other"), Snoop("other", "in", "none"))])
    await until(lambda: list(world.pbx.open_now.values()) == [Snoop("other", "in", "none")])
    kinds = [text.split('"type":"')[1].split('"')[0] for text in world.texts]
    assert kinds == ["init_stream", "start_track", "stop_track", "start_track"]


async def test_who_follows_under_a_name_is_not_heard_if_he_leaves_at_once_too(world: World) -> None:
    """The parties of a call that ends leave one after the other."""
    stream = world.stream(Voipbin("sln"))
    first, second = (TrackPlace(TrackInfo("far", who), Snoop(who, "in", "none")) for who in ("trunk", "phone"))
    stream.set_tracks([first])
    await until(lambda: world.pbx.open_now)
    stream.set_tracks([second])
    await asyncio.sleep(0.03)
    stream.set_tracks([])
    await asyncio.sleep(0.2)
    assert world.pbx.opened == [first.place]
    stream.set_tracks([first])
    await until(lambda: world.pbx.open_now)
    stream.set_tracks([second])  # and who stays is
    await until(lambda: world.pbx.opened[-1] == second.place)


async def test_settled_waits_for_connection_and_tracks_but_for_nothing_that_is_in_trouble(world: World) -> None:
    loop = asyncio.get_running_loop()
    world.pbx.let_in.clear()
    stream = world.stream(Voipbin("sln"))
    stream.set_tracks([track("mix", Join("b"))])
    began = loop.time()
    await stream.settled(0.2)
    assert 0.15 < loop.time() - began < 1
    waiting = asyncio.create_task(stream.settled(5))
    world.pbx.let_in.set()
    await asyncio.wait_for(waiting, 1)
    assert stream.live
    world.reachable = False
    unreachable = world.stream(Voipbin("sln"))
    await asyncio.wait_for(unreachable.settled(5), 1)
    assert unreachable.trouble == "not there"
    stream.end("enough")
    await asyncio.wait_for(stream.settled(5), 1)


async def test_a_server_that_asks_to_wait_is_not_dialed_before(world: World) -> None:
    world.backoff = Backoff(0.001, 0.001)
    world.reachable, world.asked_s = False, 0.2
    world.stream(Voipbin("sln"))
    await until(lambda: len(world.dialed) == 3)
    assert min(later - sooner for sooner, later in pairwise(world.dialed)) >= 0.2


async def test_who_wants_to_know_is_told(world: World) -> None:
    stream = world.stream(Voxology(), "caller")
    stream.ask(["transfer", "caller"])
    assert stream.asked == ("caller", "transfer")
    await stream.settled(1)
    assert '"tracks":[{"name":"caller"},{"name":"transfer"}]' in world.texts[0]
    assert (world.connected, world.ended) == (1, [])
    stream.end("enough")
    assert stream.ended
    await stream.wait()
    assert world.ended == ["enough"]
    assert world.texts[-1] == "close 1000"


async def test_a_stream_that_gives_way_is_not_over_before_nothing_can_come_any_more(world: World) -> None:
    loop = asyncio.get_running_loop()
    stream = world.stream(Voipbin("sln"))
    await stream.settled(1)
    world.wire.answers_close = False
    world.wire.paused()  # and does not read
    stream.end("another goes on", give_way_s=0.2)
    stream.end("enough")
    began = loop.time()
    await stream.wait()
    assert world.wire.take_back_s == 0.2
    assert world.wire.closed
    assert 0.15 < loop.time() - began < 1
    assert world.ended == ["another goes on"]


async def test_a_stream_that_just_ends_waits_for_no_answer(world: World) -> None:
    stream = world.stream(Voipbin("sln"))
    await stream.settled(1)
    world.wire.answers_close = False
    stream.end("enough")
    await asyncio.wait_for(stream.wait(), 1)
    assert world.wire.take_back_s is None
    assert not world.wire.closed
    world.wire.abort(1006, "the test is over")
