"""Calls that the dialplan hands over: a Twilio application that talks, and AudioSocket without ARI."""

from __future__ import annotations

import asyncio
import base64
import logging

import pytest

from bridge.app.application import Application
from bridge.testing import judge, modem, peer
from bridge.testing.lab_engine import Lab
from tests.lab.conftest import Phones, configuration, pushing, synchronized
from tests.lab.driving import seconds_of
from tests.lab.encapsulations import text_of
from tests.lab.sink import open_sink, tone_share
from tests.lab.target import Target
from tests.lab.waiting import PATIENCE_S, sends, until

RATE = 8000


def ulaw(samples: peer.Samples) -> str:
    """Audio as Twilio's media messages carry it."""
    return base64.b64encode(peer.ulaw_bytes(samples)).decode()


async def test_a_twilio_application_hears_and_speaks_in_an_inbound_call(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    said, answered = text_of(5, 1), text_of(5, 2)
    async with open_sink() as sink:
        route = {"id": "agent", "match": "750", "url": sink.url, "dialect": "twilio", "then": "hangup"}
        async with pushing(lab, dialplan=[route]):
            await alice.call("750", play=modem.modulate(said, RATE, lead_s=1.5))
            await alice.answered()
            (received,) = await sink.connected(1)
            await sends(alice, 0.5)
            assert [message["event"] for message in received.messages[:2]] == ["connected", "start"]
            start = received.messages[1]["start"]
            assert start["tracks"] == ["inbound"]
            assert start["mediaFormat"] == {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
            assert start["customParameters"]["from_number"] == "1001"
            # The whole answer in one message, and a mark behind it.
            await received.send(event="media", media={"payload": ulaw(modem.modulate(answered, RATE, lead_s=0.5))})
            await received.send(event="mark", mark={"name": "said"})
            await sends(alice, 6.5)
            assert [message["mark"]["name"] for message in received.of(event="mark")] == ["said"]
            # A key, a long tone, and the clear that cuts it short.
            await alice.dtmf("7")
            await received.send(event="media", media={"payload": ulaw(judge.tone(700, 10, RATE))})
            await received.send(event="mark", mark={"name": "cut"})
            await sends(alice, 1)
            await received.send(event="clear")
            await sends(alice, 0.5)
            assert [message["dtmf"]["digit"] for message in received.of(event="dtmf")] == ["7"]
            assert [message["mark"]["name"] for message in received.of(event="mark")] == ["said", "cut"]
            await received.socket.close()
            await alice.ended()  # then = hangup
    assert modem.demodulate(received.twilio(), RATE) == said
    heard = alice.recording()
    assert modem.decode(heard, RATE).text.startswith(answered)
    assert 0.8 < (judge.block_levels(heard, RATE, 700) > 3000).sum() * judge.BLOCK_S < 1.5
    media = received.of(event="media")
    assert [int(message["media"]["chunk"]) for message in media] == list(range(1, len(media) + 1))


@pytest.mark.quick
async def test_the_dialplan_goes_on_when_the_application_closes(lab: Lab, phones: Phones) -> None:
    """What stands behind Stasis() is heard: a tone that nothing else in the lab plays there."""
    for priority, application in ((1, f"Stasis({lab.ari_app})"), (2, "Milliwatt()")):
        await lab.cli(f"dialplan add extension 760,{priority},{application} into from-internal")
    (alice,) = await phones("1001")
    async with open_sink() as sink:
        route = {"id": "agent", "match": "760", "url": sink.url, "dialect": "twilio", "then": "continue"}
        async with pushing(lab, dialplan=[route]):
            await alice.call("760", play=judge.tone(500, 30, RATE))
            await alice.answered()
            (received,) = await sink.connected(1)
            await sends(alice, 1)
            await received.socket.close()
            await asyncio.wait_for(received.ended.wait(), PATIENCE_S)
            await sends(alice, 2)
            assert alice.in_call
            await alice.hangup()
    await lab.cli("dialplan remove extension 760@from-internal")
    assert judge.level_of(alice.recording()[-RATE:], 1004, RATE) > 3000


@pytest.mark.parametrize(("number", "rate"), [("751", 8000), ("752", 8000)])
async def test_audiosocket_from_the_dialplan(lab: Lab, phones: Phones, number: str, rate: int) -> None:
    """Both forms: the application, and a dialed channel with slin16 that the stream takes at its own rate."""
    (alice,) = await phones("1001")
    async with open_sink() as sink:
        route = {"id": "socket", "match": "uuid:*", "url": sink.url, "dialect": "twilio"}
        async with pushing(lab, dialplan=[route]) as target:
            await alice.call(number, play=judge.tone(500, 30, RATE))
            await alice.answered()
            (received,) = await sink.connected(1)
            await sends(alice, 1)
            await received.send(event="media", media={"payload": ulaw(judge.tone(700, 1.0, RATE))})
            await alice.dtmf("5")
            await sends(alice, 2)
            assert tone_share(received.twilio()[RATE // 2 :], rate, 500) > 0.8
            assert [message["dtmf"]["digit"] for message in received.of(event="dtmf")] == ["5"]
            start = received.of(event="start")[0]["start"]["customParameters"]
            assert (start["from_number"], start["to_number"], start["direction"]) == ("1001", number, "internal")
            await alice.hangup()
            await asyncio.wait_for(received.ended.wait(), PATIENCE_S)
            assert received.messages[-1]["event"] == "stop"
            await target.nothing_left()
    assert 0.9 < (judge.block_levels(alice.recording(), RATE, 700) > 3000).sum() * judge.BLOCK_S < 1.1


async def test_a_uuid_without_a_route_is_refused_and_the_dialplan_goes_on(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    async with pushing(lab) as target:
        await alice.call("752", play=judge.tone(500, 5, RATE))
        await alice.ended(10)
        assert target.bridge is not None
        assert target.bridge.counters.legs_refused == 1


async def test_a_second_call_with_a_uuid_that_is_in_use_is_refused_and_the_log_says_so(
    lab: Lab, phones: Phones, caplog: pytest.LogCaptureFixture
) -> None:
    uuid = "0badc0de-1111-4222-8333-444455556666"
    address = f"{lab.audiosocket_host}:{lab.audiosocket_port}"
    for priority, step in ((1, "Answer()"), (2, f"AudioSocket({uuid},{address})"), (3, "Milliwatt()")):
        await lab.cli(f"dialplan add extension 763,{priority},{step} into from-internal")
    alice, bob = await phones("1001", "1002")
    async with open_sink() as sink:
        route = {"id": "socket", "match": "uuid:*", "url": sink.url, "dialect": "twilio"}
        async with pushing(lab, dialplan=[route]):
            await alice.call("763", play=judge.tone(500, 30, RATE))
            await alice.answered()
            await sink.connected(1)
            await bob.call("763")
            await bob.answered()
            await sends(bob, 2)
            refusals = [record.getMessage() for record in caplog.records if "connection refused" in record.getMessage()]
            assert ["its UUID is in use by another call" in refusal for refusal in refusals] == [True]
            assert len(sink.connections) == 1
            await alice.hangup()
            await bob.hangup()
    await lab.cli("dialplan remove extension 763@from-internal")
    assert judge.level_of(bob.recording()[-RATE:], 1004, RATE) > 3000, "the dialplan continues"


async def test_an_application_that_hangs_up_while_it_speaks(lab: Lab, phones: Phones) -> None:
    (alice,) = await phones("1001")
    async with open_sink() as sink:
        route = {"id": "agent", "match": "750", "url": sink.url, "dialect": "twilio", "then": "hangup"}
        async with pushing(lab, dialplan=[route]):
            await alice.call("750", play=judge.tone(500, 30, RATE))
            await alice.answered()
            (received,) = await sink.connected(1)
            await received.send(event="media", media={"payload": ulaw(judge.tone(700, 10, RATE))})
            await sends(alice, 1)
            await alice.hangup()
            await asyncio.wait_for(received.ended.wait(), PATIENCE_S)
            assert received.messages[-1]["event"] == "stop"


async def test_a_restart_of_the_bridge_hangs_nobody_up(
    lab: Lab, phones: Phones, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (alice,) = await phones("1001")
    async with open_sink() as sink:
        route = {"id": "agent", "match": "750", "url": sink.url, "dialect": "twilio", "then": "hangup"}
        async with Application(configuration(lab, dialplan=[route])) as bridge:
            await synchronized(Target(lab, f"http://127.0.0.1:{bridge.http_port}", None, bridge))
            await alice.call("750", play=judge.tone(500, 60, RATE))
            await alice.answered()
            (first,) = await sink.connected(1)
            await sends(alice, 0.5)
        await asyncio.wait_for(first.ended.wait(), PATIENCE_S)
        assert first.close_code == 1012
        assert alice.in_call
        assert "the bridge is shutting down" in caplog.text
        assert "then=hangup" not in caplog.text, "the log says what happens"
        async with pushing(lab, dialplan=[route]):
            _, second = await sink.connected(2)
            await sends(alice, 1)
            assert tone_share(second.twilio(), RATE, 500) > 0.5
            await alice.hangup()


@pytest.mark.parametrize(("then", "response"), [("hangup", "503"), ("continue", "603")])
async def test_a_caller_for_whom_there_is_no_room_is_rejected_unanswered(
    lab: Lab, phones: Phones, then: str, response: str
) -> None:
    """By Asterisk without a free circuit, or by the dialplan, which has nothing more to do here."""
    alice, bob = await phones("1001", "1002")
    async with open_sink() as sink:
        route = {"id": "agent", "match": "750", "url": sink.url, "dialect": "twilio", "then": then}
        async with pushing(lab, dialplan=[route], media={"max_streams": 1}):
            await alice.call("750", play=judge.tone(500, 60, RATE))
            await alice.answered()
            await sink.connected(1)
            await bob.call("750", play=judge.tone(700, 60, RATE))
            ended = await bob.ended()
            assert response in ended.param
            assert not [event for event in bob.events if event.type == "CALL_ESTABLISHED"]
            assert alice.in_call
            await alice.hangup()


async def test_a_call_that_comes_back_gets_a_new_stream(lab: Lab, phones: Phones) -> None:
    """Sent on into the dialplan, straight back into the application: the end of the old stream is not the new one's."""
    (alice,) = await phones("1001")
    async with open_sink() as sink:
        route = {"id": "agent", "match": "750", "url": sink.url, "dialect": "twilio", "then": "hangup"}
        async with pushing(lab, dialplan=[route]) as target:
            await alice.call("750", play=judge.tone(500, 60, RATE))
            await alice.answered()
            for turn in range(1, 4):
                received = (await sink.connected(turn))[-1]
                call = await target.call_from("1001")
                channel = call["parties"][0]["id"]
                await target.ari(
                    "POST", f"/channels/{channel}/continue", context="from-internal", extension="750", priority="1"
                )
                await asyncio.wait_for(received.ended.wait(), PATIENCE_S)
                assert alice.in_call
            last = (await sink.connected(4))[-1]
            await sends(alice, 1)
            assert tone_share(last.twilio(), RATE, 500) > 0.5
            await alice.hangup()


@pytest.mark.parametrize("waits", [False, True])
async def test_the_last_words_of_an_agent_are_heard_if_it_closes_after_their_mark(
    lab: Lab, phones: Phones, waits: bool
) -> None:
    """What has not been played at the close is discarded, however clean that is."""
    (alice,) = await phones("1001")
    async with open_sink() as sink:
        route = {"id": "agent", "match": "750", "url": sink.url, "dialect": "twilio", "then": "hangup"}
        async with pushing(lab, dialplan=[route]):
            await alice.call("750", play=judge.tone(500, 60, RATE))
            await alice.answered()
            (received,) = await sink.connected(1)
            await sends(alice, 0.5)
            words = [judge.tone(700, 3, RATE), judge.silence(0.3, RATE)]
            for samples in words:
                await received.send(event="media", media={"payload": ulaw(samples)})
            await received.send(event="mark", mark={"name": "last"})
            if waits:
                await until(lambda: received.of(event="mark"))
            await received.socket.close()
            await alice.ended()  # then = hangup, in both cases
    heard = seconds_of(alice.recording(), 700)
    assert heard > 2.7 if waits else heard < 0.5
