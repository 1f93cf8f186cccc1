"""Documents of a carrier's webhook as flows: prompts, digits, conferences, queues, streams, and what is unsupported."""

from __future__ import annotations

import asyncio

import pytest

from bridge.dialects.twilio import call_sid
from bridge.flows.program import Document, InvalidFlow
from bridge.flows.syntax import parse
from bridge.flows.twiml_xml import MAX_BYTES, MAX_DEPTH, MAX_ELEMENTS
from tests.fakes.virtual_time import now, pass_time, run_virtually
from tests.unit.flows.fake_services import SAID_S
from tests.unit.flows.twiml_documents import URL, answers, document, done, form, inline, run_of, signed
from tests.unit.flows.world import ACCOUNT, World


def test_say_play_and_pause_are_heard_in_order() -> None:
    async def act() -> None:
        world = World()
        await done(
            world,
            '<Say voice="alice" language="en-GB" loop="2">One <break/>two &amp; ${three}</Say>',
            '<Pause length="3"/>',
            "<Play>sounds/a.wav</Play>",
        )
        (said,) = world.speech.said
        assert (said.text, said.language, said.voice) == ("One two & ${three}", "en-GB", "alice")
        assert [(begin, end) for _, begin, end, _ in world.players.heard] == [(0, 2), (2, 4), (7, 8)]

    run_virtually(act())


@pytest.mark.parametrize(
    ("verb", "pressed", "digits", "after_s"),
    [
        ('<Gather numDigits="2" action="/next"><Say>Choose</Say></Gather>', "12", "12", 0.5),
        ('<Gather action="next"><Say>Choose</Say></Gather>', "123#", "123", 0.5),
        ('<Gather action="next" finishOnKey="*" timeout="2"/>', "1#*", "1#", 0.5),
        ('<Gather action="next" timeout="2"/>', "5", "5", 0.5),
    ],
)
def test_digits_select_the_next_document(verb: str, pressed: str, digits: str, after_s: float) -> None:
    async def act() -> None:
        world = World()
        leg = world.leg()
        answers(world, next=document("<Say>Thanks</Say>"))
        pressing = asyncio.ensure_future(leg.press(pressed, after_s=after_s))
        await done(world, verb, "<Say>not reached</Say>", leg=leg)
        await pressing
        ((method, url, _, _),) = world.web.asked
        assert (method, url) == ("POST", "https://app.example.org/next")
        found = form(world)
        assert (found["Digits"], found["CallSid"], found["AccountSid"]) == (digits, call_sid("call-1"), ACCOUNT.sid)
        assert found["FinishedOnKey"] == (pressed[len(digits) :])
        assert signed(world)
        assert world.speech.said[-1].text == "Thanks"
        assert "not reached" not in [said.text for said in world.speech.said]
        if "Choose" in verb:
            assert world.players.heard[0][2] < SAID_S  # interrupted

    run_virtually(act())


def test_without_digits_the_document_continues() -> None:
    async def act() -> None:
        world = World()
        await done(world, '<Gather timeout="4" action="/next"/>', "<Say>Nothing</Say>")
        assert world.web.asked == []
        assert [said.text for said in world.speech.said] == ["Nothing"]
        assert world.players.heard[0][1] == 4
        answers(world, next=document())
        await done(world, '<Gather timeout="4" actionOnEmptyResult="true" action="/next"/>', leg=world.leg("call-2"))
        assert form(world)["Digits"] == ""

    run_virtually(act())


def test_the_current_document_is_the_default_of_gather_and_none_of_an_inline_one() -> None:
    async def act() -> None:
        world = World()
        answers(world, voice=document())
        leg = world.leg()
        leg.digits.put("1")
        await done(world, '<Gather numDigits="1" method="GET"/>', leg=leg)
        assert world.web.asked[0][1].startswith(URL + "?CallSid=CA")
        leg = world.leg("call-2")
        leg.digits.put("1")
        await run_of(world, parse(inline('<Gather numDigits="1"/>', "<Say>x</Say>", url="")), leg).run()
        assert len(world.web.asked) == 1
        assert world.speech.said[-1].text == "x"

    run_virtually(act())


def test_a_conference_is_joined() -> None:
    async def act() -> None:
        world = World()
        answers(world, left=document())
        await done(
            world,
            '<Dial action="/left"><Conference muted="true" endConferenceOnExit="true" beep="false">room</Conference>'
            "</Dial>",
        )
        assert world.conferences.did == [("join", "call-1", "room", True, True), ("delete", "room")]
        assert form(world)["DialCallStatus"] == "completed"

    run_virtually(act())


