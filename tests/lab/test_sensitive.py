"""Sensitive mode with real phones: what applications, recordings and events contain of it, and what comes after."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.testing import judge, peer
from bridge.testing.lab_engine import Lab
from bridge.testing.phone import Phone
from tests.lab.conftest import Phones, pushing
from tests.lab.driving import RATE, Client, action, client_of, samples_of_wav, seconds_of
from tests.lab.rtp import rtp_server
from tests.lab.sink import Received, Sink, open_sink
from tests.lab.target import Target
from tests.lab.waiting import PATIENCE_S, sends, until
from tests.lab.workers import serving

ALICE_HZ, BOB_HZ, APPLICATION_HZ = 480.0, 700.0, 920.0
FRAMES = 25
"""Half a second of a stream."""
LOUD = 1000


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with open_sink() as it:
        yield it


def latest(application: peer.Peer) -> peer.Samples:
    return peer.samples_of(b"".join(application.binary[-FRAMES:]))


async def hears(application: peer.Peer, hz: float) -> None:
    """Wait until an application receives a tone."""
    await until(lambda: len(application.binary) >= FRAMES and judge.level_of(latest(application), hz, RATE) > LOUD)


async def silent_for(application: peer.Peer, frames: int) -> None:
    """Check that an application receives exact silence, frame after frame, from the next one on."""
    at = len(application.binary) + 1
    await application.heard(at + frames)
    assert not any(map(any, application.binary[at : at + frames]))


async def talking(alice: Phone, bob: Phone, client: Client) -> str:
    """Let two phones talk in an ordinary call of the PBX; the call's id."""
    bob.play_next(judge.tone(BOB_HZ, 90, RATE))
    await alice.call(bob.name, play=judge.tone(ALICE_HZ, 90, RATE))
    await alice.answered()
    return str((await client.target.call_from(alice.name))["id"])


def media(application: Received) -> list[bytes]:
    """Return what an application received in Twilio's format, by message."""
    return [base64.b64decode(message["media"]["payload"]) for message in application.of(event="media")]


def digits(client: Client) -> str:
    return "".join(data["digit"] for data in client.told("dtmf_received"))


async def paused(client: Client) -> list[bool]:
    """Return which of the recordings that run are paused."""
    shown = (await client.done("GET", "/v1.0/recordings"))["result"]
    return [each["paused"] for each in shown if each["status"] == "recording"]


