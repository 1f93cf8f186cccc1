"""Records of calls: from recorded calls of a real PBX, and from Asterisk's events of originated calls."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.ari.model import Event, decode_event
from bridge.calls.addresses import Address
from bridge.calls.call_record import CallRecord, reason_of, record_json
from bridge.calls.model import CallModel
from bridge.calls.records import KEEP_ENDED_S, MAX_ENDED, Records
from bridge.events.hub import Event as Told
from bridge.events.hub import Events
from bridge.times import utc
from tests.unit.calls.recordings import RECORDINGS, promptly


class Book:
    """Records on a clock of its own."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.told: list[Told] = []
        events = Events(lambda: self.now)
        events.subscribe(self.told.append)
        self.records = Records(events, lambda: self.now)

    def types(self, call_id: str) -> list[str]:
        return [event.type for event in self.told if event.data.get("id") == call_id]

    def replay(self, recording: str) -> None:
        model = CallModel("bridge")
        for step in promptly(recording):
            self.now += 0.01
            if isinstance(step, tuple):
                changes = model.learn_linkedid(*step, now=self.now)
            else:
                changes = model.apply(step, self.now)
            for change in changes:
                self.records.on_change(change)
            if not isinstance(step, tuple):
                self.records.on_event(step)

    def place(self, call_id: str = "ab-bridge-00000000-call-00000001") -> CallRecord:
        return self.records.originated(
            call_id, source=Address("tel", "4711"), destination=Address("extension", "1001"), flow_id="welcome"
        )

    def say(self, kind: str, record: CallRecord, state: str = "Down", **more: Any) -> None:
        self.now += 1
        channel = {"id": record.id, "name": "PJSIP/1001-00000001", "state": state}
        key = "peer" if kind == "Dial" else "channel"
        self.records.on_event(event({"type": kind, key: channel, **more}))

    def answer(self, record: CallRecord) -> None:
        self.say("Dial", record, "Ringing", dialstatus="RINGING")
        self.say("ChannelStateChange", record, "Up")
        self.say("Dial", record, "Up", dialstatus="ANSWER")


def event(raw: dict[str, Any]) -> Event:
    return decode_event(json.dumps(raw))


# Calls of the PBX

OUTCOMES = {
    # Of the call that began first: from, to, reason, by whom.
    "caller_hangs_up": ("1001", "1002", "normal", "remote"),
    "callee_hangs_up": ("1001", "1002", "normal", "local"),
    "not_registered": ("1001", "2001", "failed", "local"),
    "trunk_to_did": ("5550100", "5551001", "normal", "remote"),
    "ivr_then_extension": ("1001", "710", "normal", "remote"),
}


@pytest.mark.parametrize("recording", OUTCOMES)
def test_how_recorded_calls_went(recording: str) -> None:
    book = Book()
    book.replay(recording)
    record = book.records.ended()[0]
    assert (record.source.target, record.destination.target) == OUTCOMES[recording][:2]
    assert (record.hangup_reason, record.hangup_by) == OUTCOMES[recording][2:]
    assert (record.direction, record.originated) == ("incoming", False)


@pytest.mark.parametrize("recording", RECORDINGS)
def test_every_recorded_call_ends_and_is_told_in_order(recording: str) -> None:
    book = Book()
    book.replay(recording)
    assert book.records.live() == []
    assert book.records._evidence == {} == book.records._call_of
    assert book.records.ended()
    for record in book.records.ended():
        types = [kind for kind in book.types(record.id) if kind != "call_updated"]
        order = ["call_created", "call_ringing", "call_progressing", "call_hangup"]
        assert types == [kind for kind in order if kind in types]
        assert (types[0], types[-1]) == ("call_created", "call_hangup")
        times = [record.tm_create, record.tm_ringing, record.tm_progressing, record.tm_hangup]
        known = [moment for moment in times if moment is not None]
        assert known == sorted(known)


@pytest.mark.parametrize("recording", OUTCOMES)
def test_the_first_event_of_a_call_has_its_numbers(recording: str) -> None:
    book = Book()
    book.replay(recording)
    created = next(event.data for event in book.told if event.type == "call_created")
    caller, called, _, _ = OUTCOMES[recording]
    assert (created["source"]["target"], created["destination"]["target"]) == (caller, called)


def test_a_call_is_found_by_its_channels_while_it_goes_on() -> None:
    book = Book()
    steps = promptly("caller_hangs_up")
    model = CallModel("bridge")
    found = set()
    for step in steps:
        changes = model.learn_linkedid(*step, now=1.0) if isinstance(step, tuple) else model.apply(step, 1.0)
        for change in changes:
            book.records.on_change(change)
        for call in model.calls.values():
            for channel_id in call.parties:
                record = book.records.get(channel_id)
                assert record is not None
                assert record.id == call.id
                found.add(channel_id)
    assert len(found) == 2
    (record,) = book.records.ended()
    assert [book.records.get(channel_id) for channel_id in found - {record.id}] == [None]


