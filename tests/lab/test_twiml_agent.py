"""An agent made for Twilio answers and makes calls unchanged: the vendor's package judges, real phones listen.

`tests.agents.webhook` is the agent.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from msgspec.structs import replace

from bridge.api.twilio_shapes import call_json, record_json, recording_json, stream_json
from bridge.calls.addresses import Address
from bridge.calls.call_record import CallRecord
from bridge.control.recorder import Recording
from bridge.testing import judge
from bridge.testing.lab_engine import Lab
from bridge.testing.phone import RATE, Phone
from tests.agents import environment
from tests.lab.conftest import Phones, pushing
from tests.lab.driving import by_hand
from tests.lab.restarting import restarting
from tests.lab.target import Target
from tests.lab.twiml_agent import ACCOUNT, HZ, LOUD, agent, all_heard, download, heard, hears, running, tone
from tests.lab.waiting import sends, until
from tests.unit.api.samples import make_call


async def test_an_agent_answers_an_extension_with_documents(lab: Lab, phones: Phones) -> None:
    async with agent(lab) as made:
        alice, bob = await phones("1001", "1002")
        bob.play_next(tone("bob"))
        await alice.call("750", play=tone("alice"))
        await alice.answered()
        await hears(alice, "menu")
        await alice.dtmf("42")
        await sends(alice, 2)
        # <Dial><Client>: the two talk with each other.
        await hears(alice, "bob")
        await hears(bob, "alice")
        await bob.hangup()
        # <Record>, <Start><Stream>, <Connect><Stream>
        await hears(alice, "stream")
        await alice.dtmf("9")
        await sends(alice, 1)
        await hears(alice, "bye")
        await alice.ended(20)
        (first,) = made.requests("/voice/menu")
        assert first["From"] == "1001"
        assert (first["To"], first["CallStatus"], first["Direction"]) == ("750", "ringing", "inbound")
        assert (first["AccountSid"], first["ApiVersion"]) == (ACCOUNT["account_sid"], "2010-04-01")
        (digits,) = made.requests("/voice/chosen")
        assert (digits["Digits"], digits["CallStatus"], digits["CallSid"]) == ("42", "in-progress", first["CallSid"])
        (dialed,) = made.requests("/voice/dialed")
        assert (dialed["DialCallStatus"], dialed["DialBridged"]) == ("completed", "true")
        assert int(dialed["DialCallDuration"]) >= 0
        (recorded,) = made.requests("/voice/recorded")
        assert recorded["RecordingDuration"] in ("2", "3")  # Asterisk counts from before the first frame
        base, _, path = recorded["RecordingUrl"].partition("/2010-04-01")
        assert base == "http://bridge.example"
        found = await download(made.target, f"/2010-04-01{path}")
        assert judge.level_of(found, HZ["alice"], RATE) > LOUD
        (start,) = made.lines("TALK")
        assert (start["valid"], start["callSid"], start["tracks"]) == (True, first["CallSid"], ["inbound"])
        assert start["offered"] == ["audio.twilio.com"]
        assert start["customParameters"]["greeting"] == "Welcome & ${hello}"
        (tracks,) = made.lines("EARS")
        assert tracks == {"inbound": 0, "outbound": 0}
        await until(lambda: len(made.requests("/stream")) == 4)
        streams = made.requests("/stream")
        assert {(each["AccountSid"], each["CallSid"]) for each in streams} == {
            (ACCOUNT["account_sid"], first["CallSid"])
        }
        names = [(each["StreamName"], each["StreamEvent"]) for each in streams]
        assert names == [
            ("ears", "stream-started"),
            (start["streamSid"], "stream-started"),
            (start["streamSid"], "stream-stopped"),
            ("ears", "stream-stopped"),
        ]
        assert all(datetime.fromisoformat(each["Timestamp"]).tzinfo == UTC for each in streams)
        assert len({each["StreamSid"] for each in streams}) == 2
        (ended,) = await until(lambda: made.requests("/status"))
        assert (ended["CallStatus"], ended["CallSid"]) == ("completed", first["CallSid"])
        assert int(ended["CallDuration"]) >= 3
        assert "chosen" in all_heard(alice.recording())


async def test_the_vendors_client_creates_updates_and_ends_a_call(lab: Lab, phones: Phones) -> None:
    async with agent(lab) as made:
        (alice,) = await phones("1001")
        alice.play_next(tone("alice"))
        created = (
            await made.do(
                "create_with_document",
                name="menu",
                to="client:1001",
                from_="4711",
                timeout=20,
                status_callback=f"{made.url}/status",
                status_callback_event=["initiated", "ringing", "answered", "completed"],
            )
        )["result"]
        sid = created["sid"]
        assert created == {"sid": sid, "status": "queued", "to": "1001", "direction": "outbound-api"}
        await alice.answered()
        await hears(alice, "menu")
        assert (await made.do("fetch", sid=sid))["result"]["status"] == "in-progress"
        assert (await made.do("listed", status="in-progress"))["result"] == [sid]
        assert (await made.do("listed", status="completed"))["result"] == []
        # Another document, by its text and by its URL; the agent's digits are for the one that runs.
        assert (await made.do("update", sid=sid, document="waiting"))["result"] == "in-progress"
        await hears(alice, "redirected")
        assert (await made.do("update", sid=sid, url=f"{made.url}/voice/menu"))["result"] == "in-progress"
        await hears(alice, "menu")
        await alice.dtmf("41")
        await sends(alice, 2)
        (chosen,) = await until(lambda: made.requests("/voice/chosen"))
        assert (chosen["Digits"], chosen["CallSid"], chosen["Direction"]) == ("41", sid, "outbound-api")
        assert (await made.do("update", sid=sid, status="completed"))["result"] == "completed"
        await alice.ended(10)
        await until(lambda: len(made.requests("/status")) == 4)
        callbacks = made.requests("/status")
        assert [each["CallStatus"] for each in callbacks] == ["initiated", "ringing", "in-progress", "completed"]
        assert {each["CallSid"] for each in callbacks} == {sid}
        ended = (await made.do("fetch", sid=sid))["result"]
        assert (ended["status"], ended["duration"]) == ("completed", callbacks[3]["CallDuration"])
        assert (await made.do("update", sid=sid, status="completed"))["error"]["code"] == 20404


async def test_called_parties_receive_digits_when_they_answer(lab: Lab, phones: Phones) -> None:
    """The party that the vendor's client calls, before the document; and a ``<Number>``, before it is connected."""
    async with agent(lab) as made:
        alice, bob = await phones("1001", "trunk")
        alice.play_next(tone("alice"))
        bob.play_next(tone("bob"))
        arguments = {"to": "client:1001", "from_": "4711", "send_digits": "w34*", "timeout": 20}
        await made.do("create", **arguments, url=f"{made.url}/voice/forward")
        await alice.answered()
        await until(lambda: digits_of(alice) == "34*")
        await hears(bob, "alice")
        await hears(alice, "bob")
        assert digits_of(bob) == "12#"
        assert digits_of(alice) == "34*"
        await bob.hangup()
        await alice.ended(10)
        wrong = (await made.do("create", **arguments | {"send_digits": "1p"}, twiml="<Response/>"))["error"]
        assert (wrong["status"], wrong["code"]) == (400, 20001)


