"""The vendors' own request bodies (tests/wire/flows), unchanged but for hosts and numbers, on real phones."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridge.testing import judge, peer
from bridge.testing.lab_engine import Lab
from tests.lab.conftest import Phones, pushing
from tests.lab.driving import (
    LIKE,
    QUIET,
    RATE,
    Client,
    Server,
    begin_of,
    caller_of,
    client_of,
    in_order,
    open_server,
    said,
    samples_of_wav,
    seconds_of,
    wav,
    without,
)
from tests.lab.sink import open_sink
from tests.lab.waiting import PATIENCE_S, sends

FOLDER = Path(__file__).parents[1] / "wire" / "flows"
SOURCE = "+15551234567"
API_KEY = "voxology-key-0123456789"
CALLING = {"tel_endpoint": "PJSIP/{number}", "caller_id": "4711", "context": "media-tap"}
"""Numbers of the lab's phones stand for real ones: one vendor's call can reach two of them."""
PHONE_HZ, APPLICATION_HZ = 500.0, 900.0


def seed(name: str, **values: str) -> Any:
    """Return a vendor's body, with ``<name>`` replaced by the value for it."""
    text = json.dumps(json.loads((FOLDER / f"{name}.json").read_text())["request"])
    for key, value in {"source": SOURCE, **values}.items():
        text = text.replace(f"<{key.replace('_', '-')}>", value)
    assert "<" not in text, text
    return json.loads(text)


def texts(body: Any) -> list[str]:
    """Return the texts of a flow, in order."""
    found = [each.get("option", each.get("params", {})).get("text") for each in body["actions"]]
    return [text for text in found if text]


@contextlib.asynccontextmanager
async def bridge_at(lab: Lab, **sections: Any) -> AsyncIterator[Client]:
    async with pushing(lab, calling=CALLING, **sections) as target, client_of(target) as client:
        yield client


async def run(client: Client, body: Any) -> str:
    """Create a call and wait for its end; none of its actions may fail."""
    (call_id,) = await client.place(body)
    await client.until("call_hangup", call_id, timeout_s=30)
    await client.until("flow_ended", call_id)
    assert client.failures() == []
    return call_id


def test_every_body_is_used() -> None:
    source = Path(__file__).read_text()
    assert [path.stem for path in FOLDER.glob("*.json") if f'"{path.stem}"' not in source] == []


async def test_voipbin_says_a_text(lab: Lab, phones: Phones) -> None:
    bodies = {
        "1001": seed("voipbin-quickstart", destination="1001"),
        "1002": seed("voipbin-talk", destination="1002"),
        "1003": seed("voipbin-anonymous", destination="1003"),
    }
    started = await phones(*bodies)
    async with bridge_at(lab) as client:
        call_ids = await asyncio.gather(*(run(client, body) for body in bodies.values()))
        for call_id, number in zip(call_ids, bodies, strict=True):
            shown = await client.record(call_id)
            assert (shown["status"], shown["hangup_reason"], shown["hangup_by"]) == ("hangup", "normal", "local")
            assert shown["source"]["target"] == SOURCE
            assert shown["destination"]["target"] == number
    for phone, body in zip(started, bodies.values(), strict=True):
        (reference,) = await said(lab, *texts(body))
        assert begin_of(reference, await phone.heard()) < 1.0
        caller = caller_of(phone)
        assert ("anonymous" in caller, SOURCE in caller) == ((True, False) if "anonymous" in body else (False, True))


async def test_voipbin_plays_a_file_sends_keys_and_fills_in_variables(lab: Lab, phones: Phones) -> None:
    """And speaks a sentence with variables, in the same flow."""
    alice, bob, jane = await phones("1001", "1002", "1003")
    tune = judge.sweep(2, RATE)
    async with open_server() as server, bridge_at(lab) as client:
        body = seed("voipbin-digits-send", destination="1002")
        sound = server.answer("/tune.wav", wav(tune))

        async def speak() -> None:
            await run(client, seed("voipbin-variables", destination="1003"))
            begin_of(with_variables, await jane.heard())
            jane.forget()
            await run(client, seed("voipbin-quickstart-of-old", destination="1003"))
            begin_of(of_old, await jane.heard())

        with_variables, of_old = await said(
            lab, "Hello Jane Doe, this is a call about campaign summer-2026.", "Hello. This is voipbin test."
        )
        played, pressed, _ = await asyncio.gather(
            run(client, seed("voipbin-play", destination="1001", sound=sound)), run(client, body), speak()
        )
        assert client.actions(played) == ["play"]
        began = await client.until("flow_action", pressed, type="digits_send")
        ended = await client.until("flow_action", pressed, type="talk", count=2)
    begin_of(tune, await alice.heard())
    in_order(await bob.heard(), *await said(lab, *texts(body)))
    # Keys come to a phone as events (RFC 4733): not in its recording. Each lasts half a second, as does each pause.
    keys = [event.param for event in bob.events if event.type == "CALL_DTMF_START"]
    assert "".join(keys) == "1234567890"
    assert 9.4 < ended["at"] - began["at"] < 11.5


