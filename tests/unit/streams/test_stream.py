"""One stream, accepted and dialed: its connection, its state, and its end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from itertools import pairwise

import pytest

from bridge import dialects
from bridge.api.models.streams import Stream as StreamModel
from bridge.audio.playout import MAX_MARKS
from bridge.dialects.base import Dialect
from bridge.dialects.twilio import Twilio
from bridge.dialects.voipbin import Voipbin
from bridge.dialects.voxology import Voxology
from bridge.dialects.yeastar import Yeastar
from bridge.media.dial import Backoff
from bridge.taps.taps import Join, Snoop
from tests.fakes.garbage import uncollected
from tests.fakes.taps import FRAME, playing
from tests.fakes.virtual_time import pass_time, until
from tests.fakes.wire import Wire
from tests.unit.streams.stream_world import World, track


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