async def test_nothing_of_a_sensitive_call_reaches_applications(lab: Lab, phones: Phones, sink: Sink) -> None:
    alice, bob = await phones("1001", "1002")
    subscription = {"id": "all", "url": sink.url, "dialect": "twilio", "extensions": ["1001"]}
    async with pushing(lab, subscriptions=[subscription]) as target, client_of(target) as client:
        call_id = await talking(alice, bob, client)
        path = f"/v1.0/calls/{call_id}"
        (pushed,) = await sink.connected(1)
        async with target.stream(call_id, encapsulation="sln", rate=RATE) as application:
            await hears(application, ALICE_HZ)
            await hears(application, BOB_HZ)
            await until(lambda: seconds_of(pushed.twilio(), ALICE_HZ) > 1)
            await client.done("POST", f"{path}/recording_start")
            await alice.dtmf("12")
            await until(lambda: digits(client) == "12")

            shown = await client.done("POST", f"{path}/sensitive", {"timeout_s": 60})
            assert shown["sensitive"]
            before = len(media(pushed))
            await silent_for(application, 2 * FRAMES)
            (recording,) = (await client.done("GET", "/v1.0/recordings"))["result"]
            assert (recording["status"], recording["paused"]) == ("recording", True)
            streams = (await client.done("GET", "/v1.0/streams"))["result"]
            assert [each["sensitive"] for each in streams] == [True, True]
            await alice.dtmf("9876")
            # What an application sends is still played into the call; a recording would contain it.
            await application.play(peer.frames(judge.tone(APPLICATION_HZ, 2, RATE).astype("<i2").tobytes()))
            async with target.stream(call_id, encapsulation="sln", rate=RATE) as late:
                await silent_for(late, FRAMES)
            await client.done("POST", f"{path}/recording_start")  # begins paused
            assert all(each["paused"] for each in (await client.done("GET", "/v1.0/recordings"))["result"])
            assert (await client.ask("POST", f"{path}/sensitive", {"timeout_s": 0}))[0] == 400
            quiet = media(pushed)[before + 5 :]
            await silent_for(application, FRAMES)
            assert len(quiet) > 2 * FRAMES

            assert not (await client.done("DELETE", f"{path}/sensitive"))["sensitive"]
            await hears(application, ALICE_HZ)
            await hears(application, BOB_HZ)
            await alice.dtmf("3")
            await until(lambda: digits(client) == "123")
            await application.heard(len(application.binary) + 3 * FRAMES)  # a recording that was held back begins
            assert not (await client.done("DELETE", f"{path}/sensitive"))["sensitive"]
        assert {judge.rms(peer.ulaw_samples(each)) for each in quiet} == {0.0}
        (started,) = client.told("sensitive_started")
        (ended,) = client.told("sensitive_ended")
        assert (started["call_id"], started["timeout"]) == (call_id, 60)
        assert (ended["call_id"], ended["reason"]) == (call_id, "lifted")
        for _ in range(2):
            await client.done("POST", f"{path}/recording_stop")
        for shown in (await client.done("GET", "/v1.0/recordings"))["result"]:
            recorded, rate = samples_of_wav(await client.done("GET", f"/v1.0/recordings/{shown['id']}/file"))
            assert seconds_of(recorded, ALICE_HZ) > 0.5
            assert judge.block_levels(recorded, rate, APPLICATION_HZ, block_s=0.1).max() < 500
            assert not set(judge.dtmf(recorded, rate)) & set("9876")
            await client.done("DELETE", f"/v1.0/recordings/{shown['id']}")
        await alice.hangup()
    assert seconds_of(alice.recording(), APPLICATION_HZ) > 1.5


