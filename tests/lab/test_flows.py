"""Flows on real calls: what phones hear and when, keys that they press, connections, and that nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from bridge.access import CONFIGURATION
from bridge.calls.addresses import Address
from bridge.control.outbound_calls import OriginateRequest
from bridge.events.hub import Event
from bridge.flows.manager import FlowManager
from bridge.flows.syntax import parse
from bridge.speech.engine import Utterance
from bridge.testing import judge
from bridge.testing.lab_engine import Lab
from bridge.testing.phone import Phone, Samples
from tests.lab.calling import CALLING
from tests.lab.conftest import Phones, pushing
from tests.lab.driving import begin_of
from tests.lab.sink import open_sink
from tests.lab.waiting import PATIENCE_S, sends

RATE = 8000
WELCOME = "Thank you for calling. All of our agents are busy at the moment."
GOODBYE = "The weather in Berlin is rainy today, with some sun in the evening."
PHONE_HZ = 750.0


class Lot:
    """A bridge with flows, and its events."""

    def __init__(self, bridge: Any) -> None:
        self.bridge = bridge
        self.flow_manager: FlowManager = bridge.calling.flow_manager
        self.events: list[Event] = []
        self.times: list[float] = []
        bridge.events.subscribe(self._on_event)

    def _on_event(self, event: Event) -> None:
        self.events.append(event)
        self.times.append(time.monotonic())

    def told(self, kind: str) -> list[Any]:
        return [event.data for event in self.events if event.type == kind]

    async def until(self, kind: str, count: int = 1, timeout_s: float = PATIENCE_S) -> list[Any]:
        async with asyncio.timeout(timeout_s):
            while len(self.told(kind)) < count:
                await asyncio.sleep(0.02)
        return self.told(kind)

    def failures(self) -> list[str]:
        return [data["reason"] for data in self.told("flow_action") if data["reason"]]

    async def said(self, text: str) -> Samples:
        """Return the bridge's speech for a string, at the phones' rate."""
        sound = (await self.bridge.calling.speech.say(Utterance(text))).at(RATE)
        return np.frombuffer(sound.pcm, "<i2")

    async def originate(self, flow: Any, *targets: str, variables: Any = None) -> Any:
        destinations = [Address("extension", target) for target in targets]
        return await self.flow_manager.originate(OriginateRequest(destinations, CONFIGURATION), parse(flow), variables)


@contextlib.asynccontextmanager
async def flows(lab: Lab, *actions: Any, **sections: Any) -> AsyncIterator[Lot]:
    """Run a bridge that runs these actions on every call to 750; nothing may be left at the end."""
    if actions:
        sections["flows"] = [{"id": "test", "match": ["750"], "actions": list(actions)}]
    async with pushing(lab, **sections) as target:
        yield Lot(target.bridge)


@contextlib.asynccontextmanager
async def server(answer: Callable[[Any], Any]) -> AsyncIterator[tuple[str, list[Any]]]:
    """Run an application's HTTP server; return its address and the JSON that it receives."""
    sent: list[Any] = []

    async def handle(request: web.Request) -> web.Response:
        body = await request.read()
        sent.append(json.loads(body) if body else None)
        response = web.json_response(answer(sent[-1]))
        response.force_close()  # a connection that is kept would count as left behind
        return response

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"http://127.0.0.1:{port}", sent
    finally:
        await runner.cleanup()


def talk(text: str, **option: Any) -> dict[str, Any]:
    return {"type": "talk", "option": {"text": text, **option}}


def say(text: str) -> dict[str, Any]:
    return {"type": "SAY", "params": {"text": text}}


async def call(phone: Phone, seconds: float = 30) -> None:
    await phone.call("750", play=judge.tone(PHONE_HZ, seconds, RATE))
    await phone.answered()


