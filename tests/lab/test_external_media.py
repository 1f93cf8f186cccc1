"""External media that flows start, on real calls: by URL, and by host over RTP and AudioSocket."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time

import pytest

from bridge.access import CONFIGURATION
from bridge.errors import Overloaded
from bridge.streams.flow_streams import MAX_EXTERNAL_MEDIA
from bridge.testing import peer
from bridge.testing.lab_engine import Lab
from tests.flow_requests import external_media, stream_start
from tests.lab.conftest import Phones
from tests.lab.encapsulations import from_messages
from tests.lab.rtp import rtp_server
from tests.lab.sink import open_sink, tone_share
from tests.lab.streaming import (
    APPLICATION_HZ,
    OTHER_HZ,
    PHONE_HZ,
    RATE,
    Flow,
    calling,
    flows,
    say,
    seconds_of,
)
from tests.lab.waiting import PATIENCE_S, sends


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
        assert tone_share(heard, RATE, APPLICATION_HZ) == 0  # not what it sends itself
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
    """Return where Asterisk takes RTP of the external media, as ARI reports."""
    (media_id,) = (object_id for object_id in flow.streams.object_ids if "-media-" in object_id)
    values = []
    for name in ("UNICASTRTP_LOCAL_ADDRESS", "UNICASTRTP_LOCAL_PORT"):
        values.append((await flow.target.ari("GET", f"/channels/{media_id}/variable", variable=name))["value"])
    return values[0], int(values[1])


async def test_external_media_by_host_over_audiosocket(lab: Lab, phones: Phones) -> None:
    """The server uses AudioSocket; when it hangs up, the media ends and the call continues."""
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
        # And a server that does not exist: reported, not raised.
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
