"""What the transcripts cannot show of Plivo: wrong options, ids, clearing, and what real applications rely on."""

import json
import uuid
from typing import Any

import pytest

from bridge.audio.format import slin
from bridge.audio.playout import Playout
from bridge.dialects.base import Account, CallInfo, Clear, Mark, Message, Play, Setting
from bridge.dialects.plivo import Plivo, auth_id, call_uuid

CALL = CallInfo("1755940023.7", "inbound", "+15550100", "1001", "+15550199")


def begin(stream: Plivo) -> list[dict[str, Any]]:
    return [json.loads(each) for each in stream.opened(CALL, ["inbound"], 0.0, 0.0)]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tracks": "both_tracks", "connect": True}, "a two-way stream carries inbound_track only"),
        ({"encoding": "wav"}, "encoding must be one of mulaw, l16, not 'wav'"),
        ({"rate": 16000}, "encoding=mulaw is 8000 Hz only, not 16000; use encoding=l16"),
        ({"rate": 48000, "encoding": "l16"}, "rate must be one of 8000, 16000, not 48000"),
        ({"parameters": {"retries": 5}}, "parameters must be strings; the value of 'retries' is 5"),
        ({"account_id": 5}, "account_id must be a string, not 5"),
    ],
)
def test_wrong_options(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Plivo(**options)


def test_ids() -> None:
    assert uuid.UUID(call_uuid("1755940023.7")) != uuid.UUID(call_uuid("1755940023.8"))
    starts = [begin(Plivo())[0]["start"] for _ in range(3)]
    assert len({start["streamId"] for start in starts}) == 3
    assert {start["callId"] for start in starts} == {call_uuid(CALL.call_id)}
    assert len(auth_id("office")) == 20
    for account, expected in ((Account("office"), auth_id("office")), (Account("office", "MA1", "secret"), "MA1")):
        (start,) = begin(Plivo.create({}, Setting(account=account)))
        assert start["start"]["accountId"] == expected


def test_facts_about_the_call_are_in_extra_headers() -> None:
    (start,) = begin(Plivo(parameters={"language": "en"}))
    headers = json.loads(start["extra_headers"])
    assert (headers["from_number"], headers["did"], headers["language"]) == ("+15550100", "+15550199", "en")


def test_what_is_cleared_is_confirmed_once_and_was_not_played() -> None:
    stream = Plivo(connect=True)
    begin(stream)
    playout = Playout(slin(8000), 60_000)
    said: list[Message] = []

    def obey(message: str) -> None:
        for command in stream.receive(message):
            match command:
                case Play(pcm):
                    playout.play(pcm)
                case Mark(name):
                    playout.mark(name)
                case Clear():
                    for name in playout.clear():
                        said.extend(stream.mark_reached(name, 0.0))

    def tick() -> None:
        playout.take()
        for name in playout.reached():
            said.extend(stream.mark_reached(name, 0.0))

    payload = "gICA" * 100
    for name in ("first", "second"):
        obey(json.dumps({"event": "playAudio", "media": {"payload": payload}}))
        obey(json.dumps({"event": "checkpoint", "name": name}))
    tick()
    tick()
    tick()
    obey('{"event":"clearAudio"}')
    obey('{"event":"clearAudio"}')
    obey('{"event":"checkpoint","name":"cleared"}')
    tick()
    assert [(each["event"], each.get("name")) for each in map(json.loads, said)] == [
        ("playedStream", "first"),
        ("clearedAudio", None),
        ("clearedAudio", None),
        ("playedStream", "cleared"),
    ]


def test_what_is_invalid_is_reported_with_what_is_expected() -> None:
    stream = Plivo(connect=True)
    begin(stream)
    reported: list[str] = []
    stream.on_discarded = lambda _, expected: reported.append(expected)
    stream.receive('{"event":"playAudio","media":{"contentType":"audio/mpeg","payload":"gA=="}}')
    assert stream.receive(json.dumps({"event": "checkpoint", "name": "x" * 2000})) == ()
    assert len(reported) == 2
    assert "audio/x-l16 with 8000 or 16000" in reported[0]
