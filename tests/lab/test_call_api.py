"""Calls and flows over the HTTP API, with real phones: what is heard, which events come, and that nothing is left."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any

import pytest
import standardwebhooks

from bridge.app.application import Application
from bridge.testing import judge, peer
from bridge.testing.lab_engine import TRUNK_NUMBER, Lab
from bridge.testing.phone import Samples
from tests.lab.conftest import Phones, configuration, pushing, synchronized
from tests.lab.driving import (
    QUIET,
    RATE,
    Client,
    action,
    begin_of,
    by_hand,
    client_of,
    in_order,
    open_server,
    said,
    samples_of_wav,
    seconds_of,
    sleep,
    talk,
    wav,
    without,
)
from tests.lab.sink import open_sink
from tests.lab.target import Target
from tests.lab.waiting import PATIENCE_S, sends
from tests.loopback.webhook_receiver import SECRET, Receiver, hook

WELCOME = "Thank you for calling our office."
GOODBYE = "The weather in Berlin is rainy today."
ALICE_HZ, BOB_HZ, APPLICATION_HZ = 480.0, 700.0, 920.0
CALLING = {
    "tel_endpoint": "PJSIP/{number}",
    "extension_endpoint": "Local/{extension}@from-internal/n",
    "caller_id": "4711",
    "context": "media-tap",
}
"""``tel`` reaches the lab's phones, ``extension`` whatever the lab's dialplan has."""


@pytest.fixture
async def client(target: Target) -> AsyncIterator[Client]:
    async with client_of(target) as it:
        yield it


@contextlib.asynccontextmanager
async def bridge_at(lab: Lab, **sections: Any) -> AsyncIterator[Client]:
    async with pushing(lab, calling=CALLING, **sections) as target, client_of(target) as it:
        yield it


def to(number: str, kind: str = "tel") -> dict[str, str]:
    return {"type": kind, "target": number}


# Several simultaneously

PRESENT_S = 0.3
"""Of 2.5 s: with ten calls on a busy machine Asterisk loses and shifts frames, and tones are weaker for that time."""


async def test_ten_flows_at_once_do_not_disturb_each_other(lab: Lab, phones: Phones) -> None:
    """Three phones and seven echoes: what each hears, streams and records is its own and nobody else's."""
    started = await phones("1001", "1002", "1003")
    numbers = ["1001", "1002", "1003", *["600"] * 7]
    played = [400.0 + 140 * index for index in range(10)]
    says = [470.0 + 140 * index for index in range(3)] + played[3:]
    every = {*played, *says}
    for phone, hz in zip(started, says, strict=False):
        phone.play_next(judge.tone(hz, 60, RATE))
    async with open_server() as server, open_sink() as sink, bridge_at(lab) as client:
        hook_url = server.answer("/hook", {})
        call_ids = []
        for index, number in enumerate(numbers):
            sound = server.answer(f"/{index}.wav", wav(judge.tone(played[index], 2.5, RATE)))
            flow = [
                action("recording_start", format="wav"),
                action("external_media_start", url=f"{sink.url}/{index}", encapsulation="sln", direction_listen="in"),
                action("play", stream_urls=[sound]),
                action("webhook_send", sync=True, uri=hook_url, data='{"mine": "${mine}", "id": "${voipbin.call.id}"}'),
                action("recording_stop"),
                action("external_media_stop"),
            ]
            call_ids.append(await client.call(number, *flow, variables={"mine": str(index)}))
        await client.until("flow_ended", count=10, timeout_s=40)
        await client.until("call_hangup", call_ids[-1])
        assert client.failures() == []
        told = {body["mine"]: body["id"] for body in server.bodies("/hook")}
        assert told == {str(index): call_id for index, call_id in enumerate(call_ids)}
        streams = {int(one.path.rpartition("/")[2]): peer.samples_of(b"".join(one.binary)) for one in sink.connections}
        assert len(streams) == len(sink.connections) == 10
        for index, call_id in enumerate(call_ids):
            (recording_id,) = (await client.record(call_id))["recording_ids"]
            recording, rate = samples_of_wav(await client.done("GET", f"/v1.0/recordings/{recording_id}/file"))
            assert rate == RATE
            only(f"stream {index}", streams[index], every, {says[index]: PRESENT_S})
            # An echo and what it repeats may take each other away, but for the beginning.
            least = 0.1 if numbers[index] == "600" else PRESENT_S
            only(f"recording {index}", recording, every, {says[index]: least, played[index]: least})
            await client.done("DELETE", f"/v1.0/recordings/{recording_id}")
    for index, phone in enumerate(started):
        only(phone.name, await phone.heard(), every, {played[index]: PRESENT_S})