# Calls that we place


def test_a_call_that_is_answered_and_hung_up_by_the_phone() -> None:
    book = Book()
    record = book.place()
    book.answer(record)
    book.say("ChannelHangupRequest", record, "Up", cause=16)
    book.say("ChannelDestroyed", record, "Up", cause=16)
    assert (record.status, record.hangup_reason, record.hangup_by) == ("hangup", "normal", "remote")
    assert book.types(record.id) == ["call_created", "call_ringing", "call_progressing", "call_hangup"]
    assert (record.tm_create, record.tm_ringing, record.tm_progressing, record.tm_hangup) == (1000, 1001, 1002, 1005)
    assert book.records.get(record.id) is record


@pytest.mark.parametrize(
    ("rings", "hangup", "cause", "outcome"),
    [
        (True, {"cause": 17}, 17, ("busy", "remote")),
        (True, {"cause": 21}, 21, ("noanswer", "remote")),
        (True, {"cause": 32, "soft": True}, 19, ("noanswer", "local")),
        (False, {"cause": 32, "soft": True}, 19, ("dialout", "local")),
        (False, {"cause": 1}, 1, ("failed", "remote")),
        (False, None, 16, ("failed", "remote")),
        (True, {"cause": 19}, 19, ("noanswer", "remote")),
    ],
)
def test_a_call_that_is_not_answered(
    rings: bool, hangup: dict[str, Any] | None, cause: int, outcome: tuple[str, str]
) -> None:
    book = Book()
    record = book.place()
    if rings:
        book.say("Dial", record, "Ringing", dialstatus="RINGING")
    if hangup is not None:
        book.say("ChannelHangupRequest", record, **hangup)
    book.say("ChannelDestroyed", record, cause=cause)
    assert (record.hangup_reason, record.hangup_by) == outcome


def test_a_call_that_we_give_up_or_hang_up() -> None:
    book = Book()
    for answered, status, reason in ((False, "canceling", "cancel"), (True, "terminating", "normal")):
        record = book.place(f"call-{answered}")
        if answered:
            book.answer(record)
        book.records.ending(record.id)
        book.records.ending(record.id, "amd")  # the first word counts
        assert record.status == status
        book.say("ChannelHangupRequest", record, cause=32, soft=True)
        book.say("ChannelDestroyed", record, cause=16)
        assert (record.hangup_reason, record.hangup_by) == (reason, "local")


def test_reasons_that_are_told_from_outside() -> None:
    book = Book()
    record = book.place()
    book.answer(record)
    book.records.ending(record.id, "timeout")
    book.say("ChannelDestroyed", record, cause=16)
    assert (record.hangup_reason, record.hangup_by) == ("timeout", "local")


def test_a_call_that_asterisk_does_not_even_try() -> None:
    book = Book()
    record = book.place()
    book.records.failed(record.id)
    book.records.failed(record.id)
    assert (record.status, record.hangup_reason, record.hangup_by) == ("hangup", "failed", "local")
    assert book.types(record.id) == ["call_created", "call_hangup"]


def test_calls_whose_end_was_missed() -> None:
    book = Book()
    kept, lost = book.place("call-1"), book.place("call-2")
    book.answer(lost)
    book.records.channels_there({"call-1"}, book.records.channels)
    assert book.records.live() == [kept]
    assert (lost.status, lost.hangup_reason) == ("hangup", "normal")


@pytest.mark.parametrize("told", [True, False])
def test_a_call_that_has_met_another_ends_with_its_own_party(told: bool) -> None:
    book, model = Book(), CallModel("bridge")

    def happen(kind: str, channel_id: str, **more: Any) -> None:
        channel = {"id": channel_id, "name": f"PJSIP/{channel_id}-01", "state": "Up"}
        step = event({"type": kind, "channel": channel, **more})
        for change in model.apply(step, book.now):
            book.records.on_change(change)
        book.records.on_event(step)

    for channel_id in ("a", "b"):
        happen("ChannelCreated", channel_id)
        for change in model.learn_linkedid(channel_id, channel_id, book.now):
            book.records.on_change(change)
    for change in model.learn_linkedid("b", "a", book.now):  # they are in one bridge
        book.records.on_change(change)
    assert list(model.calls) == ["a"]
    assert [record.id for record in book.records.live()] == ["a", "b"]
    book.now += 5
    if told:
        happen("ChannelHangupRequest", "b", cause=16)
        happen("ChannelDestroyed", "b", cause=16)
    else:
        book.records.channels_there({"a"}, book.records.channels)
    (ended,) = book.records.ended()
    assert (ended.id, ended.hangup_by, ended.tm_hangup) == ("b", "remote" if told else "local", book.now)
    assert [record.id for record in book.records.live()] == ["a"]
    happen("ChannelDestroyed", "b", cause=16)
    assert book.types("b").count("call_hangup") == 1
    happen("ChannelDestroyed", "a", cause=16)
    assert book.records.live() == []