async def test_voipbin_connects_a_second_phone(lab: Lab, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    alice.play_next(judge.tone(PHONE_HZ, 60, RATE))
    bob.play_next(judge.tone(APPLICATION_HZ, 60, RATE))
    body = seed("voipbin-connect", destination="1001", other="1002")
    async with bridge_at(lab) as client:
        (call_id,) = await client.place(body)
        await bob.answered(15)
        assert "anonymous" in caller_of(bob)
        await sends(bob, 2)
        await bob.hangup()
        await client.until("call_hangup", call_id)
        assert client.failures() == []
    (reference,) = await said(lab, *texts(body))
    heard = alice.recording()
    begin = begin_of(reference, heard)
    after = heard[int(begin * RATE) + len(reference) :]
    assert 1.5 < seconds_of(after, APPLICATION_HZ) < 2.5
    assert seconds_of(heard, APPLICATION_HZ) == pytest.approx(seconds_of(after, APPLICATION_HZ), abs=0.2)
    assert 1.5 < seconds_of(bob.recording(), PHONE_HZ) < 2.5


async def test_voipbin_branches_by_a_key_and_loops(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    body = seed("voipbin-branch", destination="1001")
    ask, _, second, _, wrong, _ = texts(body)
    async with bridge_at(lab) as client:
        (call_id,) = await client.place(body)
        await client.until("flow_action", call_id, type="digits_receive")
        await alice.dtmf("9")
        await client.until("flow_action", call_id, type="digits_receive", count=2)
        await alice.dtmf("2")
        await client.until("flow_ended", call_id)
        assert client.failures() == []
        before = ["talk", "digits_receive", "branch"]
        assert client.actions(call_id) == [*before, "talk", "goto", *before, "talk", "hangup"]
    heard = await alice.heard()
    asked, no, chosen = await said(lab, ask, wrong, second)
    first, again = [found.offset_s for found in judge.find(asked, heard, RATE, least=LIKE)]
    assert first < begin_of(no, heard) < again < begin_of(chosen, heard)


async def test_voipbin_takes_keys_and_asks_servers(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    async with open_server() as server, bridge_at(lab) as client:
        fetched = {"actions": [{"type": "talk", "option": {"text": "This comes from your server."}}]}
        hook, fetch = server.answer("/hook", {}), server.answer("/fetch", fetched)
        body = seed("voipbin-keys-and-server", destination="1001", hook=hook, fetch=fetch)
        (call_id,) = await client.place(body)
        await client.until("flow_action", call_id, type="talk")
        await sends(alice, 0.5)
        await alice.dtmf("4#")  # before it has finished speaking
        await client.until("flow_ended", call_id)
        assert client.failures() == []
        shown = {"destination_number": "1001", "source_number": SOURCE, "digits": "4#", "provider": "voipbin"}
        assert server.bodies("/hook") == [shown]
        (asked,) = server.bodies("/fetch")
        assert (asked["reference_id"], asked["call"]["destination"]["target"]) == (call_id, "1001")
        assert "hangup" in client.actions(call_id)
    prompt, answer = await said(lab, texts(body)[0], "This comes from your server.")
    heard = await alice.heard()
    begin_of(answer, heard)
    assert judge.find(prompt, heard, RATE) == []  # the key has cut it off


async def test_voipbin_external_media_from_a_url(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    alice.play_next(judge.tone(PHONE_HZ, 60, RATE))
    speech = judge.tone(APPLICATION_HZ, 3, RATE).astype("<i2").tobytes()
    async with open_sink() as sink, bridge_at(lab) as client:
        body = seed("voipbin-external-media-url", destination="1001", websocket=sink.url)
        (call_id,) = await client.place(body)
        (received,) = await sink.connected(1)
        for message in peer.audiosocket_messages(speech):
            await received.socket.send(message)
        await sends(alice, 3.5)
        await received.socket.close()
        await client.until("call_hangup", call_id)
        assert client.failures() == []
        assert received.binary == []  # one way
    assert 2.8 < seconds_of(await alice.heard(), APPLICATION_HZ) < 3.2


async def test_voipbin_external_media_at_a_host(lab: Lab, phones: Phones) -> None:
    """An RTP peer of Asterisk's own external media: it and the phone exchange audio until it is stopped."""
    (alice,) = await phones("1001")
    alice.play_next(judge.tone(PHONE_HZ, 60, RATE))
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer_socket:
        peer_socket.bind(("127.0.0.1", 0))
        peer_socket.setblocking(False)
        host = f"127.0.0.1:{peer_socket.getsockname()[1]}"
        packets: list[bytes] = []

        async def answer() -> None:
            """Send a tone, packet for packet."""
            payload = peer.ulaw_bytes(judge.tone(APPLICATION_HZ, 10, RATE))
            for count in range(500):
                packet, sender = await loop.sock_recvfrom(peer_socket, 2048)
                packets.append(packet)
                header = struct.pack("!BBHII", 0x80, 0, count, count * 160, 77)
                await loop.sock_sendto(peer_socket, header + payload[count * 160 : count * 160 + 160], sender)

        answering = asyncio.create_task(answer())
        try:
            async with bridge_at(lab) as client:
                await run(client, seed("voipbin-external-media-host", destination="1001", media_host=host))
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
    types, payload = peer.rtp_payloads(packets)
    assert set(types) == {0}
    assert 2.5 < seconds_of(peer.ulaw_samples(payload), PHONE_HZ) < 3.5
    assert 2.5 < seconds_of(await alice.heard(), APPLICATION_HZ) < 3.5


async def test_voipbin_records_an_echo(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    alice.play_next(judge.tone(PHONE_HZ, 60, RATE, QUIET))
    body = seed("voipbin-recording", destination="1001")
    async with bridge_at(lab) as client:
        call_id = await run(client, body)
        await client.until("recording_finished", call_id)
        (recording_id,) = (await client.record(call_id))["recording_ids"]
        recording = await client.done("GET", f"/v1.0/recordings/{recording_id}/file")
        await client.done("DELETE", f"/v1.0/recordings/{recording_id}")
        assert (await client.ask("GET", f"/v1.0/recordings/{recording_id}"))[0] == 404
    (reference,) = await said(lab, *texts(body))
    heard = await alice.heard()
    assert 1.5 < seconds_of(heard, PHONE_HZ, QUIET / 4) < 2.5  # the caller's own voice
    begin_of(reference, heard)
    recorded, rate = samples_of_wav(recording)
    assert rate == RATE
    begin_of(reference, without(recorded, PHONE_HZ))
    assert seconds_of(recorded, PHONE_HZ, QUIET / 4) > 3  # all the time


async def test_voipbin_joins_a_conference(lab: Lab, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    alice.play_next(judge.tone(PHONE_HZ, 60, RATE))
    bob.play_next(judge.tone(APPLICATION_HZ, 60, RATE))
    async with bridge_at(lab) as client:
        made = await client.done("POST", "/v1.0/conferences", seed("voipbin-conference"))
        assert made["name"] == "test conference"
        for number in ("1001", "1002"):
            body = seed("voipbin-conference-join", destination=number, conference=made["id"])
            await client.place(body)
        await client.until("conference_joined", count=2)
        await sends(alice, 2)
        await client.done("DELETE", f"/v1.0/conferences/{made['id']}")
        await client.until("call_hangup", count=2)
        assert client.failures() == []
    for phone, own, other in ((alice, PHONE_HZ, APPLICATION_HZ), (bob, APPLICATION_HZ, PHONE_HZ)):
        assert 1.5 < seconds_of(await phone.heard(), other) < 3.5
        assert seconds_of(await phone.heard(), own) < 0.3


# Voxology


@contextlib.asynccontextmanager
async def voxology(lab: Lab) -> AsyncIterator[tuple[Client, Server]]:
    """Run a bridge that requests the flow of calls created by ``Dials/Connect`` from a server."""
    async with open_server() as server:
        flow = {"id": "programmable-voice", "url": server.url + "/flow", "syntax": "voxology"}
        settings = {"flow": flow["id"], "api_key": API_KEY, "app_id": "0c0ffee0-5b1c-4b8e-9a57-0d3f2f1c2a10"}
        async with bridge_at(lab, flows=[flow], voxology=settings) as client:
            yield client, server


async def test_voxology_streams_between_start_and_stop(lab: Lab, phones: Phones) -> None:
    """STREAM, SAY, PAUSE, SAY, STREAM, SAY, HANGUP: by what the application was sent, and by what the phone heard."""
    (alice,) = await phones("1001")
    alice.play_next(judge.tone(PHONE_HZ, 60, RATE))
    async with open_sink() as sink, voxology(lab) as (client, server):
        flow = seed("voxology-stream", websocket=sink.url)
        server.answer("/flow", flow)
        body = seed("voxology-dials-connect", destination="1001")
        refused, _ = await client.ask("POST", "/v1/Dials/Connect", body)
        assert refused == 401
        call_id = (await client.done("POST", "/v1/Dials/Connect", body, **{"x-api-key": API_KEY}))["call_id"]
        await client.until("call_hangup", call_id, timeout_s=30)
        await client.until("flow_ended", call_id)
        assert client.failures() == []
        (asked,) = server.bodies("/flow")
        assert asked["type"] == "init_call"
        assert asked["session_data"] == {"name": "Bob", "age": 34}
        assert (asked["call_id"], asked["direction"]) == (call_id, "outbound")
        assert (asked["caller_no"], asked["api_no"]) == ("1001", SOURCE)
        (received,) = sink.connections
        await asyncio.wait_for(received.ended.wait(), PATIENCE_S)
        words = [data["type"] for data in client.told("flow_action", call_id)]
        assert words == [*(each["type"] for each in flow["actions"])]
        started = await client.until("flow_action", call_id, type="SAY")
        stopped = await client.until("flow_action", call_id, type="SAY", count=3)
    first, second, third = await said(lab, *(text.replace("${sessionData.name}", "Bob") for text in texts(flow)))
    # The phone: three sentences in order, and the pause between the first two.
    heard = await alice.heard()
    begins = in_order(heard, first, second, third)
    pause = begins[1] - begins[0] - len(first) / RATE
    assert 1.9 < pause < 2.6, pause
    assert begins[2] - begins[1] - len(second) / RATE < 0.6
    # The application: in the vendor's order; the stream began before the first sentence and ended before the third.
    kinds = [message["type"] for message in received.messages]
    assert kinds[:2] == ["init_stream", "start_track"]
    assert kinds[-2:] == ["stop_track", "end_stream"]
    assert set(kinds[2:-2]) == {"live_track"}
    assert [message["stream_sequence_number"] for message in received.messages] == [*range(1, len(kinds) + 1)]
    assert received.close_code == 1000
    assert received.messages[0]["stream_data"] == {"user": "Bob"}
    assert received.messages[-1]["stream_data"] == {"done": True}
    assert received.times[0] < started["at"] + 0.1
    assert received.times[-1] < stopped["at"] + 0.1
    expected = (len(first) + len(second)) / RATE + pause
    duration = received.messages[-1]["tracks"][0]["duration"] / 1000
    assert expected - 0.1 < duration < expected + 1.0
    track = received.voxology("caller")
    assert len(track) / RATE == pytest.approx(duration, abs=0.2)
    assert seconds_of(track, PHONE_HZ) > duration - 0.4  # what the phone sent, all the time
    assert judge.find(first, without(track, PHONE_HZ), RATE, least=0.5) == []  # and not what it received


async def test_voxology_conference_and_a_rating(lab: Lab, phones: Phones) -> None:
    (jill,) = await phones("1001")
    async with voxology(lab) as (client, server):
        flow = seed("voxology-conference")
        server.answer("/flow", flow)
        body = seed("voxology-dials-connect", destination="1001")
        call_id = (await client.done("POST", "/v1/Dials/Connect", body, **{"x-api-key": API_KEY}))["call_id"]
        joined = await client.until("conference_joined")
        assert joined["conference_id"] == "test-conf"
        await client.done("DELETE", f"/v1.0/conferences/test-conf/participants/{joined['channel_id']}")
        await client.until("flow_action", call_id, type="COLLECT")
        await jill.dtmf("5")
        await client.until("call_hangup", call_id)
        assert client.failures() == []
        assert client.told("dtmf_received", call_id)[0]["digit"] == "5"
    in_order(await jill.heard(), *await said(lab, *texts(flow)))
