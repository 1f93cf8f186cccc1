"""The tracks of a stream, accepted and dialed: what they send and play, how they move, and sensitive parties."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from bridge.dialects.base import TrackInfo
from bridge.dialects.twilio import Twilio
from bridge.dialects.voipbin import Voipbin
from bridge.dialects.voxology import Voxology
from bridge.errors import AriError
from bridge.streams.track import Recovery
from bridge.streams.wanted_tracks import WantedTrack
from bridge.taps.taps import Join, Snoop
from tests.fakes.taps import FRAME, playing
from tests.fakes.virtual_time import pass_time, until
from tests.unit.streams.stream_world import World, track


@pytest.fixture(params=["accepted", "dialed"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    world = World(request.param)
    yield world
    for stream in world.streams:
        stream.end("the test is over")
        await stream.wait()
    assert not world.taps.open_now


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