async def test_the_caller_hears_sentences_and_the_pause_between_them(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    pause = {"type": "sleep", "option": {"duration": 1500}}
    # A phone's recording begins with the first packet that it gets: not in the middle of what is looked for.
    begin = {"type": "sleep", "option": {"duration": 200}}
    async with flows(lab, {"type": "answer"}, begin, talk(WELCOME), pause, talk(GOODBYE)) as lot:
        await call(alice)
        await alice.ended(30)
        heard = alice.recording()
        first, second = await lot.said(WELCOME), await lot.said(GOODBYE)
        gap = begin_of(second, heard) - begin_of(first, heard) - len(first) / RATE
        assert 1.4 < gap < 2.0, gap
        # Nobody is hung up before the last word.
        assert len(heard) / RATE > begin_of(second, heard) + len(second) / RATE - 0.3
        assert [data["type"] for data in lot.told("flow_action")] == ["answer", "sleep", "talk", "sleep", "talk"]
        assert (await lot.until("flow_ended"))[0]["reason"] == "the last action was done"
        assert lot.failures() == []


async def test_a_placed_call_in_voxology_s_words_with_streams_in_order(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    alice.play_next(judge.tone(PHONE_HZ, 60, RATE))
    async with open_sink() as sink, flows(lab) as lot:
        stream = {"url": sink.url, "tracks": ["caller"]}
        flow = {
            "actions": [
                {"type": "PAUSE", "params": {"duration": 500}},
                {"type": "STREAM", "params": {**stream, "action": "start", "stream_data": {"order": [1, 2]}}},
                say(WELCOME),
                {"type": "PAUSE", "params": {"duration": 1000}},
                {"type": "STREAM", "params": {**stream, "action": "stop"}},
                say(GOODBYE),
                {"type": "HANGUP"},
            ]
        }
        placed = await lot.originate(flow, "1001")
        await alice.ended(40)
        heard = alice.recording()
        first, second = await lot.said(WELCOME), await lot.said(GOODBYE)
        began = begin_of(first, heard)
        # Its audio connection is opened for it, and its first frame is the first that the phone receives.
        assert began > -0.01, began
        gap = begin_of(second, heard) - began - len(first) / RATE
        assert 0.9 < gap < 1.8, gap
        (received,) = await sink.connected(1)
        await asyncio.wait_for(received.ended.wait(), PATIENCE_S)
        kinds = [message["type"] for message in received.messages if message["type"] != "live_track"]
        assert kinds == ["init_stream", "start_track", "stop_track", "end_stream"]
        assert received.messages[0]["stream_data"] == {"order": [1, 2]}
        assert received.messages[0]["call_id"] == placed.calls[0].id
        streamed = len(received.voxology("caller")) / RATE
        assert abs(streamed - (len(first) / RATE + 1.0)) < 0.7, streamed
        assert judge.level_of(received.voxology("caller")[RATE:], PHONE_HZ, RATE) > 4000
        assert (await lot.until("call_hangup"))[0]["hangup_reason"] == "normal"
        assert lot.failures() == []


@pytest.mark.quick
async def test_keys_are_collected_once_each_in_order(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    async with server(lambda _: {}) as (url, sent):
        tell = {"type": "webhook_send", "option": {"uri": url, "data": '{"keys": "${voipbin.call.digits}"}'}}
        receive = {"type": "digits_receive", "option": {"duration": 20_000, "key": "#"}}
        flow = [talk(WELCOME, digits_handle="next"), receive, tell, receive, tell, talk("Bye.")]
        async with flows(lab, *flow) as lot:
            await call(alice)
            await lot.until("flow_action")
            await sends(alice, 1.5)
            await alice.dtmf("1590#")  # the first one stops the sentence
            await lot.until("flow_action", 4)
            await alice.dtmf("7733*0011#", gap_s=0.25)
            await alice.ended(30)
            heard = alice.recording()
            assert sorted(body["keys"] for body in sent) == ["1590#", "7733*0011#"]
            assert judge.find(await lot.said(WELCOME), heard, RATE) == []
            assert lot.failures() == []


MIDDLE: dict[str, list[dict[str, Any]]] = {
    "talk": [talk(" ".join([WELCOME] * 10))],
    "digits_receive": [{"type": "digits_receive", "option": {"duration": 60_000}}],
    "echo": [{"type": "echo", "option": {"duration": 60_000}}],
    "recording": [{"type": "recording_start"}, {"type": "sleep", "option": {"duration": 60_000}}],
    "connect": [{"type": "connect", "option": {"destinations": [{"type": "extension", "target": "1002"}]}}],
    "conference": [{"type": "CONFERENCE", "params": {"name": "mid-action"}}],
}


@pytest.mark.parametrize("what", list(MIDDLE))
async def test_a_caller_who_hangs_up_mid_action_ends_the_flow_at_once(lab: Lab, phones: Phones, what: str) -> None:
    alice, bob = await phones("1001", "1002")
    await bob.command("answermode", "manual")
    try:
        async with flows(lab, *MIDDLE[what]) as lot:
            await call(alice) if what != "connect" else await alice.call("750")
            await lot.until("flow_action", len(MIDDLE[what]))
            await (bob.called() if what == "connect" else sends(alice, 1.5))
            before = time.monotonic()
            await alice.hangup()
            (ended,) = await lot.until("flow_ended")
            assert ended["reason"] == "the call ended"
            index = next(i for i, event in enumerate(lot.events) if event.type == "flow_ended")
            assert lot.times[index] - before < 2.0
            assert lot.failures() == []
    finally:
        await bob.command("answermode", "auto")


async def test_connect_until_the_partner_leaves_and_then_the_flow_goes_on(lab: Lab, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    bob.play_next(judge.tone(1300, 60, RATE))
    connect = {"type": "connect", "option": {"destinations": [{"type": "extension", "target": "1002"}]}}
    async with flows(lab, connect, talk(GOODBYE)) as lot:
        await alice.call("750", play=judge.tone(PHONE_HZ, 60, RATE))
        await bob.answered()
        await alice.answered()
        await sends(alice, 3)
        await bob.hangup()
        await alice.ended(20)
        assert judge.level_of(bob.recording()[RATE:], PHONE_HZ, RATE) > 4000
        heard = alice.recording()
        assert judge.level_of(heard[RATE : 2 * RATE], 1300, RATE) > 4000
        assert begin_of(await lot.said(GOODBYE), heard) > 2
        assert lot.failures() == []


@pytest.mark.parametrize("who", ["caller", "partner"])
async def test_a_phone_of_a_connected_call_transfers_it(lab: Lab, phones: Phones, who: str) -> None:
    """The one who is left talks with whom the phone has named, and the flow continues."""
    alice, bob, carol = await phones("1001", "1002", "1003")
    connect = {"type": "connect", "option": {"destinations": [{"type": "extension", "target": "1002"}]}}
    async with flows(lab, connect, talk(GOODBYE)) as lot:
        await call(alice)
        await bob.answered()
        await sends(alice, 1)
        leaves, stays = (alice, bob) if who == "caller" else (bob, alice)
        carol.play_next(judge.tone(700, 20, RATE))
        await leaves.transfer("1003")
        await leaves.ended()
        await carol.answered()
        await sends(stays, 3)
        assert lot.told("flow_ended") == []
        await carol.hangup()
        await stays.ended(20)
        heard = stays.recording()
        assert np.count_nonzero(judge.block_levels(heard, RATE, 700, block_s=0.1) > 2000) > 15
        if who == "partner":
            assert begin_of(await lot.said(GOODBYE), heard) > 3


async def test_a_busy_partner_s_reason_is_relayed_to_a_caller_who_was_never_answered(lab: Lab, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    await bob.command("answermode", "manual")
    option = {"destinations": [{"type": "extension", "target": "1002"}], "relay_reason": True}
    try:
        async with flows(lab, {"type": "connect", "option": option}, talk(GOODBYE)) as lot:
            await alice.call("750")
            await bob.called()
            await bob.command("hangup")
            closed = await alice.ended(10)
            assert "486" in str(closed) or "usy" in str(closed), closed
            assert (await lot.until("flow_ended"))[0]["reason"] == "hung up: busy"
            reasons = {data["hangup_reason"] for data in await lot.until("call_hangup", 2)}
            assert reasons == {"busy"}
    finally:
        await bob.command("answermode", "auto")


async def test_echo_gives_the_caller_his_own_voice(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    async with flows(lab, {"type": "echo", "option": {"duration": 4000}}, talk(GOODBYE)) as lot:
        await call(alice)
        await alice.ended(30)
        heard = alice.recording()
        levels = judge.block_levels(heard, RATE, PHONE_HZ, block_s=0.1) > 3000
        assert 3.0 < levels.sum() / 10 < 4.5
        assert begin_of(await lot.said(GOODBYE), heard) > 3.5
        assert lot.failures() == []


async def test_an_inbound_flow_is_fetched_and_follows_redirects(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")

    def answer(asked: Any) -> Any:
        if asked["type"] == "init_call":
            collect = {"type": "COLLECT", "actions": [say(WELCOME)], "params": {"num_digits": 2, "timeout": 5000}}
            data = {"type": "SESSIONDATA", "session_data": {"asked": 1, "place": "next"}}
            again = {"type": "REDIRECT", "params": {"url": f"{urls[0]}/${{sessionData.place}}"}}
            return {"actions": [collect, data, again]}
        return {"actions": [say(f"You pressed {asked['key_presses'][0]['digits']}.")]}

    urls: list[str] = []
    async with server(answer) as (url, asked):
        urls.append(url)
        table = {"id": "fetched", "match": ["750"], "url": f"{url}/flow", "syntax": "voxology"}
        async with flows(lab, flows=[table]) as lot:
            await call(alice)
            await lot.until("flow_action")
            await sends(alice, 1)
            await alice.dtmf("42")
            await alice.ended(20)
            assert [each["type"] for each in asked] == ["init_call", "redirect"]
            assert asked[0]["caller_no"] == "1001"
            assert asked[1]["key_presses"] == [{"name": "", "digits": "42"}]
            assert asked[1]["session_data"] == {"asked": 1, "place": "next"}
            begin_of(await lot.said("You pressed 42."), alice.recording())
            assert lot.failures() == []


async def test_a_queue_keeps_the_caller_and_gives_him_back(lab: Lab, phones: Phones) -> None:
    alice, bob = await phones("1001", "1002")
    bob.play_next(judge.tone(1300, 60, RATE))
    async with flows(lab, {"type": "queue_join", "option": {"queue_id": "support"}}, talk(GOODBYE)) as lot:
        await call(alice)
        await bob.answered(15)
        await sends(alice, 2)
        await bob.hangup()
        await alice.ended(30)
        heard = alice.recording()
        assert judge.block_levels(heard, RATE, 1300, block_s=0.1).max() > 4000
        assert begin_of(await lot.said(GOODBYE), heard) > 1
        assert lot.failures() == []


async def test_ten_flows_at_once_do_not_disturb_each_other(lab: Lab) -> None:
    """Ten calls to the PBX's own echo: each flow sends speech and its own DTMF digits, and collects exactly those.

    (The echo ends at a "#".)
    """
    everything = CALLING.model_dump() | {"extension_endpoint": "Local/{extension}@from-internal/n"}
    async with server(lambda _: {}) as (url, sent), flows(lab, calling=everything) as lot:
        flow = [
            talk(WELCOME),
            {"type": "digits_send", "option": {"digits": "${keys}", "duration": 120, "interval": 120}},
            {"type": "digits_receive", "option": {"duration": 8000, "length": 4}},
            {
                "type": "webhook_send",
                "option": {"uri": url, "sync": True, "data": '{"keys": "${keys}", "got": "${voipbin.call.digits}"}'},
            },
        ]
        wanted = [f"{number}{9 - number}*{number}" for number in range(10)]
        began = time.monotonic()
        await asyncio.gather(*(lot.originate(flow, "600", variables={"keys": keys}) for keys in wanted))
        ended = await lot.until("flow_ended", 10, 60)
        assert {data["reason"] for data in ended} == {"the last action was done"}
        assert sorted((body["keys"], body["got"]) for body in sent) == sorted((keys, keys) for keys in wanted)
        assert time.monotonic() - began < 30
        assert lot.failures() == []