def digits_of(phone: Phone) -> str:
    """Return the digits that a phone has received, as events or as tones."""
    digits = [event.param for event in phone.events if "DTMF" in event.type and event.param not in ("", "\x00")]
    return "".join(digits) or judge.dtmf(phone.heard_so_far(), RATE)


async def test_errors_are_the_vendors(lab: Lab) -> None:
    async with agent(lab) as made:
        gone = (await made.do("fetch", sid="CA" + "0" * 32))["error"]
        assert (gone["status"], gone["code"]) == (404, 20404)
        missing = (await made.do("create", to="client:1001", from_="4711"))["error"]
        assert (missing["status"], missing["code"]) == (400, 21205)
        wrong = (await made.do("create", to="client:a/b", from_="4711", twiml="<Response/>"))["error"]
        assert (wrong["status"], wrong["code"]) == (400, 21211)


async def test_bodies_have_every_field_that_the_vendors_package_reads() -> None:
    now = 1_700_000_000.25
    record = CallRecord("c1", "outgoing", Address("tel", "4711", "Shop"), Address("tel", "+4930"), tm_create=now)
    ended = replace(record, status="hangup", tm_progressing=now + 1, tm_hangup=now + 62, master_call_id="c0")
    recording = Recording("r1", "c1", "c1", "wav", "twilio", "recording", now)
    done = Recording("r1", "c1", "c1", "wav", "twilio", "ended", now, now + 5, 5.0)
    account = str(ACCOUNT["account_sid"])
    bodies = [
        *(("call", record_json(account, each)) for each in (record, ended)),
        ("call", call_json(account, make_call("c2"))),
        *(("recording", recording_json(account, each, "StartCallRecordingAPI")) for each in (recording, done)),
        *(("stream", stream_json(account, "c1", "MZ0", "ears", each, now)) for each in ("in-progress", "stopped")),
    ]
    given = "".join(json.dumps({"kind": kind, "body": body}) + "\n" for kind, body in bodies)
    found = [line.split() for line in (await environment.run("twilio_fields", given=given)).splitlines()]
    assert [kind for kind, _ in found] == [kind for kind, _ in bodies]
    assert all(int(count) >= 7 for _, count in found)


