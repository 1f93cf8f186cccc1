"""Streams that flows start, on real calls: external media by URL and by host, STREAM, and who they follow."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator

import pytest

from bridge.access import CONFIGURATION
from bridge.app.application import Application
from bridge.control.legs import Leg
from bridge.control.playback import Players
from bridge.errors import Overloaded
from bridge.events.hub import Event
from bridge.streams.flow_streams import MAX_EXTERNAL_MEDIA
from bridge.testing import judge, peer
from bridge.testing.lab_engine import Lab
from bridge.testing.phone import Phone
from tests.flow_requests import external_media, stream_start, stream_stop
from tests.lab.conftest import Phones, pushing
from tests.lab.sink import Received, open_sink, tone_share
from tests.lab.target import Target
from tests.lab.test_stasis_call import from_messages, to_messages
from tests.lab.waiting import PATIENCE_S, sends

RATE = 8000
PHONE_HZ, OTHER_HZ, APPLICATION_HZ = 500, 900, 700


class Flow:
    """What a flow has in hand, without one: legs, and streams for them."""

    def __init__(self, target: Target, bridge: Application) -> None:
        self.target = target
        self.bridge = bridge
        self.events: list[Event] = []
        bridge.events.subscribe(self.events.append)
        self.legs = bridge.legs
        self.streams = bridge.calling.streams

    async def leg_of(self, phone: str) -> Leg:
        """The leg of a phone that has called 750."""
        call = await self.target.call_from(phone)
        async with asyncio.timeout(PATIENCE_S):
            while (leg := self.legs.take(call["parties"][0]["id"])) is None:
                await asyncio.sleep(0.02)
        return leg

    def told(self, kind: str) -> list[Event]:
        """The events of one type."""
        return [event for event in self.events if event.type == kind]


@contextlib.asynccontextmanager
async def flows(lab: Lab, **sections: object) -> AsyncIterator[Flow]:
    """A bridge whose calls can be given streams; nothing may be left at the end."""
    async with pushing(lab, **sections) as target:
        assert target.bridge is not None
        flow = Flow(target, target.bridge)
        yield flow


async def calling(flow: Flow, phone: Phone, hz: float = PHONE_HZ) -> Leg:
    """A call of a phone that says a tone."""
    await phone.call("750", play=judge.tone(hz, 60, RATE))
    await phone.answered()
    return await flow.leg_of(phone.name)


def seconds_of(samples: peer.Samples, hz: float) -> float:
    """For how long a recording holds a tone."""
    return float((judge.block_levels(samples, RATE, hz) > 3000).sum() * judge.BLOCK_S)


async def say(received: Received, encapsulation: str, seconds: float) -> None:
    for message in to_messages(encapsulation, judge.tone(APPLICATION_HZ, seconds, RATE)):
        await received.socket.send(message)


@pytest.mark.parametrize("encapsulation", ["rtp", "sln", "audiosocket"])
async def test_external_media_by_url(lab: Lab, phones: Phones, encapsulation: str) -> None:
    (alice,) = await phones("1001")
    async with open_sink() as sink, flows(lab) as flow:
        leg = await calling(flow, alice)
        began = time.monotonic()
        await flow.streams.external_media_start(
            leg, external_media(url=sink.url, encapsulation=encapsulation), CONFIGURATION
        )
        assert time.monotonic() - began < 0.5
        (one_way,) = await sink.connected(1, 0.1)  # start has waited for it
        await say(one_way, encapsulation, 2.0)
        await sends(alice, 2.5)
        assert not [*one_way.binary, *one_way.messages]  # nothing goes out that nobody asked for
        both = external_media(url=sink.url + "2", encapsulation=encapsulation, direction_listen="both")
        await flow.streams.external_media_start(leg, both, CONFIGURATION)
        two_way = (await sink.connected(2, 0.1))[1]
        await say(two_way, encapsulation, 1.0)
        await sends(alice, 1.5)
        heard = from_messages(encapsulation, list(two_way.binary))
        assert tone_share(heard, RATE, PHONE_HZ) > 0.9
        assert tone_share(heard, RATE, APPLICATION_HZ) == 0  # not what it says itself
        await flow.streams.external_media_stop(leg)
        await asyncio.wait_for(asyncio.gather(one_way.ended.wait(), two_way.ended.wait()), PATIENCE_S)
        assert (one_way.close_code, two_way.close_code) == (1000, 1000)
        assert alice.in_call
        await flow.target.streams_gone()
        assert [event.data["started_by"] for event in flow.told("stream_started")] == ["flow:external_media_start"] * 2
        assert len(flow.told("stream_connected")) == len(flow.told("stream_ended")) == 2
        await alice.hangup()
    assert 2.8 < seconds_of(alice.recording(), APPLICATION_HZ) < 3.2


@pytest.mark.parametrize(("listen", "speak"), [("in", "out"), ("out", "in"), ("in", "both")])
async def test_external_media_hears_and_is_heard_by_whom_it_should(
    lab: Lab, phones: Phones, listen: str, speak: str
) -> None:
    alice, bob = await phones("1001", "1002")
    async with open_sink() as sink, flows(lab) as flow:
        leg, other = await calling(flow, alice), await calling(flow, bob, OTHER_HZ)
        await flow.legs.bridge_together(leg, other)
        await sends(alice, 0.3)
        options = external_media(url=sink.url, encapsulation="sln", direction_listen=listen, direction_speak=speak)
        await flow.streams.external_media_start(leg, options, CONFIGURATION)
        (application,) = await sink.connected(1)
        await say(application, "sln", 2.0)
        await sends(alice, 3)
        heard = from_messages("sln", list(application.binary))
        assert tone_share(heard[RATE:], RATE, PHONE_HZ) == (1 if listen == "in" else 0)
        assert tone_share(heard[RATE:], RATE, OTHER_HZ) > 0.9 or listen == "in"
        await flow.streams.stop(leg)
        await flow.target.streams_gone()
        await alice.hangup()
        await bob.hangup()
    by_alice, by_bob = (seconds_of(phone.recording(), APPLICATION_HZ) for phone in (alice, bob))
    assert 1.5 < by_alice < 2.5 if speak in ("out", "both") else by_alice < 0.1
    assert 1.5 < by_bob < 2.5 if speak in ("in", "both") else by_bob < 0.1


def check_voxology(received: Received, tracks: list[str]) -> None:
    """The order and the counters of a whole transcript with these tracks, each once."""
    messages = received.messages
    assert messages[0]["type"] == "init_stream"
    assert [message["type"] for message in messages].count("init_stream") == 1
    assert messages[-1]["type"] == "end_stream"
    assert [message["stream_sequence_number"] for message in messages] == list(range(1, len(messages) + 1))
    for name in tracks:
        of_track = [message for message in messages if message.get("name") == name]
        kinds = [message["type"] for message in of_track]
        assert kinds == ["start_track", *["live_track"] * (len(kinds) - 2), "stop_track"], name
        assert [message["track_sequence_number"] for message in of_track] == list(range(1, len(of_track) + 1))
    assert [track["name"] for track in messages[-1]["tracks"]] == tracks
    assert received.close_code == 1000


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
        player = Players(flow.bridge.taps, flow.bridge.counters).of(leg)
        await player.play(bytes(3200), RATE)  # it is there already, as after an earlier SAY
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


async def test_limits(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    async with open_sink() as sink, flows(lab, media={"max_streams": MAX_EXTERNAL_MEDIA + 1}) as flow:
        leg = await calling(flow, alice)
        for index in range(MAX_EXTERNAL_MEDIA):
            await flow.streams.external_media_start(
                leg, external_media(url=f"{sink.url}{index}", encapsulation="sln"), CONFIGURATION
            )
        with pytest.raises(Overloaded, match="5 external media"):
            await flow.streams.external_media_start(leg, external_media(url=sink.url), CONFIGURATION)
        await flow.streams.stream_start(leg, stream_start(url=sink.url), CONFIGURATION)
        with pytest.raises(Overloaded, match="max_streams"):
            await flow.streams.stream_start(leg, stream_start(url=sink.url + "b"), CONFIGURATION)
        await sink.connected(MAX_EXTERNAL_MEDIA + 1)
        await flow.streams.external_media_stop(leg)
        assert len(flow.streams.of(leg)) == 1
        await alice.hangup()


class Rtp(asyncio.DatagramProtocol):
    """A server for external media by RTP: it keeps what it gets, and answers where that came from."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self.source: tuple[str, int] | None = None
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a protocol for datagrams gets their transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.packets.append(data)
        self.source = addr

    @property
    def heard(self) -> peer.Samples:
        """What the packets hold; each must be G.711 as documented."""
        assert {len(packet) for packet in self.packets} <= {172}
        types, payload = peer.rtp_payloads(self.packets)
        assert set(types) <= {0}
        return peer.ulaw_samples(payload)

    async def say(self, seconds: float) -> None:
        """A tone, packet by packet."""
        packets = peer.rtp_packets(peer.ulaw_bytes(judge.tone(APPLICATION_HZ, seconds, RATE)), 0, 160)
        begin = asyncio.get_running_loop().time()
        for index, packet in enumerate(packets):
            await asyncio.sleep(max(0, begin + index * 0.02 - asyncio.get_running_loop().time()))
            assert self.transport is not None
            self.transport.sendto(packet, self.source)