def test_a_queue_is_entered() -> None:
    async def act() -> None:
        world = World()
        answers(world, queued=document())
        leg = world.leg()
        leg.variables["QUEUESTATUS"] = "FULL"
        await done(world, '<Enqueue action="/queued">sales</Enqueue>', leg=leg)
        assert (0, "visit_dialplan", "queue-sales") in leg.did
        assert form(world)["QueueResult"] == "queue-full"

    run_virtually(act())


def test_streams_are_started_and_stopped() -> None:
    async def act() -> None:
        world = World()
        answers(world, after=document("<Say>Over</Say>"))
        connect = (
            '<Connect action="/after"><Stream url="wss://app.example.org/talk" track="inbound_track">'
            '<Parameter name="who" value="${voipbin.call.id}"/></Stream></Connect>'
        )
        fork = '<Start><Stream name="ears" url="wss://app.example.org/ears" track="both_tracks"/></Start>'

        async def agent_leaves() -> None:
            await pass_time(9)
            world.streams.started[1].ended.set()

        leaving = asyncio.ensure_future(agent_leaves())
        await done(world, fork, '<Stop><Stream name="ears"/></Stop>', connect)
        await leaving
        (_, _, ears), (_, _, stop), (_, _, talk) = [each for each in world.streams.did if each[1].startswith("stream_")]
        assert (ears.name, set(ears.tracks), ears.target.two_way) == ("ears", {"inbound", "outbound"}, False)
        assert stop.name == "ears"
        assert (talk.target.url, talk.target.two_way) == ("wss://app.example.org/talk", True)
        assert talk.target.options["parameters"] == {"who": "${voipbin.call.id}"}
        assert world.speech.said[0].text == "Over"
        assert now() == 9 + SAID_S

    run_virtually(act())


def test_a_call_is_rejected_without_being_answered() -> None:
    async def act() -> None:
        world = World()
        leg = world.leg(answered=False)
        await done(world, '<Reject reason="busy"/>', leg=leg)
        assert leg.did == [(0, "hang_up", "busy", "busy")]

    run_virtually(act())


def test_what_is_not_supported_is_reported_and_skipped() -> None:
    async def act() -> None:
        world = World()
        await done(
            world,
            "<Pay/>",
            '<Say voice="x" shade="red">One</Say>',
            '<Gather input="speech" timeout="1"><Foo/></Gather>',
            '<Pause length="soon"/>',
            "<Dial><Sim>1</Sim></Dial>",
            "<Connect><Room>x</Room></Connect>",
            "<Play>http://[</Play>",
            "<Redirect>//[::1/next</Redirect>",
            "<Hangup/>",
            "<Say>never</Say>",
        )
        assert [said.text for said in world.speech.said] == ["One"]
        reasons = [reason for _, reason in world.failures()]
        for index, word in enumerate(
            [
                "unknown verb <Pay>",
                "attribute shade",
                "input='speech'",
                "<Foo>",
                "length='soon'",
                "<Sim>",
                "<Room>",
                "'http://['",
                "'//[::1/next'",
            ]
        ):
            assert any(word in reason for reason in reasons), (index, word, reasons)

    run_virtually(act())


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "not XML"),
        ("hang up", "not XML"),
        ("<Response><Hangup></Response>", "not XML"),
        ('<!DOCTYPE r [<!ENTITY a "aaaa">]><Response><Say>&a;</Say></Response>', "DOCTYPE"),
        ('<!DOCTYPE r SYSTEM "file:///etc/passwd"><Response/>', "DOCTYPE"),
        ("<Response><Say>&a;</Say></Response>", "not XML"),
        ("<Hangup/>", "Response"),
        ("<Response>\ud800</Response>", "not XML"),
        ("<Response>" + " " * MAX_BYTES + "</Response>", "at most"),
        ("<Response>" + "<a>" * MAX_DEPTH + "</a>" * MAX_DEPTH + "</Response>", "deep"),
        ("<Response>" + "<a/>" * MAX_ELEMENTS + "</Response>", "elements"),
    ],
)
def test_what_is_not_a_document(text: str, word: str) -> None:
    with pytest.raises(InvalidFlow, match=word):
        parse(Document(text, URL))


def test_json_is_no_document_and_chooses_no_server() -> None:
    with pytest.raises(InvalidFlow, match="list of actions"):
        parse({"twiml": document("<Say>x</Say>"), "url": URL, "server": "127.0.0.1:8088"})