def only(whose: str, heard: Samples, tones: Collection[float], own: Mapping[float, float]) -> None:
    """Check that a recording holds its own tones, each for its least number of seconds, and none of the others."""
    lasts = {hz: seconds_of(heard, hz) for hz in tones}
    assert all(lasts[hz] >= least for hz, least in own.items()), (whose, {hz: lasts[hz] for hz in own})
    # Where a tone begins and ends, all frequencies occur briefly.
    assert max(lasts[hz] for hz in tones if hz not in own) <= 0.2, (whose, own, lasts)


async def test_the_first_of_several_who_answers(client: Client, phones: Phones) -> None:
    alice, bob, carol = await phones("1001", "1002", "1003")
    async with by_hand(alice, bob):
        body = {
            "destinations": [to(number, "extension") for number in ("1001", "1002")],
            "answer_method": "hangup_others",
            "actions": [talk(WELCOME)],
        }
        answer = await client.done("POST", "/v1.0/calls", body)
        first, second = [call["id"] for call in answer["calls"]]
        await asyncio.gather(alice.called(), bob.called())
        await bob.command("accept")
        await bob.answered()
        assert (await alice.ended(3)).param  # it stops to ring while the other talks
        assert bob.in_call
        await client.until("call_hangup", second)
        await client.until("call_hangup", first)
    group = await client.done("GET", f"/v1.0/groupcalls/{answer['groupcalls'][0]['id']}")
    assert (group["call_ids"], group["answer_call_id"]) == ([first, second], second)
    lost, won = await client.record(first), await client.record(second)
    assert (lost["hangup_reason"], won["hangup_reason"]) == ("cancel", "normal")
    assert client.statuses(first) == ["dialing", "ringing", "canceling", "hangup"]
    assert client.actions(second) == ["talk"]
    assert client.told("flow_started", first) == []
    begin_of((await said(client.target.lab, WELCOME))[0], bob.recording())
    assert not carol.in_call


# How calls fail


@pytest.mark.core
async def test_why_a_call_is_not_answered(client: Client, phones: Phones) -> None:
    alice, bob, carol = await phones("1001", "1002", "1003")
    async with by_hand(alice, bob, carol):
        busy, silent, given_up = [await client.call(n, talk(WELCOME), timeout=2) for n in ("1001", "1002", "1003")]
        unregistered, unknown = [await client.call(n, talk(WELCOME)) for n in ("1004", "1999")]
        await asyncio.gather(alice.called(), carol.called())
        await alice.command("hangup")
        shown = await client.done("POST", f"/v1.0/calls/{given_up}/hangup")
        assert (shown["status"], shown["hangup_reason"]) == ("hangup", "cancel")
        reasons = {
            busy: ("busy", "remote"),
            silent: ("noanswer", "local"),
            given_up: ("cancel", "local"),
            unregistered: ("failed", "remote"),
            unknown: ("failed", "remote"),
        }
        for call_id, reason in reasons.items():
            told = await client.until("call_hangup", call_id)
            shown = await client.record(call_id)
            assert (told["hangup_reason"], told["hangup_by"]) == (shown["hangup_reason"], shown["hangup_by"])
            assert (shown["hangup_reason"], shown["status"]) == (reason[0], "hangup")
            if call_id not in (unregistered, unknown):  # nobody was called there
                assert shown["hangup_by"] == reason[1]
        assert client.statuses(busy) == ["dialing", "ringing", "hangup"]
        assert client.statuses(unknown) == ["dialing", "hangup"]
        assert client.told("flow_started") == []


# Callers who hang up

MIDDLE: list[dict[str, list[dict[str, Any]]]] = [
    {
        "1001": [talk(" ".join([WELCOME] * 10))],
        "1002": [sleep(60_000)],
        "1003": [action("digits_receive", duration=60_000, length=4)],
    },
    {
        "1001": [action("connect", destinations=[to("602", "extension")])],
        "1002": [action("conference_join", conference_id="meeting")],
        "1003": [action("recording_start"), action("sleep", duration=60_000)],
    },
]


