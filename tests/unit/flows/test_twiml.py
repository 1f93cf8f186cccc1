"""Documents of a carrier's webhook as flows: each verb, the requests between documents, and what is not supported."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from msgspec.structs import replace

from bridge.ari.model import Channel, ChannelDestroyed
from bridge.calls.addresses import Address
from bridge.config import Config
from bridge.dialects.twilio import call_sid
from bridge.flows import twiml
from bridge.flows.action_settings import ActionSettings
from bridge.flows.actions.twiml import APOLOGY
from bridge.flows.interpreter import Run
from bridge.flows.program import Document, End, InvalidFlow, Program
from bridge.flows.recording_callbacks import recording_sid
from bridge.flows.resuming import program_fact, program_of_fact
from bridge.flows.syntax import parse
from bridge.flows.twiml_xml import MAX_BYTES, MAX_DEPTH, MAX_ELEMENTS
from bridge.flows.variables import Variables
from bridge.flows.web import ServerResponse, WebFailed
from tests.fakes.virtual_time import now, pass_time, run_virtually
from tests.unit.flows.fakes import ACCOUNT, SAID_S, TOKEN, FakeLeg, World

URL = "https://app.example.org/voice"


def document(*verbs: str) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?><Response>{"".join(verbs)}</Response>'


def inline(*verbs: str, url: str = URL) -> Document:
    return Document(document(*verbs), url)


def run_of(world: World, program: Program, leg: FakeLeg | None = None, flow_id: str = "") -> Run:
    some: Any = leg or world.leg()
    return Run(
        *(some, program),
        principal=TOKEN,
        services=world.services,
        flows=world.flow_manager(),
        variables=Variables(),
        flow_id=flow_id,
    )


async def done(world: World, *verbs: str, leg: FakeLeg | None = None) -> tuple[Run, End]:
    run = run_of(world, parse(inline(*verbs)), leg)
    return run, await run.run()


def answers(world: World, **documents: str) -> None:
    """Let the server answer requests by the last segment of their path."""
    for name, text in documents.items():
        world.web.answers[f"https://app.example.org/{name}"] = ServerResponse(200, text.encode())


def form(world: World, index: int = -1) -> dict[str, str]:
    body = world.web.asked[index][2]
    return dict(parse_qsl((body or b"").decode(), keep_blank_values=True))


def signed(world: World, index: int = -1) -> bool:
    """Return whether a request has the signature that the vendor documents."""
    _, url, _, headers = world.web.asked[index]
    text = url + "".join(f"{name}{value}" for name, value in sorted(form(world, index).items()))
    wanted = base64.b64encode(hmac.new(ACCOUNT.token.encode(), text.encode(), hashlib.sha1).digest()).decode()
    return headers["X-Twilio-Signature"] == wanted


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


@pytest.mark.parametrize("fragment", ["", "#rc=2&rp=all"])
def test_parameters_of_a_get_are_in_the_signed_url(fragment: str) -> None:
    async def act() -> None:
        world = World()
        leg = world.leg()
        await run_of(world, twiml.entry(f"{URL}?a=b%20c{fragment}", "GET"), leg).run()
        method, url, body, headers = world.web.asked[0]
        query = parse_qs(urlsplit(url).query)
        assert (method, body, query["a"], query["From"]) == ("GET", None, ["b c"], ["+4930111"])
        assert "#" not in url
        wanted = hmac.new(ACCOUNT.token.encode(), url.encode(), hashlib.sha1).digest()
        assert headers["X-Twilio-Signature"] == base64.b64encode(wanted).decode()

    run_virtually(act())


@pytest.mark.parametrize(
    ("after_s", "reason", "expected"),
    [
        (1.0, "", {"DialCallStatus": "completed", "DialBridged": "true", "DialCallSid": call_sid("placed-1")}),
        (1.0, "busy", {"DialCallStatus": "busy", "DialBridged": "false"}),
        (9.0, "noanswer", {"DialCallStatus": "no-answer", "DialBridged": "false"}),
        (0.0, "failed", {"DialCallStatus": "failed", "DialBridged": "false"}),
    ],
)
def test_dial_reports_the_outcome(after_s: float, reason: str, expected: Mapping[str, str]) -> None:
    async def act() -> None:
        world = World()
        world.originator.outcomes["+4930222"] = (after_s, reason)
        answers(world, dialed=document("<Say>Over</Say>"))

        async def hang_up() -> None:
            await pass_time(after_s + 3)
            world.originator.rung[0].leg.leave()

        leaving = asyncio.ensure_future(hang_up())
        await done(world, '<Dial action="/dialed" timeout="20" callerId="+4930111">+49 30 222</Dial>')
        await leaving
        _, destination, how = world.originator.asked[0]
        assert (destination, how["timeout_s"], how["source"].target) == (Address("tel", "+4930222"), 20, "+4930111")
        assert form(world).items() >= expected.items()
        assert [said.text for said in world.speech.said] == ["Over"]

    run_virtually(act())


@pytest.mark.parametrize(("after_s", "status"), [(0.5, "canceled"), (3.0, "completed")])
def test_a_caller_who_hangs_up_ends_the_dial_and_its_server_is_notified(after_s: float, status: str) -> None:
    async def act() -> None:
        world = World()
        leg = world.leg()

        async def hang_up() -> None:
            await pass_time(after_s)
            leg.leave()

        leaving = asyncio.ensure_future(hang_up())
        await done(world, '<Dial action="/dialed"><Client>1002</Client></Dial>', leg=leg)
        await leaving
        await pass_time(1)
        found = form(world)
        assert (found["DialCallStatus"], found["CallStatus"]) == (status, "completed")
        assert world.originator.rung[0].leg.gone.is_set()
        await world.status_callbacks.close()

    run_virtually(act())


def test_dial_without_an_action_continues_the_document_and_rings_all_nouns() -> None:
    async def act() -> None:
        world = World()
        for target in ("1002", "1003", "+4930"):
            world.originator.outcomes[target] = (1, "noanswer")
        await done(
            world,
            "<Dial><Client>1002</Client><Sip>sip:1003@pbx.example;user=phone</Sip><Number>+4930</Number></Dial>",
            "<Say>Nobody</Say>",
        )
        assert [(to.type, to.target) for _, to, _ in world.originator.asked] == [
            ("extension", "1002"), ("extension", "1003"), ("tel", "+4930")
        ]  # fmt: skip
        assert world.web.asked == []
        assert [said.text for said in world.speech.said] == ["Nobody"]

    run_virtually(act())


def test_the_called_party_receives_digits_before_the_two_are_connected() -> None:
    async def act() -> None:
        world = World()
        world.originator.outcomes["1002"] = (5, "")
        leg = world.leg()

        async def hang_up() -> None:
            await pass_time(8)
            leg.leave()

        leaving = asyncio.ensure_future(hang_up())
        nouns = '<Client>1002</Client><Number sendDigits="ww1W#">+4930</Number><Number sendDigits="1x">+4931</Number>'
        world.originator.outcomes["+4931"] = (1, "busy")
        await done(world, f"<Dial>{nouns}</Dial>", leg=leg)
        await leaving
        called = next(each.leg for each in world.originator.rung if each.leg.answered)
        sent = [(when, does[1]) for when, *does in called.did if does[0] == "send_digits"]
        assert sent == [(2, "1"), (3, "#")]  # answered after a second
        assert "sendDigits='1x'" in world.failures()[0][1]
        assert called.gone.is_set()

    run_virtually(act())


def test_a_document_and_a_webhook_may_follow_digits_and_are_resumed_so() -> None:
    async def act() -> None:
        text = document("<Say>Hello</Say>")
        for program in (parse(Document(text, send_digits="W12w#")), twiml.entry(URL, send_digits="W12w#")):
            world = World()
            answers(world, voice=text)
            leg, began = world.leg(), now()
            again = program_of_fact(program_fact(program) or {})
            assert [each.does for each in again.actions] == [each.does for each in program.actions]
            await run_of(world, again, leg).run()
            sent = [(when - began, what[1]) for when, *what in leg.did if what[0] == "send_digits"]
            assert sent == [(1, "12"), (1.5, "#")]
            assert [said.text for said in world.speech.said] == ["Hello"]

    run_virtually(act())


def test_numbers_are_extensions_without_a_trunk_and_documents_over_http_may_not_dial() -> None:
    async def act() -> None:
        world = World()
        world.services.account = replace(ACCOUNT, originate=False)
        await done(world, "<Dial>1002</Dial>")
        assert world.originator.asked == []
        assert "twilio.originate" in world.failures()[0][1]
        without_trunk = ActionSettings.of(Config.model_validate({}))
        world.services.facilities = without_trunk
        world.originator.outcomes["1002"] = (1, "busy")
        await run_of(world, parse(inline("<Dial>1002</Dial>")), flow_id="agent").run()
        assert world.originator.asked[0][1] == Address("extension", "1002")

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


def test_a_recording_is_reported_when_it_has_ended() -> None:
    async def act() -> None:
        world = World()
        answers(world, recorded=document())

        async def end() -> None:
            await pass_time(3)
            world.recordings.made[0].over.set()

        ending = asyncio.ensure_future(end())
        await done(world, '<Record action="/recorded" maxLength="20" timeout="4" finishOnKey="#" playBeep="false"/>')
        await ending
        ((_, _, how),) = world.recordings.did
        assert how["direction"] == "in"
        assert (how["max_duration_s"], how["max_silence_s"], how["terminate_on"], how["beep"]) == (20, 4, "#", False)
        sid = recording_sid("recording-1")
        base = f"https://bridge.example.org/2010-04-01/Accounts/{ACCOUNT.sid}/Recordings/{sid}"
        expected = {"RecordingUrl": base, "RecordingSid": sid, "RecordingDuration": "3"}
        assert form(world).items() >= expected.items()

    run_virtually(act())


@pytest.mark.parametrize("hangs_up", [False, True])
def test_the_status_of_a_recording_is_sent(hangs_up: bool) -> None:
    async def act() -> None:
        world = World()
        leg = world.leg()

        async def end() -> None:
            await pass_time(3)
            if hangs_up:
                leg.leave()
                await pass_time(1)
            world.recordings.made[0].over.set()

        ending = asyncio.ensure_future(end())
        callback = 'recordingStatusCallback="/rec" recordingStatusCallbackEvent="completed in-progress"'
        starting = asyncio.ensure_future(done(world, f'<Record action="/next" {callback}/>', leg=leg))
        await ending
        await starting
        await pass_time(1)
        assert all(signed(world, index) for index in range(len(world.web.asked)))
        found = [form(world, index) for index, each in enumerate(world.web.asked) if each[1].endswith("/rec")]
        common = {
            "AccountSid": ACCOUNT.sid,
            "CallSid": call_sid("call-1"),
            "RecordingSid": recording_sid("recording-1"),
        }
        common |= {"RecordingSource": "RecordVerb", "RecordingTrack": "inbound", "RecordingChannels": "1"}
        assert all(each.items() >= common.items() for each in found)
        assert [each["RecordingStatus"] for each in found] == ["in-progress", "completed"]
        assert ("RecordingDuration" in found[0], found[1]["RecordingDuration"]) == (False, "3")
        await world.status_callbacks.close()

    run_virtually(act())


def test_a_recording_without_audio_is_absent() -> None:
    async def act() -> None:
        world = World()

        async def end() -> None:
            await pass_time(3)
            world.recordings.made[0].duration_s = 0.0
            world.recordings.made[0].over.set()

        ending = asyncio.ensure_future(end())
        callback = 'recordingStatusCallback="/rec" recordingStatusCallbackMethod="GET"'
        await done(world, f'<Record {callback} recordingStatusCallbackEvent="absent"/>')
        await ending
        await pass_time(1)
        urls = [url for method, url, _, _ in world.web.asked if method == "GET"]
        assert all(parse_qs(urlsplit(url).query)["RecordingStatus"] == ["absent"] for url in urls)
        assert urls
        await world.status_callbacks.close()

    run_virtually(act())


def test_a_caller_who_hangs_up_has_left_a_message() -> None:
    async def act() -> None:
        world = World()
        answers(world, recorded=document("<Say>never</Say>"))
        leg = world.leg()

        async def hang_up() -> None:
            await pass_time(3)
            leg.leave()
            await pass_time(1)
            world.recordings.made[0].over.set()

        leaving = asyncio.ensure_future(hang_up())
        await done(world, '<Record action="/recorded"/>', leg=leg)
        await leaving
        await pass_time(1)
        found = form(world)
        expected = {"Digits": "hangup", "CallStatus": "completed", "RecordingSid": recording_sid("recording-1")}
        assert found.items() >= expected.items()
        assert signed(world)
        assert world.speech.said == []
        await world.status_callbacks.close()

    run_virtually(act())


def test_a_caller_who_hangs_up_without_a_word_has_left_no_message(caplog: pytest.LogCaptureFixture) -> None:
    async def act() -> None:
        world = World()
        leg = world.leg()

        async def hang_up() -> None:
            await pass_time(1)
            world.recordings.made[0].duration_s = 0.0
            leg.leave()

        leaving = asyncio.ensure_future(hang_up())
        await done(world, '<Record action="/recorded" playBeep="false"/>', leg=leg)
        await leaving
        await pass_time(1)
        assert world.web.asked == []
        await world.status_callbacks.close()

    with caplog.at_level(logging.INFO, "bridge"):
        run_virtually(act())
    assert "no request about a recording" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_recording_that_ends_before_its_leg_does_is_reported_as_ended_by_the_hangup() -> None:
    async def act() -> None:
        world = World()
        answers(world, recorded=document())
        leg = world.leg()

        async def hang_up() -> None:
            await pass_time(3)
            world.records.on_event(
                ChannelDestroyed(
                    type="ChannelDestroyed",
                    channel=Channel(id="call-1", name="PJSIP/1-1", state="Up"),
                    cause=16,
                    cause_txt="",
                )
            )
            world.recordings.made[0].over.set()

        leaving = asyncio.ensure_future(hang_up())
        await done(world, '<Record action="/recorded"/>', leg=leg)
        await leaving
        await pass_time(1)
        (asked,) = [form(world, index) for index in range(len(world.web.asked))]
        assert (asked["Digits"], asked["CallStatus"]) == ("hangup", "completed")
        await world.status_callbacks.close()

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


def test_the_fallback_is_requested_and_the_caller_hears_a_message_without_it() -> None:
    async def act() -> None:
        for broken in (ServerResponse(500, b""), ServerResponse(200, b"no document"), WebFailed("nobody there")):
            world = World()
            world.web.answers[URL] = broken
            answers(world, plan_b=document("<Say>Plan B</Say>"))
            await run_of(world, twiml.entry(URL, fallback_url="https://app.example.org/plan_b")).run()
            assert [said.text for said in world.speech.said] == ["Plan B"]
            assert form(world)["ErrorUrl"] == URL
            world = World()
            world.web.answers[URL] = broken
            leg = world.leg()
            await run_of(world, twiml.entry(URL), leg).run()
            assert [said.text for said in world.speech.said] == [APOLOGY]
            assert leg.gone.is_set()
            world = World()
            leg = world.leg(answered=False)
            await run_of(world, twiml.entry(URL, continues=True), leg).run()
            assert leg.did == []  # left to the dialplan, unanswered

    run_virtually(act())


def test_a_later_document_has_the_fallback_of_the_first() -> None:
    async def act() -> None:
        world = World()
        answers(world, voice=document("<Redirect>lost</Redirect>"), plan_b=document("<Say>Plan B</Say>"))
        await run_of(world, twiml.entry(URL, fallback_url="https://app.example.org/plan_b")).run()
        assert [url.rpartition("/")[2] for _, url, _, _ in world.web.asked] == ["voice", "lost", "plan_b"]
        assert [said.text for said in world.speech.said] == ["Plan B"]

    run_virtually(act())


def test_urls_on_the_configured_server_are_the_administrators() -> None:
    async def act() -> None:
        world = World()
        for other in ("https://elsewhere.example/x", "https://app.example.org:8088/x", "http://app.example.org/x"):
            answers(
                world,
                voice=document("<Redirect>next</Redirect>"),
                next=document(f"<Redirect>{other}</Redirect>"),
            )
            world.web.configured.clear()
            await run_of(world, replace(twiml.entry(URL), configured=True)).run()
            assert world.web.configured == [True, True, False]

    run_virtually(act())


def test_documents_survive_a_restart() -> None:
    first = replace(twiml.entry(URL, fallback_url=URL + "2"), configured=True)
    again = program_of_fact(program_fact(first) or {})
    assert (again.actions[0].options, again.configured) == (first.actions[0].options, True)
    fetched = parse(Document(document("<Say>x</Say>"), URL, "app.example.org:443"))
    again = program_of_fact(program_fact(fetched) or {})
    assert (again.server, again.literal, again.actions[0].options) == (
        "app.example.org:443",
        True,
        fetched.actions[0].options,
    )


def test_json_is_no_document_and_chooses_no_server() -> None:
    with pytest.raises(InvalidFlow, match="list of actions"):
        parse({"twiml": document("<Say>x</Say>"), "url": URL, "server": "127.0.0.1:8088"})
