"""Streams that flows start, on real calls: STREAM in its dialects, and whom it follows."""

from __future__ import annotations

import asyncio
import base64
import time

import pytest

from bridge.access import CONFIGURATION
from bridge.control.playback import Players
from bridge.control.voice_rate import VoiceRates
from bridge.testing import judge, peer
from bridge.testing.lab_engine import Lab
from tests.flow_requests import external_media, stream_start, stream_stop
from tests.lab.conftest import Phones
from tests.lab.encapsulations import from_messages
from tests.lab.sink import open_sink, tone_share
from tests.lab.streaming import (
    APPLICATION_HZ,
    OTHER_HZ,
    PHONE_HZ,
    RATE,
    calling,
    check_voxology,
    flows,
    say,
    seconds_of,
)
from tests.lab.waiting import PATIENCE_S, sends


async def test_stream_hears_the_caller_only_and_ends_in_order(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    async with open_sink() as sink, open_sink() as speaker, flows(lab) as flow:
        leg = await calling(flow, alice)
        await flow.streams.external_media_start(
            leg, external_media(url=speaker.url, encapsulation="sln"), CONFIGURATION
        )
        (voice,) = await speaker.connected(1)
        request = {"url": sink.url, "stream_name": "one", "stream_data": {"a": 1}, "tracks": ["caller", "transfer"]}
        await flow.streams.stream_start(leg, stream_start(**request), CONFIGURATION)
        (received,) = await sink.connected(1, 0.1)
        await say(voice, "sln", 2.0)  # as SAY would be heard: not in this track
        await sends(alice, 2.5)
        await flow.streams.stream_stop(leg, stream_stop(**request | {"stream_data": {"b": 2}}))
        await asyncio.wait_for(received.ended.wait(), PATIENCE_S)
        check_voxology(received, ["caller"])
        init, start, end = received.messages[0], received.messages[1], received.messages[-1]
        assert init["tracks"] == [{"name": "caller"}, {"name": "transfer"}]
        assert (init["stream_name"], init["stream_data"], end["stream_data"]) == ("one", {"a": 1}, {"b": 2})
        assert (start["api_no"], start["caller_no"]) == ("750", "1001")
        caller = received.voxology("caller")
        assert tone_share(caller[RATE // 2 :], RATE, PHONE_HZ) > 0.95
        assert tone_share(caller, RATE, APPLICATION_HZ) == 0
        assert len(caller) / RATE * 1000 == pytest.approx(end["tracks"][0]["duration"], abs=160)
        # The same URL again is a new stream, with other words in its dialect.
        yeastar = stream_start(url=sink.url, dialect="yeastar")
        stream = await flow.streams.stream_start(leg, yeastar, CONFIGURATION)
        await sends(alice, 0.5)
        await flow.streams.stream_stop(leg, stream_stop(url=sink.url))
        assert stream.ended
        second = (await sink.connected(2))[1]
        assert {message["channelid"] for message in second.messages} == {leg.name}
        await flow.streams.stop(leg)
        await flow.target.streams_gone()
        await alice.hangup()


@pytest.mark.parametrize("dialect", ["voxology", "voipbin"])
async def test_what_is_said_right_after_a_start_is_heard_from_its_beginning(
    lab: Lab, phones: Phones, dialect: str
) -> None:
    (alice,) = await phones("1001")
    async with open_sink() as sink, flows(lab) as flow:
        leg = await calling(flow, alice)
        player = Players(flow.bridge.taps, flow.bridge.counters, VoiceRates(flow.bridge.client)).of(leg)
        await player.play(bytes(3200), RATE)  # it exists already, as after an earlier SAY
        encapsulation = {"encapsulation": "sln"} if dialect == "voipbin" else {}
        wanted = stream_start(url=sink.url, tracks=["mix"], dialect=dialect, options=encapsulation)
        began = time.monotonic()
        await flow.streams.stream_start(leg, wanted, CONFIGURATION)
        took = time.monotonic() - began
        await player.play(judge.tone(APPLICATION_HZ, 1.0, RATE).astype("<i2").tobytes(), RATE)
        await sends(alice, 0.3)
        await flow.streams.stream_stop(leg, stream_stop(url=sink.url))
        (received,) = await sink.connected(1)
        await asyncio.wait_for(received.ended.wait(), PATIENCE_S)
        heard = received.voxology("mix") if dialect == "voxology" else from_messages("sln", received.binary)
        print(f"start took {took * 1000:.0f} ms; heard {seconds_of(heard, APPLICATION_HZ):.2f} s")
        assert took < 0.5
        assert seconds_of(heard, APPLICATION_HZ) == pytest.approx(1.0, abs=0.05)
        await player.close()
        await flow.streams.stop(leg)
        await alice.hangup()


async def test_the_transfer_track_is_the_connected_leg_while_there_is_one(lab: Lab, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    async with open_sink() as sink, flows(lab) as flow:
        leg = await calling(flow, alice)
        wanted = stream_start(url=sink.url, tracks=["caller"])
        await flow.streams.stream_start(leg, wanted, CONFIGURATION)
        (received,) = await sink.connected(1)
        await flow.streams.stream_start(leg, stream_start(url=sink.url, tracks=["transfer"]), CONFIGURATION)
        await sends(alice, 0.5)
        assert not received.of(name="transfer")
        other = await calling(flow, bob, OTHER_HZ)
        await flow.legs.bridge_together(leg, other)
        flow.streams.transfer_joined(leg, other)
        await sends(alice, 2)
        assert len(sink.connections) == 1
        await flow.streams.stream_stop(leg, stream_stop(url=sink.url, tracks=["caller"]))
        caller_at_stop = len(received.of(name="caller"))
        await sends(alice, 0.7)
        assert len(received.of(name="caller")) <= caller_at_stop + 2  # what was under way, stop_track among it
        assert received.close_code is None
        await bob.hangup()
        await sends(alice, 0.7)
        assert received.of(type="stop_track", name="transfer")
        await flow.streams.stream_stop(leg, stream_stop(url=sink.url, tracks=["transfer"]))
        await asyncio.wait_for(received.ended.wait(), PATIENCE_S)
        check_voxology(received, ["caller", "transfer"])
        assert tone_share(received.voxology("transfer")[RATE // 2 :], RATE, OTHER_HZ) > 0.9
        assert tone_share(received.voxology("caller")[RATE // 2 :], RATE, PHONE_HZ) > 0.9
        assert tone_share(received.voxology("caller"), RATE, OTHER_HZ) == 0
        (started,) = received.of(type="start_track", name="transfer")
        assert started["caller_no"] == "1002"
        await flow.streams.stop(leg)
        await alice.hangup()


async def test_streams_end_with_the_call(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    async with open_sink() as sink, flows(lab) as flow:
        leg = await calling(flow, alice)
        await flow.streams.stream_start(leg, stream_start(url=sink.url), CONFIGURATION)
        await flow.streams.external_media_start(
            leg, external_media(url=sink.url + "2", encapsulation="sln", direction_listen="in"), CONFIGURATION
        )
        voxology, sln = await sink.connected(2)
        await sends(alice, 0.5)
        await alice.hangup()
        await asyncio.wait_for(asyncio.gather(voxology.ended.wait(), sln.ended.wait()), PATIENCE_S)
        check_voxology(voxology, ["caller"])
        assert sln.close_code == 1000
        await flow.target.nothing_left()
        assert [event.data["reason"] for event in flow.told("stream_ended")] == ["the call ended"] * 2


async def test_a_connected_twilio_application_talks_until_it_closes(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    async with open_sink() as sink, flows(lab) as flow:
        leg = await calling(flow, alice)
        stream = await flow.streams.stream_start(
            leg, stream_start(url=sink.url, dialect="twilio", connect=True, parameters={"who": "agent"}), CONFIGURATION
        )
        (received,) = await sink.connected(1)
        over = asyncio.create_task(stream.wait())
        payload = base64.b64encode(peer.ulaw_bytes(judge.tone(APPLICATION_HZ, 1.0, RATE))).decode()
        await received.send(event="media", media={"payload": payload})
        await received.send(event="mark", mark={"name": "said"})
        await alice.dtmf("7")
        await sends(alice, 2)
        assert not over.done()
        assert [message["event"] for message in received.messages[:2]] == ["connected", "start"]
        start = received.messages[1]["start"]
        assert start["tracks"] == ["inbound"]
        assert start["customParameters"]["who"] == "agent"
        assert tone_share(received.twilio(), RATE, APPLICATION_HZ) == 0
        assert tone_share(received.twilio(), RATE, PHONE_HZ) > 0.8
        assert [message["mark"]["name"] for message in received.of(event="mark")] == ["said"]
        assert [message["dtmf"]["digit"] for message in received.of(event="dtmf")] == ["7"]
        await received.socket.close()
        await asyncio.wait_for(over, PATIENCE_S)
        assert alice.in_call
        await flow.target.streams_gone()
        await alice.hangup()
    assert seconds_of(alice.recording(), APPLICATION_HZ) == pytest.approx(1.0, abs=0.1)


async def test_a_stream_follows_its_party_into_another_bridge(lab: Lab, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    async with open_sink() as sink, flows(lab) as flow:
        leg, other = await calling(flow, alice), await calling(flow, bob, OTHER_HZ)
        await flow.streams.external_media_start(
            leg, external_media(url=sink.url, encapsulation="sln", direction_listen="both"), CONFIGURATION
        )
        await flow.streams.stream_start(leg, stream_start(url=sink.url + "2"), CONFIGURATION)
        mix, caller = await sink.connected(2)
        await sends(alice, 0.5)
        bridge_id = await other.hold_in_bridge()
        await leg.move_to(bridge_id)
        await sends(alice, 1)
        before = len(mix.binary)
        await say(mix, "sln", 1.0)
        await sends(alice, 1.5)
        heard = from_messages("sln", list(mix.binary[before:]))
        assert tone_share(heard, RATE, PHONE_HZ) > 0.9
        assert tone_share(heard, RATE, OTHER_HZ) > 0.9
        await flow.streams.stop(leg)
        check_voxology(caller, ["caller"])
        await flow.target.streams_gone()
        await alice.hangup()
        await bob.hangup()
    for phone in (alice, bob):
        assert seconds_of(phone.recording(), APPLICATION_HZ) == pytest.approx(1.0, abs=0.15)


async def test_a_server_that_is_not_there_holds_nothing_up_and_is_tried_again(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    async with open_sink() as sink, flows(lab) as flow:
        leg = await calling(flow, alice)
        await sink.die()
        began = time.monotonic()
        await flow.streams.stream_start(leg, stream_start(url=sink.url), CONFIGURATION)
        assert time.monotonic() - began < 1
        await sends(alice, 0.5)
        await sink.start()
        (received,) = await sink.connected(1)
        await sends(alice, 0.5)
        await flow.streams.stop(leg)
        check_voxology(received, ["caller"])
        await alice.hangup()