def test_events_come_twice_and_late() -> None:
    book = Book()
    record = book.place()
    book.answer(record)
    book.answer(record)
    book.say("ChannelDestroyed", record, cause=16)
    book.answer(record)
    book.say("ChannelDestroyed", record, cause=17)
    assert record.hangup_reason == "normal"
    assert book.types(record.id).count("call_progressing") == 1
    assert book.types(record.id).count("call_hangup") == 1


def test_what_is_updated_is_told_once() -> None:
    book = Book()
    record = book.place()
    before = len(book.told)
    book.records.update(record.id, on_hold=True)
    book.records.update(record.id, on_hold=True)
    book.records.update(record.id, variables={"a": "b"})
    book.records.update("no such call", on_hold=True)
    assert [event.type for event in book.told[before:]] == ["call_updated"]
    assert book.told[-1].data["on_hold"] is True
    assert record.variables == {"a": "b"}


def test_variables_are_sent_again_only_if_they_have_changed() -> None:
    book = Book()
    record = book.place()
    book.records.update(record.id, variables={"a": "b" * 400})
    for index in range(3):
        book.records.update(record.id, action={"id": "x", "type": "talk", "index": index})
    book.records.update(record.id, variables={"c": "d"}, on_hold=True)
    book.records.update(record.id, on_hold=False)
    book.answer(record)
    book.say("ChannelDestroyed", record, "Up", cause=16)
    seen = [(event.type, event.data.get("variables")) for event in book.told if event.data.get("id") == record.id]
    assert seen == [
        ("call_created", {}),
        ("call_updated", {"a": "b" * 400}),
        *[("call_updated", None)] * 2,
        ("call_updated", {"c": "d"}),
        ("call_updated", None),
        ("call_ringing", {"c": "d"}),
        ("call_progressing", {"c": "d"}),
        ("call_hangup", {"c": "d"}),
    ]
    assert record_json(record)["variables"] == {"c": "d"}
    assert not book.records._variables_sent


def test_keys_are_told_with_their_call() -> None:
    book = Book()
    record = book.place()
    book.say("ChannelDtmfReceived", record, "Up", digit="5")
    assert book.told[-1].type == "dtmf_received"
    assert book.told[-1].data == {"call_id": record.id, "channel_id": record.id, "digit": "5"}


def test_digits_of_sensitive_mode_are_not_reported() -> None:
    book = Book()
    record = book.place()
    book.records.is_sensitive = lambda channel_id: channel_id == record.id
    before = len(book.told)
    book.say("ChannelDtmfReceived", record, "Up", digit="5")
    assert len(book.told) == before


def test_ended_calls_are_kept_for_a_while() -> None:
    book = Book()
    for number in range(MAX_ENDED + 5):
        record = book.place(f"call-{number}")
        book.records.failed(record.id)
    assert len(book.records.ended()) == MAX_ENDED
    assert book.records.get("call-4") is None
    assert book.records.get("call-5") is not None
    assert book.records.forget("call-5")
    assert not book.records.forget("call-5")
    book.now += KEEP_ENDED_S + 1
    assert book.records.ended() == []
    assert book.records.get("call-6") is None


# Words


@pytest.mark.parametrize(
    ("dialstatus", "cause", "reason"),
    [
        ("BUSY", 0, "busy"),
        ("NOANSWER", 0, "noanswer"),
        ("CANCEL", 0, "cancel"),
        ("CONGESTION", 34, "failed"),
        ("CHANUNAVAIL", 0, "failed"),
        ("RINGING", 16, "noanswer"),
        ("RINGING", 38, "failed"),
        ("PROGRESS", 19, "noanswer"),
        ("", 19, "noanswer"),
        ("", 0, "failed"),
        ("", 20, "failed"),
    ],
)
def test_reasons(dialstatus: str, cause: int, reason: str) -> None:
    assert reason_of(dialstatus, cause, we_cancelled=False) == reason
    assert reason_of(dialstatus, cause, we_cancelled=True) == "cancel"


def test_a_record_as_the_api_tells_it() -> None:
    book = Book()
    record = book.place()
    told = record_json(record)
    assert told["tm_create"] == "1970-01-01T00:16:40.000Z" == utc(1000)
    assert "tm_hangup" not in told
    assert told["destination"] == {
        "type": "extension", "target": "1001", "target_name": "", "name": "", "detail": "",
    }  # fmt: skip
    assert (told["status"], told["direction"], told["flow_id"]) == ("dialing", "outgoing", "welcome")
    json.dumps(told)
