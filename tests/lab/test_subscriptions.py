"""Which calls are streamed to whom: a truth table of real calls, each party's own content on its own track."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bridge.testing import judge
from bridge.testing.lab_engine import Lab
from bridge.testing.phone import Phone
from tests.lab.conftest import Phones, pushing
from tests.lab.sink import Received, Sink, open_sink, tone_share
from tests.lab.target import Target
from tests.lab.waiting import PATIENCE_S, sends

RATE = 8000
TONES = {"1001": 500, "1002": 700, "1003": 900, "trunk": 1100}
TALK_S = 3.0


class Scene:
    """A bridge with one application for each dialect, and phones that say their own tones."""

    def __init__(self, target: Target, extension: Sink, trunk: Sink, did: Sink) -> None:
        self.target = target
        self.extension = extension
        self.trunk = trunk
        self.did = did

    @property
    def counts(self) -> tuple[int, int, int]:
        """Connections to the applications of the extension, the trunk and the DID."""
        return len(self.extension.connections), len(self.trunk.connections), len(self.did.connections)


@pytest.fixture
async def scene(lab: Lab) -> AsyncIterator[Scene]:
    async with contextlib.AsyncExitStack() as stack:
        extension, trunk, did = [await stack.enter_async_context(open_sink()) for _ in range(3)]
        subscriptions = [
            {"id": "ext", "url": extension.url, "dialect": "yeastar", "extensions": ["1001"], "auth_value": "s3cret"},
            {"id": "trunk", "url": trunk.url, "dialect": "voxology", "trunks": ["trunk-a"]},
            {
                "id": "did",
                "url": did.url,
                "dialect": "twilio",
                "dids": ["5551001"],
                "tracks": "both_tracks",
            },
        ]
        target = await stack.enter_async_context(pushing(lab, subscriptions=subscriptions))
        yield Scene(target, extension, trunk, did)


async def talk(phone: Phone, number: str, *others: Phone) -> None:
    """Make a call in which each sends a tone of its own, until it has lasted a while."""
    for other in others:
        other.play_next(judge.tone(TONES[other.name], 60, RATE))
    await phone.call(number, play=judge.tone(TONES[phone.name], 60, RATE))
    await phone.answered()
    await sends(phone, TALK_S)


async def hang_up(scene: Scene, phone: Phone) -> None:
    """End the call, and wait for the end of every connection."""
    await phone.hangup()
    for sink in (scene.extension, scene.trunk, scene.did):
        for connection in sink.connections:
            await asyncio.wait_for(connection.ended.wait(), PATIENCE_S)
            assert connection.close_code == 1000


def check_yeastar(received: Received, endpoints: dict[str, int]) -> None:
    """Require each party's own tone under its own channel, and one end per channel."""
    channels = received.yeastar_channels
    assert set(channels) == set(endpoints)
    for endpoint, hz in endpoints.items():
        samples = received.yeastar(channels[endpoint])
        others = [other for other in TONES.values() if other != hz]
        assert tone_share(samples, RATE, hz) > 0.7, endpoint
        assert max(tone_share(samples, RATE, other) for other in others) == 0, endpoint
        assert len(received.of(channelid=channels[endpoint], status="end")) == 1
    assert received.messages[-1]["status"] == "end"
    assert list(received.messages[0]) == ["callid", "callflow", "audio", "number", "status", "channelid"]