async def test_a_call_that_is_not_answered_is_reported(lab: Lab, phones: Phones) -> None:
    async with agent(lab) as made:
        (alice,) = await phones("1001")
        arguments = {"to": "client:1001", "from_": "4711", "url": f"{made.url}/voice/menu", "timeout": 2}
        async with by_hand(alice):
            await made.do("create", **arguments, status_callback=f"{made.url}/status")
            await alice.called()
            (ended,) = await until(lambda: made.requests("/status"))
        assert (ended["CallStatus"], ended["CallDuration"]) == ("no-answer", "0")
        assert made.requests("/voice/menu") == []


async def test_the_caller_continues_in_the_dialplan_or_hears_a_message_without_a_document(
    lab: Lab, phones: Phones
) -> None:
    async with agent(lab, path="broken", twiml_fallback_url="") as made:
        (alice,) = await phones("1001")
        await alice.call("750", play=tone("alice"))
        await alice.answered()
        await alice.ended(20)
        assert np.abs(alice.recording()).max() > LOUD  # the message
        (first,) = made.requests("/voice/broken")
        assert first["CallStatus"] == "ringing"


async def test_a_stream_is_started_and_the_call_of_a_route_gets_a_document(lab: Lab, phones: Phones) -> None:
    """The call has an agent that only speaks media streams; the vendor's client takes it over."""
    port = environment.agent_port()
    url = f"http://localhost:{port}"
    route = {"id": "agent", "match": "750", "url": f"ws://localhost:{port}/talk", "dialect": "twilio", "then": "hangup"}
    async with pushing(lab, dialplan=[route], twilio=ACCOUNT) as target, running(target, port) as made:
        (alice,) = await phones("1001")
        await alice.call("750", play=tone("alice"))
        await alice.answered()
        await hears(alice, "stream")
        (start,) = made.lines("TALK")
        sid = start["callSid"]
        assert (await made.do("update", sid=sid, document="room"))["result"] == "in-progress"
        conference = await until(lambda: room_of(target))
        assert len(conference["participants"]) == 1
        assert (await made.do("update", sid=sid, document="waiting"))["result"] == "in-progress"
        await hears(alice, "redirected")
        arguments = {"name": "ears", "track": "both_tracks", "status_callback": f"{url}/stream"}
        started = (await made.do("start_stream", sid=sid, **arguments))["result"]
        assert (started["call_sid"], started["name"], started["status"]) == (sid, "ears", "in-progress")
        await until(lambda: len(made.lines("TRACK")) == 2)
        assert (await made.do("stop_stream", sid=sid, stream=started["sid"]))["result"] == "stopped"
        (tracks,) = await until(lambda: made.lines("EARS"))
        assert tracks == {"inbound": 0, "outbound": 0}
        await until(lambda: len(made.requests("/stream")) == 2)
        reported = [(each["StreamSid"], each["StreamEvent"]) for each in made.requests("/stream")]
        assert reported == [(started["sid"], "stream-started"), (started["sid"], "stream-stopped")]
        assert (await made.do("stop_stream", sid=sid, stream="ears"))["error"]["code"] == 20404
        assert heard(alice.heard_so_far()) == {"redirected"}
        await alice.hangup()