async def test_it_ends_by_its_timeout_and_with_the_call(target: Target, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    async with client_of(target) as client:
        call_id = await talking(alice, bob, client)
        async with target.stream(call_id, encapsulation="sln", rate=RATE) as application:
            await hears(application, ALICE_HZ)
            await client.done("POST", f"/v1.0/calls/{call_id}/recording_start")
            await client.done("POST", f"/v1.0/calls/{call_id}/sensitive", {"timeout_s": 1})
            assert await paused(client) == [True]
            await client.until("sensitive_ended", call_id, reason="timeout")
            await hears(application, ALICE_HZ)
            async with asyncio.timeout(PATIENCE_S):
                while any(await paused(client)):
                    await asyncio.sleep(0.05)
        await client.done("POST", f"/v1.0/calls/{call_id}/sensitive")
        assert client.told("sensitive_started")[-1]["timeout"] == 300
        await alice.hangup()
        await client.until("sensitive_ended", call_id, reason="call ended")
        assert (await client.ask("POST", f"/v1.0/calls/{call_id}/sensitive"))[0] in (404, 409)
        assert (await client.ask("POST", "/v1.0/calls/unknown/sensitive"))[0] == 404


async def test_a_flow_keeps_a_number_for_itself(target: Target, phones: Phones, sink: Sink) -> None:
    """The action that collects digits gets them; nothing else does, and none are left for later actions."""
    (alice,) = await phones("1001")
    alice.play_next(judge.tone(ALICE_HZ, 60, RATE))
    flow = [
        action("external_media_start", url=sink.url, dialect="twilio", direction_listen="in"),
        action("sleep", duration=1000),
        action("sensitive_start", duration=60),
        action("digits_receive", duration=20_000, length=4),
        action("variable_set", key="card", value="${voipbin.call.digits}"),
        action("sleep", duration=1500),
        action("sensitive_stop"),
        action("digits_receive", duration=3000, length=1),
        action("sleep", duration=1000),
        action("hangup"),
    ]
    async with client_of(target) as client:
        call_id = await client.call("1001", *flow)
        (application,) = await sink.connected(1)
        await client.until("flow_action", call_id, type="digits_receive")
        at = len(media(application))
        await alice.dtmf("4711")
        await client.until("flow_action", call_id, type="sleep", count=2)
        await alice.dtmf("55")
        await client.until("flow_action", call_id, type="sensitive_stop")
        quiet = media(application)[at:]
        await client.until("flow_action", call_id, type="digits_receive", count=2)
        await alice.dtmf("3")
        await client.until("call_hangup", call_id)
        await client.until("flow_ended", call_id)
        assert client.failures(call_id) == []
        assert digits(client) == "3"
    assert len(quiet) > 2 * FRAMES
    assert {judge.rms(peer.ulaw_samples(each)) for each in quiet[:-3]} == {0.0}
    before, after = media(application)[:at], media(application)[at + len(quiet) :]
    for each in (before, after):
        assert seconds_of(peer.ulaw_samples(b"".join(each)), ALICE_HZ) > 0.5
    assert "".join(each["dtmf"]["digit"] for each in application.of(event="dtmf")) == "3"


async def test_external_media_of_another_server_is_disconnected(lab: Lab, phones: Phones) -> None:
    """Asterisk sends it past the bridge: it gets no audio at all meanwhile."""
    (alice,) = await phones("1001")
    alice.play_next(judge.tone(ALICE_HZ, 60, RATE))
    async with rtp_server(lab) as (server, host), pushing(lab) as target, client_of(target) as client:
        call_id = await client.call("1001", action("external_media_start", external_host=host))
        await until(lambda: seconds_of(server.heard, ALICE_HZ) > 0.5)
        await client.done("POST", f"/v1.0/calls/{call_id}/sensitive")
        before = len(server.heard)
        await sends(alice, 1)
        assert seconds_of(server.heard[before + RATE // 10 :], ALICE_HZ, 100) == 0
        (stream,) = (await client.done("GET", "/v1.0/streams"))["result"]
        assert stream["sensitive"]
        await client.done("DELETE", f"/v1.0/calls/{call_id}/sensitive")
        before = len(server.heard)
        await until(lambda: seconds_of(server.heard[before:], ALICE_HZ) > 0.5)
        await client.done("POST", f"/v1.0/calls/{call_id}/hangup")
        await client.until("call_hangup", call_id)


async def test_every_worker_keeps_to_it(lab: Lab, tmp_path: Path, phones: Phones) -> None:
    """The request goes to the worker that has the call; streams of it are wherever their connections arrived."""
    alice, bob = await phones("1001", "1002")
    async with serving(lab, tmp_path) as several, client_of(several) as client:
        call_id = await talking(alice, bob, client)
        async with (
            several.stream(call_id, encapsulation="sln", rate=RATE) as one,
            several.stream(call_id, encapsulation="sln", rate=RATE) as two,
            several.stream(call_id, encapsulation="sln", rate=RATE) as three,
            several.stream(call_id, encapsulation="sln", rate=RATE) as four,
        ):
            applications = (one, two, three, four)
            await asyncio.gather(*(hears(each, ALICE_HZ) for each in applications))
            assert (await several.request("POST", f"/v1.0/calls/{call_id}/sensitive"))[0] == 200
            await asyncio.gather(*(each.heard(len(each.messages) + 10) for each in applications))  # what is under way
            await asyncio.gather(*(silent_for(each, FRAMES) for each in applications))
            await alice.dtmf("7")
            await asyncio.gather(*(silent_for(each, FRAMES) for each in applications))
            assert (await several.request("DELETE", f"/v1.0/calls/{call_id}/sensitive"))[0] == 200
            await asyncio.gather(*(hears(each, ALICE_HZ) for each in applications))
            assert digits(client) == ""
        assert len(client.told("sensitive_started")) == len(client.told("sensitive_ended")) == 1
        await alice.hangup()