@contextlib.asynccontextmanager
async def rtp_server(lab: Lab) -> AsyncIterator[tuple[Rtp, str]]:
    """The server, and the address at which Asterisk finds it."""
    for module in ("res_rtp_multicast.so", "chan_rtp.so"):  # the second one does not load without the first
        await lab.cli(f"module load {module}")
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        Rtp, local_addr=(lab.audiosocket_bind, 0), family=socket.AF_INET
    )
    try:
        yield server, f"{lab.audiosocket_host}:{transport.get_extra_info('sockname')[1]}"
    finally:
        transport.close()


async def test_external_media_by_host_over_rtp(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    async with rtp_server(lab) as (server, host), flows(lab) as flow:
        leg = await calling(flow, alice)
        await flow.streams.external_media_start(leg, external_media(external_host=host), CONFIGURATION)
        await sends(alice, 1)
        assert tone_share(server.heard, RATE, PHONE_HZ) > 0.7
        await server.say(2.0)
        assert flow.streams.object_ids
        assert set(flow.streams.object_ids) <= set(await flow.target.ours_on_the_pbx())
        await flow.streams.external_media_stop(leg)
        got = len(server.packets)
        await sends(alice, 0.3)
        assert len(server.packets) == got
        assert not flow.streams.object_ids
        await flow.target.streams_gone()
        assert [event.data["dialect"] for event in flow.told("stream_ended")] == ["asterisk"]
        await alice.hangup()
    assert seconds_of(alice.recording(), APPLICATION_HZ) == pytest.approx(2.0, abs=0.5)


@pytest.mark.parametrize(("listen", "speak"), [("in", ""), ("", "out"), ("in", "out"), ("out", "both")])
async def test_external_media_by_host_one_way(lab: Lab, phones: Phones, listen: str, speak: str) -> None:
    alice, bob = await phones("1001", "1002")
    async with rtp_server(lab) as (server, host), flows(lab) as flow:
        leg, other = await calling(flow, alice), await calling(flow, bob, OTHER_HZ)
        await flow.legs.bridge_together(leg, other)
        await sends(alice, 0.3)
        await flow.streams.external_media_start(
            leg,
            external_media(external_host=host, direction_listen=listen, direction_speak=speak),
            CONFIGURATION,
        )
        await sends(alice, 1)
        if speak:
            server.source = server.source or await rtp_address(flow)
            await server.say(2.0)
        assert tone_share(server.heard[-RATE // 2 :], RATE, PHONE_HZ) == (1 if listen == "in" else 0)
        assert tone_share(server.heard[-RATE // 2 :], RATE, OTHER_HZ) == (1 if listen == "out" else 0)
        await alice.hangup()
        await flow.target.streams_gone()
        await bob.hangup()
    by_alice, by_bob = (seconds_of(phone.recording(), APPLICATION_HZ) for phone in (alice, bob))
    assert 1.5 < by_alice < 2.5 if speak in ("out", "both") else by_alice < 0.1
    assert 1.5 < by_bob < 2.5 if speak in ("in", "both") else by_bob < 0.1


async def rtp_address(flow: Flow) -> tuple[str, int]:
    """Where Asterisk takes RTP of the external media, as ARI tells."""
    (media_id,) = (object_id for object_id in flow.streams.object_ids if "-media-" in object_id)
    values = []
    for name in ("UNICASTRTP_LOCAL_ADDRESS", "UNICASTRTP_LOCAL_PORT"):
        values.append((await flow.target.ari("GET", f"/channels/{media_id}/variable", variable=name))["value"])
    return values[0], int(values[1])


async def test_external_media_by_host_over_audiosocket(lab: Lab, phones: Phones) -> None:
    """The server speaks AudioSocket; when it hangs up, the media ends and the call goes on."""
    (alice,) = await phones("1001")
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            for _ in range(60):
                kind, size = struct.unpack("!BH", await reader.readexactly(3))
                payload = await reader.readexactly(size)
                got.append(payload if kind == 0x10 else b"")
                writer.write(struct.pack("!BH", 0x10, 320) + bytes(320))
        writer.close()

    server = await asyncio.start_server(serve, lab.audiosocket_bind, 0)
    host = f"{lab.audiosocket_host}:{server.sockets[0].getsockname()[1]}"
    async with flows(lab) as flow:
        leg = await calling(flow, alice)
        await flow.streams.external_media_start(
            leg, external_media(external_host=host, encapsulation="audiosocket", direction_listen="both"), CONFIGURATION
        )
        await sends(alice, 2.5)
        assert not flow.streams.object_ids
        (ended,) = flow.told("stream_ended")
        assert ended.data["reason"] == "the server ended it"
        assert alice.in_call
        await flow.target.streams_gone()
        # And a server that is not there: said, not raised.
        server.close()
        await server.wait_closed()
        await flow.streams.external_media_start(
            leg, external_media(external_host=host, encapsulation="audiosocket"), CONFIGURATION
        )
        await sends(alice, 0.5)
        assert flow.told("stream_ended")[-1].data["reason"].startswith("failed: ")
        await flow.target.streams_gone()
        await alice.hangup()
    assert tone_share(peer.samples_of(b"".join(got)), RATE, PHONE_HZ) > 0.8