@pytest.mark.quick
async def test_an_internal_call_of_the_subscribed_extension(scene: Scene, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    await talk(alice, "1002", bob)
    assert scene.counts == (1, 0, 0)
    await hang_up(scene, alice)
    (received,) = scene.extension.connections
    assert received.headers["Secret"] == "s3cret"
    check_yeastar(received, {"1001": 500, "1002": 700})
    assert {message["number"] for message in received.messages} == {"1001", "1002"}
    assert {message["callflow"] for message in received.messages} == {""}


async def test_a_call_to_the_subscribed_extension_is_the_same(scene: Scene, phones: Phones) -> None:
    bob, alice = await phones("1002", "1001")
    await talk(bob, "1001", alice)
    assert scene.counts == (1, 0, 0)
    await hang_up(scene, bob)
    check_yeastar(scene.extension.connections[0], {"1001": 500, "1002": 700})


async def test_a_call_of_nobody_who_is_subscribed(scene: Scene, phones: Phones) -> None:
    bob, carol = await phones("1002", "1003")
    await talk(bob, "1003", carol)
    assert scene.counts == (0, 0, 0)
    await hang_up(scene, bob)


async def test_an_inbound_call_carries_three_dialects_at_once(scene: Scene, phones: Phones) -> None:
    far, alice = await phones("trunk", "1001")
    await talk(far, "5551001", alice)
    assert scene.counts == (1, 1, 1)
    await hang_up(scene, far)
    check_yeastar(scene.extension.connections[0], {"1001": 500, "trunk-a": 1100})
    (voxology,), (twilio,) = scene.trunk.connections, scene.did.connections
    check_voxology(voxology, direction="inbound", far=1100, near=500)
    assert [message["event"] for message in twilio.messages[:2]] == ["connected", "start"]
    assert twilio.messages[-1]["event"] == "stop"
    assert tone_share(twilio.twilio("inbound"), RATE, 1100) > 0.7
    assert tone_share(twilio.twilio("inbound"), RATE, 500) == 0
    assert tone_share(twilio.twilio("outbound"), RATE, 500) > 0.7
    assert tone_share(twilio.twilio("outbound"), RATE, 1100) == 0


def check_voxology(received: Received, *, direction: str, far: int, near: int) -> None:
    """Messages in their order, both counters, and each side's tone on its track."""
    kinds = [message["type"] for message in received.messages]
    assert kinds[0] == "init_stream"
    assert kinds[-1] == "end_stream"
    assert received.messages[0]["direction"] == direction
    assert [message["stream_sequence_number"] for message in received.messages] == list(range(1, len(kinds) + 1))
    for name, hz, other in (("far", far, near), ("near", near, far)):
        track = received.of(name=name)
        assert [message["type"] for message in (track[0], track[-1])] == ["start_track", "stop_track"]
        assert [message["track_sequence_number"] for message in track] == list(range(1, len(track) + 1))
        assert tone_share(received.voxology(name), RATE, hz) > 0.7, name
        assert tone_share(received.voxology(name), RATE, other) == 0, name
        assert abs(track[-1]["duration"] - 160 * (len(track) - 2)) <= 160
    assert received.messages[-1]["error_code"] is None


async def test_an_outbound_call_by_the_trunk(scene: Scene, phones: Phones) -> None:
    bob, far = await phones("1002", "trunk")
    await talk(bob, "95550100", far)
    assert scene.counts == (0, 1, 0)
    await hang_up(scene, bob)
    check_voxology(scene.trunk.connections[0], direction="outbound", far=1100, near=700)


async def test_an_inbound_call_by_another_did_into_the_queue(scene: Scene, phones: Phones) -> None:
    far, _bob, _carol = await phones("trunk", "1002", "1003")
    await talk(far, "5551003", _bob, _carol)
    assert scene.counts == (0, 1, 0)
    await hang_up(scene, far)
    assert tone_share(scene.trunk.connections[0].voxology("far"), RATE, 1100) > 0.7


async def test_an_ivr_call_that_goes_on_to_an_extension(scene: Scene, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    await talk(alice, "710")
    assert scene.counts == (1, 0, 0)
    (received,) = scene.extension.connections
    assert {message["callflow"] for message in received.messages} == {"ivr"}
    assert set(received.yeastar_channels) == {"1001"}
    bob.play_next(judge.tone(TONES["1002"], 60, RATE))
    await alice.dtmf("2")
    await sends(alice, TALK_S)
    assert scene.counts == (1, 0, 0)
    await hang_up(scene, alice)
    channels = received.yeastar_channels
    assert set(channels) == {"1001", "1002"}
    assert received.of(channelid=channels["1001"])[-1]["callflow"] == ""
    assert tone_share(received.yeastar(channels["1002"]), RATE, 700) > 0.7


async def test_a_transfer_ends_one_track_and_begins_another(scene: Scene, phones: Phones) -> None:
    alice, bob, carol = await phones("1001", "1002", "1003")
    carol.play_next(judge.tone(TONES["1003"], 60, RATE))
    await talk(alice, "1002", bob)
    await bob.command("transfer", "sip:1003@127.0.0.1")
    await carol.answered()
    await sends(alice, TALK_S)
    await hang_up(scene, alice)
    # While all three are briefly in the call, the third has a socket of its own.
    assert len(scene.extension.connections) in (1, 2)
    received = Received.together(scene.extension.connections)
    check_yeastar(received, {"1001": 500, "1002": 700, "1003": 900})
    channels = received.yeastar_channels
    numbers = {endpoint: received.messages.index(received.of(channelid=channels[endpoint])[0]) for endpoint in channels}
    ended = received.messages.index(received.of(channelid=channels["1002"], status="end")[0])
    assert numbers["1003"] > numbers["1002"]
    assert ended < len(received.messages) - 10


async def test_a_stream_outlasts_the_subscribed_extension_that_transfers(scene: Scene, phones: Phones) -> None:
    alice, bob, carol = await phones("1001", "1002", "1003")
    carol.play_next(judge.tone(TONES["1003"], 60, RATE))
    await talk(alice, "1002", bob)
    await alice.command("transfer", "sip:1003@127.0.0.1")
    await carol.answered()
    await alice.ended()
    await sends(bob, TALK_S)
    assert not scene.extension.connections[0].ended.is_set()
    await hang_up(scene, bob)
    received = Received.together(scene.extension.connections)
    check_yeastar(received, {"1001": 500, "1002": 700, "1003": 900})
    last = received.yeastar(received.yeastar_channels["1002"])[-RATE:]
    assert tone_share(last, RATE, TONES["1002"]) > 0.7


async def test_a_conference_stream_ends_when_the_subscribed_member_leaves(scene: Scene, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    await talk(alice, "720")
    (received,) = scene.extension.connections
    await bob.call("720", play=judge.tone(TONES["1002"], 60, RATE))
    await bob.answered()
    await sends(alice, TALK_S)
    await alice.hangup()
    await asyncio.wait_for(received.ended.wait(), PATIENCE_S)
    assert bob.in_call
    await sends(bob, 1)
    assert scene.counts == (1, 0, 0)
    await bob.hangup()
    check_yeastar(received, {"1001": 500, "1002": 700})


async def test_a_conference_of_three_has_a_socket_for_two_and_one_for_each_further(
    scene: Scene, phones: Phones
) -> None:
    alice, bob, carol = await phones("1001", "1002", "1003")
    await talk(alice, "720")
    (first,) = scene.extension.connections
    for phone in (bob, carol):
        await phone.call("720", play=judge.tone(TONES[phone.name], 60, RATE))
        await phone.answered()
    await sends(alice, TALK_S)
    assert scene.counts == (2, 0, 0)
    second = scene.extension.connections[1]
    await carol.hangup()  # a party that leaves ends only its own track and socket
    await asyncio.wait_for(second.ended.wait(), PATIENCE_S)
    assert not first.ended.is_set()
    await hang_up(scene, alice)
    await bob.hangup()
    check_yeastar(first, {"1001": 500, "1002": 700})
    check_yeastar(second, {"1003": 900})
    assert {message["callid"] for message in second.messages} == {message["callid"] for message in first.messages}
    assert {message["callflow"] for message in second.messages} == {"conference"}


async def test_a_held_call_goes_on_in_silence(scene: Scene, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    await talk(alice, "1002", bob)
    await bob.hold()
    await sends(alice, TALK_S)
    await hang_up(scene, alice)
    (received,) = scene.extension.connections
    channels = received.yeastar_channels
    for endpoint in ("1001", "1002"):
        seconds = len(received.of(channelid=channels[endpoint], status="process")) * 0.08
        assert abs(seconds - 2 * TALK_S) < 0.7, endpoint
    on_hold = received.yeastar(channels["1002"])[-2 * RATE :]
    assert judge.level_of(on_hold, TONES["1002"], RATE) < 200


async def test_one_subscription_that_matches_both_ends_streams_once(lab: Lab, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    async with open_sink() as sink:
        subscription = {
            "id": "all",
            "url": sink.url,
            "dialect": "yeastar",
            "extensions": ["100*"],
            "sample_rate": 16000,
        }
        async with pushing(lab, subscriptions=[subscription]):
            await talk(alice, "1002", bob)
            assert len(sink.connections) == 1
            await alice.hangup()
            await asyncio.wait_for(sink.connections[0].ended.wait(), PATIENCE_S)
        (received,) = sink.connections
        channel = received.yeastar_channels["1001"]
        audio = received.of(channelid=channel, status="process")
        assert tone_share(received.yeastar(channel), 16000, 500) > 0.7
        seconds = len(audio) * 0.04
        assert TALK_S - 0.5 < seconds < TALK_S + 1.0


async def refusing(sink: Sink, subscription: dict[str, Any]) -> dict[str, Any]:
    """Return a subscription to a server that rejects its credentials."""
    sink.refuse_with = 401
    return subscription | {"url": sink.url}


async def test_a_refused_credential_is_not_tried_again(lab: Lab, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    async with open_sink() as sink:
        subscription = await refusing(sink, {"id": "no", "dialect": "yeastar", "extensions": ["1001"]})
        async with pushing(lab, subscriptions=[subscription]) as target:
            await talk(alice, "1002", bob)
            assert sink.refused == 1
            assert alice.in_call
            await target.streams_gone()
            await alice.hangup()


async def test_a_server_that_dies_and_comes_back_gets_what_it_missed(lab: Lab, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    async with open_sink() as sink:
        subscription = {"id": "back", "url": sink.url, "dialect": "yeastar", "extensions": ["1001"]}
        async with pushing(lab, subscriptions=[subscription]):
            await talk(alice, "1002", bob)
            await sink.die()
            await sends(alice, 2)
            await sink.start()
            first, second = await sink.connected(2)
            await sends(alice, TALK_S)
            await alice.hangup()
            await asyncio.wait_for(second.ended.wait(), PATIENCE_S)
        channel = second.yeastar_channels["1001"]
        together = len(first.of(channelid=channel)) + len(second.of(channelid=channel)) - 1
        heard_s = together * 0.08
        # Everything but what was on the wire when it died: what came while nobody listened was sent first.
        assert heard_s > 2 * TALK_S + 2 - 0.8
        assert tone_share(second.yeastar(channel), RATE, 500) > 0.9


async def test_a_server_that_stalls_costs_only_its_own_audio(lab: Lab, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    async with open_sink() as stalled, open_sink() as reads:
        subscriptions = [
            {"id": "stalled", "url": stalled.url, "dialect": "yeastar", "extensions": ["1001"], "sample_rate": 16000},
            {"id": "reads", "url": reads.url, "dialect": "yeastar", "extensions": ["1001"]},
        ]
        async with pushing(lab, subscriptions=subscriptions, media={"max_unsent_ms": 500}) as target:
            await talk(alice, "1002", bob)
            stalled.reading.clear()
            await sends(alice, 30)
            assert target.bridge is not None
            assert all(int(str(stream.describe()["unsent_ms"])) <= 500 for stream in target.bridge.streams)
            stalled.reading.set()
            await sends(alice, 1)
            await alice.hangup()
            await asyncio.wait_for(reads.connections[0].ended.wait(), PATIENCE_S)
        channel = reads.connections[0].yeastar_channels["1001"]
        assert tone_share(reads.connections[0].yeastar(channel), RATE, 500) > 0.95


async def test_switched_on_and_off_while_a_call_goes_on(lab: Lab, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    async with open_sink() as sink:
        subscription = {
            "id": "switch",
            "url": sink.url,
            "dialect": "twilio",
            "extensions": ["1001"],
            "enabled": False,
        }
        async with pushing(lab, subscriptions=[subscription]) as target:
            await talk(alice, "1002", bob)
            assert not sink.connections
            assert target.bridge is not None
            await target.bridge.catalog.set_enabled("switch", True)
            (received,) = await sink.connected(1)
            await sends(alice, 1)
            await target.bridge.catalog.set_enabled("switch", False)
            await asyncio.wait_for(received.ended.wait(), PATIENCE_S)
            assert received.messages[-1]["event"] == "stop"
            await alice.hangup()