@pytest.mark.parametrize("flows", MIDDLE, ids=lambda flows: "-".join(flow[0]["type"] for flow in flows.values()))
async def test_who_hangs_up_in_the_middle(lab: Lab, phones: Phones, flows: dict[str, list[dict[str, Any]]]) -> None:
    started = await phones(*flows)
    async with bridge_at(lab) as client:
        await client.done("POST", "/v1.0/conferences", {"id": "meeting"})
        call_ids = [await client.call(number, *flow, kind="tel") for number, flow in flows.items()]
        for call_id, flow in zip(call_ids, flows.values(), strict=True):
            await client.until("flow_action", call_id, type=flow[-1]["type"])
        if "conference_join" in client.actions(call_ids[1]):
            await client.until("conference_joined", call_ids[1])
            await client.until("recording_started", call_ids[2])
            await client.until("call_ringing", master_call_id=call_ids[0])
        await sends(started[0], 0.5)  # in the middle, not at the beginning
        for phone, call_id in zip(started, call_ids, strict=True):
            began = asyncio.get_running_loop().time()
            await phone.hangup()
            ended = await client.until("flow_ended", call_id)
            assert ended["at"] - began < 1.0
            assert ended["reason"] == "the call ended"
            assert (await client.until("call_hangup", call_id))["hangup_by"] == "remote"
        if "conference_join" in client.actions(call_ids[1]):
            assert (await client.until("call_hangup", master_call_id=call_ids[0]))["hangup_reason"] == "cancel"
            await client.until("conference_left", call_ids[1])
            assert (await client.until("recording_finished", call_ids[2]))["status"] == "ended"
        await client.done("DELETE", "/v1.0/conferences/meeting")
        assert client.failures() == []


# An ordinary call of the PBX


@pytest.mark.core
async def test_verbs_on_an_ordinary_call(client: Client, phones: Phones) -> None:
    """1001 talks with 1002: one of them hears a sentence, both are recorded, and what needs control is refused."""
    alice, bob = await phones("1001", "1002")
    bob.play_next(judge.tone(BOB_HZ, 60, RATE, QUIET))
    await alice.call("1002", play=judge.tone(ALICE_HZ, 60, RATE, QUIET))
    await alice.answered()
    call_id = (await client.target.call_from("1001"))["id"]
    path = f"/v1.0/calls/{call_id}"
    for verb in ("hold", "mute", "silence", "moh"):
        status, refusal = await client.ask("POST", f"{path}/{verb}")
        assert (status, refusal["error"]["reason"]) == (409, "STATE_INVALID"), verb
    assert (await client.ask("POST", f"{path}/dtmf", {"digits": "1"}))[0] == 409
    shown = await client.done("POST", f"{path}/recording_start", {})
    recording_id = shown["recording_id"]
    await client.done("POST", f"{path}/talk", {"text": WELCOME, "language": "en-US"})
    (sentence,) = await said(client.target.lab, WELCOME)
    await sends(alice, len(sentence) / RATE + 0.7)
    shown = await client.done("POST", f"{path}/recording_stop")
    assert (shown["recording_id"], shown["recording_ids"]) == ("", [recording_id])
    recording, _ = samples_of_wav(await client.done("GET", f"/v1.0/recordings/{recording_id}/file"))
    await client.done("POST", f"{path}/hangup")
    await asyncio.gather(alice.ended(), bob.ended())
    assert (await client.until("call_hangup", call_id))["hangup_by"] == "local"
    least = len(sentence) / RATE
    assert seconds_of(recording, ALICE_HZ, QUIET / 4) > least
    assert seconds_of(recording, BOB_HZ, QUIET / 4) > least
    begin_of(sentence, without(alice.recording(), BOB_HZ))
    assert judge.find(sentence, without(bob.recording(), ALICE_HZ), RATE, least=0.5) == []
    await client.done("DELETE", f"/v1.0/recordings/{recording_id}")
    assert client.statuses(call_id)[-2:] == ["terminating", "hangup"]


# Calls that come in


@pytest.mark.parametrize("place", ["inline", "url"])
async def test_a_number_of_the_trunk_runs_a_flow(lab: Lab, phones: Phones, place: str) -> None:
    (caller,) = await phones("trunk")
    actions = [{"type": "answer"}, talk(WELCOME), talk("You have called ${voipbin.call.destination.target}.")]
    async with open_server() as server:
        flow: dict[str, Any] = {"id": "reception", "match": ["5551*"]}
        if place == "inline":
            flow["actions"] = actions
        else:
            url = server.answer("/flow", actions)
            flow |= {"url": url, "auth_key": "X-Token", "auth_value": "my secret"}
        async with bridge_at(lab, flows=[flow]) as client:
            await caller.call("5551750")
            started = await client.until("flow_started")
            assert started["flow_id"] == "reception"
            await caller.ended(20)
            await client.until("call_hangup", started["call_id"])
            shown = await client.record(started["call_id"])
            assert (shown["direction"], shown["flow_id"]) == ("incoming", "reception")
            assert (shown["source"]["target"], shown["destination"]["target"]) == (TRUNK_NUMBER, "5551750")
            assert client.failures() == []
            assert client.actions(started["call_id"]) == ["answer", "talk", "talk"]
        if place == "url":
            (asked,) = server.asked
            assert asked["headers"]["X-Token"] == "my secret"
            assert asked["body"]["call"]["source"]["target"] == TRUNK_NUMBER
    in_order(caller.recording(), *await said(lab, WELCOME, "You have called 5551750."))


