"""One stream, accepted and dialed: its tracks, what waits until they are open, and its connection."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from itertools import pairwise
from typing import cast
from uuid import uuid4

import pytest

from bridge import dialects
from bridge.access import CONFIGURATION
from bridge.api.models.streams import Stream as StreamModel
from bridge.audio.playout import MAX_MARKS, Playout
from bridge.dialects.base import CallInfo, Dialect, TrackInfo
from bridge.dialects.twilio import Twilio
from bridge.dialects.voipbin import Voipbin
from bridge.dialects.voxology import Voxology
from bridge.dialects.yeastar import Yeastar
from bridge.errors import AriError
from bridge.media.counters import Counters
from bridge.media.dial import Backoff, LinkFailed
from bridge.media.websocket import Link
from bridge.streams.connection import Accepted, Dialed
from bridge.streams.origin import Origin
from bridge.streams.stream import Stream
from bridge.streams.track import Recovery
from bridge.streams.wanted_tracks import WantedTrack
from bridge.taps.taps import Join, Snoop, TapPoint, Taps
from tests.fakes.garbage import uncollected
from tests.fakes.taps import FRAME, FakeTaps, playing
from tests.fakes.virtual_time import pass_time, until
from tests.fakes.wire import Wire


class World:
    """One stream and what is around it.

    Args:
        kind: ``accepted`` or ``dialed``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.taps = FakeTaps()
        self.wire = Wire()
        self.reachable = True
        self.backoff = Backoff(5, 5)
        self.asked_s = 0.0
        self.dialed: list[float] = []
        self.streams: list[Stream] = []
        self.ended: list[str] = []
        self.connected = 0
        self.sensitive: set[str] = set()
        self.counters = Counters()

    def stream(self, dialect: Dialect, *tracks: str) -> Stream:
        stream = Stream(
            "1",
            Origin("test", CONFIGURATION, plays=True),
            CallInfo("call"),
            tracks,
            dialect=dialect,
            connection=Accepted(self.wire) if self.kind == "accepted" else Dialed(self._dial, self.backoff),
            taps=cast(Taps, self.taps),
            counters=self.counters,
            new_playout=lambda fmt: Playout(fmt, 10_000, 0),
            window_ms=5000,
            on_end=lambda _, reason: self.ended.append(reason),
            on_dtmf=lambda _: None,
            on_connected=self._count,
            is_sensitive=lambda channels: not self.sensitive.isdisjoint(channels),
        )
        stream.start()
        self.streams.append(stream)
        return stream

    def _count(self, _: Stream) -> None:
        self.connected += 1

    async def _dial(self) -> Link:
        self.dialed.append(asyncio.get_running_loop().time())
        if not self.reachable:
            raise LinkFailed("not there", self.asked_s)
        return self.wire

    @property
    def texts(self) -> list[str]:
        return [message for message in self.wire.sent if isinstance(message, str)]