async def room_of(target: Target) -> dict[str, Any]:
    """Return the conference with a participant; empty if there is none."""
    _, body = await target.get("/v1.0/conferences")
    return next((each for each in body["result"] if each["participants"]), {})


async def test_a_caller_hangs_up_after_leaving_a_message(lab: Lab, phones: Phones) -> None:
    async with agent(lab, path="mailbox") as made:
        (alice,) = await phones("1001")
        await alice.call("750", play=tone("alice"))
        await alice.answered()
        await sends(alice, 3)
        await alice.hangup()
        (recorded,) = await until(lambda: made.requests("/voice/recorded"))
        assert (recorded["Digits"], recorded["CallStatus"]) == ("hangup", "completed")
        assert int(recorded["RecordingDuration"]) >= 2
        found = await download(made.target, "/2010-04-01" + recorded["RecordingUrl"].partition("/2010-04-01")[2])
        assert judge.level_of(found[RATE // 2 : RATE], HZ["alice"], RATE) > LOUD
        callbacks = await until(lambda: [each for each in made.requests("/recording") if "RecordingDuration" in each])
        assert (callbacks[0]["RecordingSid"], callbacks[0]["RecordingStatus"]) == (
            recorded["RecordingSid"],
            "completed",
        )
        assert [each["RecordingStatus"] for each in made.requests("/recording")] == ["in-progress", "completed"]


async def test_the_vendors_client_records_a_call(lab: Lab, phones: Phones) -> None:
    async with agent(lab, path="waiting?from={caller}&to={callee}&of={CHANNEL(state)}") as made:
        (alice,) = await phones("1001")
        await alice.call("750", play=tone("alice"))
        await alice.answered()
        await hears(alice, "redirected")
        (first,) = made.requests("/voice/waiting")
        assert made.lines("REQUEST")[0]["query"] == {"from": "1001", "to": "750", "of": "{CHANNEL(state)}"}
        sid, callback = first["CallSid"], f"{made.url}/recording"
        arguments = {"recording_status_callback": callback, "recording_track": "inbound"}
        started = (await made.do("start_recording", sid=sid, **arguments))["result"]
        assert (started["status"], started["started"]) == ("in-progress", True)
        await sends(alice, 2)
        stopped = (await made.do("stop_recording", sid=sid, recording="Twilio.CURRENT"))["result"]
        assert stopped == {"sid": started["sid"], "status": "completed"}
        (ended,) = await until(lambda: made.requests("/recording"))
        assert (ended["RecordingSid"], ended["RecordingStatus"], ended["CallSid"]) == (started["sid"], "completed", sid)
        assert (ended["RecordingSource"], ended["RecordingTrack"]) == ("StartCallRecordingAPI", "inbound")
        found = await download(made.target, "/2010-04-01" + ended["RecordingUrl"].partition("/2010-04-01")[2])
        assert judge.level_of(found[RATE // 2 : RATE], HZ["alice"], RATE) > LOUD
        assert (await made.do("stop_recording", sid=sid, recording=started["sid"]))["error"]["code"] == 20404
        await alice.hangup()


async def test_status_callbacks_continue_after_a_kill(lab: Lab, tmp_path: Path, phones: Phones) -> None:
    """The call survives; a recording that the vendor's client has started ends while no process runs."""
    port = environment.agent_port()
    url = f"http://localhost:{port}"
    route = {"id": "agent", "match": "750", "twiml_url": f"{url}/voice/forked", "then": "hangup"}
    sections: dict[str, Any] = {"dialplan": [route | {"status_callback": f"{url}/status"}]}
    sections |= {"twilio": ACCOUNT | {"public_url": "http://bridge.example"}, "outbound": {"allow": ["localhost"]}}
    async with restarting(lab, tmp_path, **sections) as service, running(service, port) as made:
        (alice,) = await phones("1001")
        await alice.call("750", play=tone("alice"))
        await alice.answered()
        await hears(alice, "redirected")
        sid = made.requests("/voice/forked")[0]["CallSid"]
        await until(lambda: made.requests("/stream"))
        callback = f"{url}/recording"
        started = await made.do("start_recording", sid=sid, recording_status_callback=callback)
        recording = started["result"]["sid"]
        await sends(alice, 2)
        await service.die()
        await sends(alice, 1)
        await service.start()
        await hears(alice, "redirected")
        await until(lambda: len(made.requests("/stream")) == 3)
        before, *after = [(each["StreamSid"], each["StreamEvent"]) for each in made.requests("/stream")]
        assert before[1] == "stream-started"
        assert (before[0], "stream-stopped") in after
        assert [event for sid, event in after if sid != before[0]] == ["stream-started"]
        assert made.requests("/status") == made.requests("/recording") == []
        await alice.hangup()
        (ended,) = await until(lambda: made.requests("/status"))
        assert (ended["CallSid"], ended["CallStatus"], ended["From"]) == (sid, "completed", "1001")
        assert int(ended["CallDuration"]) >= 3
        (recorded,) = await until(lambda: made.requests("/recording"))
        assert (recorded["RecordingSid"], recorded["RecordingStatus"]) == (recording, "completed")
        await until(lambda: len(made.requests("/stream")) == 4)
        # A call and a recording that end while no process runs.
        await alice.call("750", play=tone("alice"))
        await alice.answered()
        await hears(alice, "redirected")
        sid = made.requests("/voice/forked")[1]["CallSid"]
        recording = await recorded_by_request(service, sid, callback)  # its port is another one now
        await sends(alice, 2)
        await service.die()
        await alice.hangup()
        await service.start()
        _, ended = await until(lambda: made.requests("/status")[1:] and made.requests("/status"))
        assert (ended["CallSid"], ended["CallStatus"], ended["From"]) == (sid, "completed", "1001")
        _, recorded = await until(lambda: made.requests("/recording")[1:] and made.requests("/recording"))
        assert (recorded["RecordingSid"], recorded["RecordingStatus"]) == (recording, "completed")
        assert int(recorded["RecordingDuration"]) >= 2


async def recorded_by_request(target: Target, sid: str, callback: str) -> str:
    """Start a recording of a call, and return its id."""
    login = aiohttp.encode_basic_auth(str(ACCOUNT["account_sid"]), str(ACCOUNT["auth_token"]))
    place = f"{target.url}/2010-04-01/Accounts/{ACCOUNT['account_sid']}/Calls/{sid}/Recordings.json"
    form = {"RecordingStatusCallback": callback}
    async with (
        aiohttp.ClientSession(headers={"Authorization": login}) as session,
        session.post(place, data=form) as answer,
    ):
        assert answer.status == 201, await answer.text()
        return str((await answer.json())["sid"])