# Keys


@pytest.mark.core
async def test_keys_of_a_phone_come_once_each_in_order(client: Client, phones: Phones) -> None:
    """A flow repeats the digits that it has collected, and their sender hears them."""
    keys = "7205"
    (alice,) = await phones("1001")
    flow = [
        action("digits_receive", duration=10_000, length=4),
        talk("You pressed ${voipbin.call.digits}."),
        action("digits_receive", duration=10_000, length=20, key="#"),
        talk("And then ${voipbin.call.digits}."),
    ]
    call_id = await client.call("1001", *flow)
    await client.until("flow_action", call_id, type="digits_receive")
    await alice.dtmf(keys)
    await client.until("flow_action", call_id, type="digits_receive", count=2)
    await alice.dtmf("0112233#")
    await client.until("call_hangup", call_id)
    told = client.told("dtmf_received", call_id)
    assert "".join(data["digit"] for data in told) == keys + "0112233#"
    in_order(await alice.heard(), *await said(client.target.lab, "You pressed 7205.", "And then 0112233#."))


# Applications that talk


async def test_a_flow_waits_for_a_connected_application(lab: Lab, phones: Phones) -> None:
    """STREAM with connect in Twilio's dialect: the next sentence comes when the application has closed."""
    (alice,) = await phones("1001")
    alice.play_next(judge.tone(ALICE_HZ, 60, RATE))
    async with open_sink() as sink, bridge_at(lab) as client:
        params = {"url": sink.url, "dialect": "twilio", "connect": True, "parameters": {"who": "agent"}}
        flow = [{"type": "STREAM", "params": params}, {"type": "SAY", "params": {"text": GOODBYE}}]
        call_id = await client.call("1001", *flow, kind="tel")
        (received,) = await sink.connected(1)
        await client.until("stream_connected", call_id)
        payload = base64.b64encode(peer.ulaw_bytes(judge.tone(APPLICATION_HZ, 2, RATE))).decode()
        await received.send(event="media", media={"payload": payload})
        await received.send(event="mark", mark={"name": "said"})
        async with asyncio.timeout(PATIENCE_S):
            while not received.of(event="mark"):
                await asyncio.sleep(0.02)
        assert client.actions(call_id) == ["STREAM"]  # it waits
        await received.socket.close()
        await client.until("call_hangup", call_id)
        assert client.actions(call_id) == ["STREAM", "SAY"]
        assert client.failures() == []
        assert received.of(event="start")[0]["start"]["customParameters"]["who"] == "agent"
        assert seconds_of(received.twilio(), ALICE_HZ) > 1.5
    heard = await alice.heard()
    assert 1.8 < seconds_of(heard, APPLICATION_HZ) < 2.2
    (sentence,) = await said(lab, GOODBYE)
    begin = begin_of(sentence, heard)
    assert judge.level_of(heard[int((begin - 0.5) * RATE) :], APPLICATION_HZ, RATE) < 500


# Requests to servers


async def test_webhooks_tell_the_same_as_the_websocket(lab: Lab, phones: Phones) -> None:
    await phones("1001")
    async with Receiver().serving() as receiver:
        config = configuration(lab, calling=CALLING, webhooks=[hook(receiver.port)])
        async with Application(config) as bridge:
            target = Target(lab, f"http://127.0.0.1:{bridge.http_port}", None, bridge)
            await synchronized(target)
            async with client_of(target) as client:
                actions = action("beep"), action("recording_start"), sleep(500)
                call_id = await client.call("1001", *actions, kind="tel")
                await client.until("call_hangup", call_id)
                await client.until("flow_ended", call_id)
                await client.until("recording_finished", call_id)
                await receiver.got(len(client.events))
                told = [{key: event[key] for key in ("id", "type", "tm_create", "data")} for event in client.events]
            assert await target.ours_on_the_pbx() == []
    assert receiver.events == told
    verifier = standardwebhooks.Webhook(SECRET)
    for _, headers, body in receiver.requests:
        assert verifier.verify(body, headers) == json.loads(body)
    moves = ["call_joined", "call_left"]
    assert [event["type"] for event in told if event["type"] in moves] == moves
    kinds = [event["type"] for event in told if event["type"] not in ("call_updated", *moves)]
    flow = ["flow_started", *["flow_action"] * 2, "recording_started", "flow_action"]
    assert kinds[:8] == ["call_created", "call_ringing", "call_progressing", *flow]
    assert sorted(kinds[8:]) == ["call_hangup", "flow_ended", "recording_finished"]