@pytest.fixture(params=["accepted", "dialed"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    world = World(request.param)
    yield world
    for stream in world.streams:
        stream.end("the test is over")
        await stream.wait()
    assert not world.taps.open_now


dialed = pytest.mark.parametrize("world", ["dialed"], indirect=True)
accepted = pytest.mark.parametrize("world", ["accepted"], indirect=True)


def track(name: str, place: TapPoint, *, plays: bool = False, captures: bool = True) -> WantedTrack:
    return WantedTrack(TrackInfo(name, "party"), place, plays=plays, captures=captures)


async def test_nothing_of_a_track_that_only_speaks_goes_out(world: World) -> None:
    stream = world.stream(Voipbin("sln"))
    stream.set_tracks([track("(plays 0)", Join("b"), plays=True, captures=False)])
    await stream.settled(1)
    leg = world.taps.leg_at(Join("b"))
    leg.on_audio(FRAME)
    assert leg.on_tick is not None
    leg.on_tick()
    assert world.wire.sent == []
    assert stream.tracks.received == []
    assert stream.tracks.first_channel == "party"
    world.wire.on_message(FRAME)
    assert playing(leg) == FRAME


async def test_no_dialect_is_told_of_a_track_that_only_speaks(world: World) -> None:
    stream = world.stream(Twilio(connect=True), "inbound")
    stream.set_tracks(
        [track("inbound", Snoop("party", "in", "none")), track("(plays 0)", Join("b"), plays=True, captures=False)]
    )
    await stream.settled(1)
    world.taps.leg_at(Join("b")).on_audio(FRAME)
    assert len(world.texts) == 2  # connected, start
    world.taps.leg_at(Snoop("party", "in", "none")).on_audio(FRAME)
    stream.tracks.key_pressed("party", "5")
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
    stream.tracks.key_pressed("party", "5")
    world.taps.leg_at(place).sink(FRAME)
    (media,) = world.texts[2:]
    assert json.loads(media)["media"]["payload"] == base64.b64encode(b"\xff" * 160).decode()
    world.sensitive.clear()
    stream.review()
    stream.tracks.key_pressed("party", "6")
    assert '"digit":"6"' in world.texts[-1]


async def test_a_leg_that_asterisk_opened_reports_no_digit_in_silence(world: World) -> None:
    world.sensitive.add("party")
    stream = world.stream(Twilio(connect=True), "inbound")
    await stream.settled(1)
    leg = stream.adopt(TrackInfo("inbound", "party"), uuid4())
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
    await until(lambda: list(world.taps.open_now.values()) == [Join("c")])
    assert world.texts[told:] == []
    for _ in range(10):
        world.taps.leg_at(Join("c")).on_audio(FRAME)
        await pass_time(0.02)
    assert {"live_track" in text for text in world.texts[told:]} == {True}
    assert stream.tracks.received[0].name == "caller"


async def test_what_waits_to_be_played_follows_a_track_that_moves(world: World) -> None:
    stream = world.stream(Voipbin("sln"))
    stream.set_tracks([track("mix", Join("b"), plays=True)])
    await stream.settled(1)
    world.wire.on_message(FRAME + FRAME)
    assert playing(world.taps.leg_at(Join("b"))) == FRAME
    stream.set_tracks([track("mix", Join("d"), plays=True)])
    await until(lambda: list(world.taps.open_now.values()) == [Join("d")])
    assert playing(world.taps.leg_at(Join("d"))) == FRAME


async def test_what_waits_to_be_played_passes_to_the_track_that_speaks_from_now_on(world: World) -> None:
    """A party that enters our application is received by a snoop and spoken to in its bridge."""
    stream = world.stream(Voipbin("sln"))
    outside, inside = Snoop("party", "in", "out"), Snoop("party", "in", "none")
    stream.set_tracks([track("in", outside, plays=True)])
    await stream.settled(1)
    before = world.taps.leg_at(outside)
    world.wire.on_message(FRAME + FRAME)
    assert playing(before) == FRAME
    stream.set_tracks([track("in", inside), track("(plays 1)", Join("b"), plays=True, captures=False)])
    assert playing(before) is None, "nothing is played twice"
    await until(lambda: set(world.taps.open_now.values()) == {inside, Join("b")})
    assert playing(world.taps.leg_at(Join("b"))) == FRAME


async def test_a_stream_that_is_displaced_has_no_leg_until_it_has_another_place(world: World) -> None:
    stream = world.stream(Voipbin("sln"))
    stream.set_tracks([track("mix", Join("b"), plays=True)])
    await stream.settled(1)
    stream.tracks.displace()
    await until(lambda: not world.taps.open_now)
    world.wire.on_message(FRAME)
    stream.set_tracks([track("mix", Join("c"), plays=True)])
    await until(lambda: list(world.taps.open_now.values()) == [Join("c")])
    assert playing(world.taps.leg_at(Join("c"))) == FRAME


async def test_a_leg_that_breaks_is_opened_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recovery, "waits_s", (0.001,))
    stream = world.stream(Voipbin("sln"))
    stream.set_tracks([track("mix", Join("b"), plays=True)])
    await stream.settled(1)
    world.wire.on_message(FRAME)
    broken = world.taps.leg_at(Join("b"))
    world.taps.failures.append(AriError(500, "POST", "/channels", "not now"))
    broken.detach()
    await until(lambda: broken not in world.taps.open_now and world.taps.open_now)
    assert playing(world.taps.leg_at(Join("b"))) == FRAME
    assert world.taps.opened == [Join("b")] * 2
    assert not stream.ended


async def test_a_description_is_what_the_document_says(world: World) -> None:
    stream = world.stream(Voipbin("sln"), "mix")
    stream.set_tracks([track("mix", Join("b"))])
    described = stream.describe()
    StreamModel.model_validate_json(json.dumps(described), strict=True)
    assert (described["live"], described["tracks"]) == (False, [{"name": "mix", "channel_id": "party"}])
    await stream.settled(1)
    described = stream.describe()
    assert (described["live"], described["connects"], described["trouble"]) == (True, 1, None)
    assert world.counters.streams_opened == 1


async def test_a_track_that_moves_twice_while_it_is_opened_ends_up_in_the_last_place(world: World) -> None:
    stream = world.stream(Voipbin("sln"))
    world.taps.admit.clear()
    stream.set_tracks([track("mix", Join("b"))])
    await pass_time(0.01)
    stream.set_tracks([track("mix", Join("c"))])
    stream.set_tracks([track("mix", Join("d"))])
    world.taps.admit.set()
    await until(lambda: list(world.taps.open_now.values()) == [Join("d")])
    assert Join("c") not in world.taps.opened


async def test_another_party_is_another_track(world: World) -> None:
    stream = world.stream(Voxology(), "caller")
    stream.set_tracks([track("caller", Snoop("party", "in", "none"))])
    await stream.settled(1)
    stream.set_tracks([WantedTrack(TrackInfo("caller", "other"), Snoop("other", "in", "none"))])
    await until(lambda: list(world.taps.open_now.values()) == [Snoop("other", "in", "none")])
    kinds = [text.split('"type":"')[1].split('"')[0] for text in world.texts]
    assert kinds == ["init_stream", "start_track", "stop_track", "start_track"]


async def test_who_follows_under_a_name_is_not_heard_if_he_leaves_at_once_too(world: World) -> None:
    """The parties of a call that ends leave one after the other."""
    stream = world.stream(Voipbin("sln"))
    first, second = (WantedTrack(TrackInfo("far", who), Snoop(who, "in", "none")) for who in ("trunk", "phone"))
    stream.set_tracks([first])
    await until(lambda: world.taps.open_now)
    stream.set_tracks([second])
    await pass_time(0.03)
    stream.set_tracks([])
    await pass_time(0.2)
    assert world.taps.opened == [first.tap_point]
    stream.set_tracks([first])
    await until(lambda: world.taps.open_now)
    stream.set_tracks([second])  # and who stays is
    await until(lambda: world.taps.opened[-1] == second.tap_point)


async def test_settled_waits_for_connection_and_tracks_but_for_nothing_that_is_in_trouble(world: World) -> None:
    loop = asyncio.get_running_loop()
    world.taps.admit.clear()
    stream = world.stream(Voipbin("sln"))
    stream.set_tracks([track("mix", Join("b"))])
    began = loop.time()
    await stream.settled(0.2)
    assert 0.15 < loop.time() - began < 1
    waiting = asyncio.create_task(stream.settled(5))
    world.taps.admit.set()
    await asyncio.wait_for(waiting, 1)
    assert stream.live
    stream.end("enough")
    await asyncio.wait_for(stream.settled(5), 1)


@dialed
async def test_an_application_that_cannot_be_reached_is_trouble(world: World) -> None:
    world.reachable = False
    stream = world.stream(Voipbin("sln"))
    await asyncio.wait_for(stream.settled(5), 1)
    assert stream.trouble == stream.describe()["trouble"] == "not there"


@dialed
async def test_a_connection_that_breaks_is_opened_again(world: World) -> None:
    world.backoff = Backoff(0.001, 0.001)
    stream = world.stream(Twilio(connect=True), "inbound")
    stream.set_tracks([track("inbound", Join("b"), plays=True)])
    await stream.settled(1)
    first, world.wire = world.wire, Wire()
    first.on_message('{"event":"media","media":{"payload":"' + "A" * 216 + '"}}')
    assert stream.describe()["queued_ms"] == 20
    first.abort(1006, "gone")
    await stream.settled(1)
    assert stream.trouble == "the connection broke (1006 gone)"
    assert stream.describe()["queued_ms"] == 0, "the next connection begins from scratch"
    await until(lambda: stream.live)
    assert (stream.connects, stream.trouble, world.connected) == (2, None, 2)
    assert [json.loads(text)["event"] for text in world.texts] == ["connected", "start"]


@dialed
@pytest.mark.parametrize("code", [1001, 1006, 1011, 1012])
async def test_an_application_that_restarts_or_fails_is_dialed_again(world: World, code: int) -> None:
    world.backoff = Backoff(0.001, 0.001)
    stream = world.stream(Twilio(connect=True), "inbound")
    await stream.settled(1)
    first, world.wire = world.wire, Wire()
    first.abort(code, "bye")
    await until(lambda: stream.connects == 2)
    assert not stream.ended


@pytest.mark.parametrize("code", [1000, 1005])
async def test_a_stream_ends_with_a_connection_that_the_application_closes(world: World, code: int) -> None:
    stream = world.stream(Voipbin("sln"))
    await stream.settled(1)
    world.wire.abort(code, "")
    await stream.wait()
    assert (world.ended, stream.close_code) == (["the application closed the stream"], code)


async def test_what_is_added_and_left_out_is_described(world: World) -> None:
    stream = world.stream(Yeastar(), "mix")
    stream.set_tracks([track("mix", Join("b"), plays=True)])
    await stream.settled(1)
    leg = world.taps.leg_at(Join("b"))
    for _ in range(50):
        leg.on_audio(FRAME * 2)
        await pass_time(0.02)
    skipped_ms = stream.describe()["skipped_ms"]
    assert skipped_ms == pytest.approx(1000, abs=100)
    for _ in range(100):
        assert leg.on_tick is not None
        leg.on_tick()
        await pass_time(0.02)
    described = stream.describe()
    assert described["skipped_ms"] == skipped_ms
    assert described["filled_ms"] == pytest.approx(1800, abs=100)
    stream.set_tracks(())
    assert stream.describe()["filled_ms"] == pytest.approx(1800, abs=300), "a track that has stopped counts"


async def test_marks_that_find_no_place_and_frames_that_are_padded_are_counted(world: World) -> None:
    stream = world.stream(Voipbin("sln"))
    stream.set_tracks([track("mix", Join("b"), plays=True)])
    await stream.settled(1)
    world.wire.on_message(FRAME[:100] + FRAME)
    leg = world.taps.leg_at(Join("b"))
    while playing(leg) is not None:
        pass
    assert stream.describe()["padded_frames"] == 1
    world.wire.on_message(FRAME)
    for n in range(MAX_MARKS + 2):
        world.wire.on_message(json.dumps({"event": "mark", "name": str(n)}))
    assert world.counters.marks_dropped == 2


@dialed
async def test_messages_that_are_lost_without_a_connection_are_counted(world: World) -> None:
    world.reachable = False
    stream = world.stream(Yeastar(), "mix")
    stream.set_tracks([track("mix", Join("b"))])
    await stream.settled(1)
    await until(lambda: world.taps.open_now)
    leg = world.taps.leg_at(Join("b"))
    for _ in range(500):  # 10 s, of which 5 are kept
        leg.on_audio(FRAME)
        await pass_time(0.02)
    described = stream.describe()
    assert described["dropped_to_application_ms"] == pytest.approx(5000, abs=300)
    assert described["missed_messages"] == pytest.approx(5000 / stream.dialect.message_ms, abs=10)


@accepted
async def test_an_accepted_stream_ends_with_its_connection(world: World) -> None:
    stream = world.stream(Voipbin("sln"))
    await stream.settled(1)
    world.wire.abort(1006, "connection lost")
    await stream.wait()
    assert (world.ended, stream.close_code) == (["connection lost"], 1006)


@accepted
async def test_what_an_accepted_application_sends_in_the_same_turn_is_not_lost(world: World) -> None:
    stream = world.stream(Voipbin("sln"))
    stream.set_tracks([track("mix", Join("b"), plays=True)])
    world.wire.on_message(FRAME)
    await stream.settled(1)
    assert playing(world.taps.leg_at(Join("b"))) == FRAME


@dialed
async def test_a_server_that_asks_to_wait_is_not_dialed_before(world: World) -> None:
    world.backoff = Backoff(0.001, 0.001)
    world.reachable, world.asked_s = False, 0.2
    world.stream(Voipbin("sln"))
    await until(lambda: len(world.dialed) == 3)
    assert min(later - sooner for sooner, later in pairwise(world.dialed)) >= 0.2


@dialed
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


@dialed
async def test_a_stream_that_gives_way_is_not_over_before_nothing_can_come_any_more(world: World) -> None:
    loop = asyncio.get_running_loop()
    stream = world.stream(Voipbin("sln"))
    await stream.settled(1)
    world.wire.answers_close = False
    world.wire.paused()  # and does not read
    stream.end("another goes on", handover_grace_s=0.2)
    stream.end("enough")
    began = loop.time()
    await stream.wait()
    assert world.wire.discard_unacked_after_s == 0.2
    assert world.wire.closed
    assert 0.15 < loop.time() - began < 1
    assert world.ended == ["another goes on"]


async def test_a_stream_that_just_ends_waits_for_no_answer(world: World) -> None:
    stream = world.stream(Voipbin("sln"))
    await stream.settled(1)
    world.wire.answers_close = False
    stream.end("enough")
    await asyncio.wait_for(stream.wait(), 1)
    assert world.wire.discard_unacked_after_s is None
    assert not world.wire.closed
    world.wire.abort(1006, "the test is over")


@dialed
@pytest.mark.parametrize("name", sorted(dialects.known()))
async def test_an_ended_stream_leaves_nothing_to_the_garbage_collector(world: World, name: str) -> None:
    world.reachable = False
    new_dialect: Callable[[], Dialect] = partial(Voipbin, "sln") if name == "voipbin" else dialects.find(name)
    with uncollected() as left:
        stream = world.stream(new_dialect(), "in")
        stream.set_tracks([track("in", Snoop("party", "in", "none"))])
        await until(lambda: bool(world.dialed))
        world.reachable = True
        await until(lambda: world.streams[0].live)
        for message in ("not a message of the dialect", b"nor this"):
            world.wire.on_message(message)
        stream.end("the test is over")
        await stream.wait()
        world.streams.clear()
        del stream
        await pass_time(1)
    assert not left
