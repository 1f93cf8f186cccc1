"""What the transcripts cannot show of Telnyx: wrong options, ids, and what real applications rely on."""

import json
import re
from typing import Any

import pytest

from bridge.dialects.base import Account, CallInfo, Message, Setting, TrackInfo
from bridge.dialects.telnyx import Telnyx, call_control_id

CALL = CallInfo("1755940023.7", "inbound", "+15550100", "1001", "+15550199")


def begin(stream: Telnyx) -> list[dict[str, Any]]:
    return [json.loads(each) for each in stream.opened(CALL, ["inbound"], 0.0, 0.0)]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tracks": "inbound"}, "tracks must be one of inbound_track, outbound_track, both_tracks, not 'inbound'"),
        ({"tracks": "both_tracks", "connect": True}, "a two-way stream carries inbound_track only"),
        ({"encoding": "OPUS"}, "encoding must be one of PCMU, PCMA, not 'OPUS'"),
        ({"parameters": {"retries": 5}}, "parameters must be strings; the value of 'retries' is 5"),
        ({"client_state": 5}, "client_state and user_id must be strings"),
    ],
)
def test_wrong_options(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Telnyx(**options)


def test_ids() -> None:
    assert re.fullmatch("v3:[A-Za-z0-9_-]{43}", call_control_id("1755940023.7"))
    assert call_control_id("1755940023.7") != call_control_id("1755940023.8")
    starts = [begin(Telnyx())[1] for _ in range(3)]
    assert len({start["stream_id"] for start in starts}) == 3
    assert {start["start"]["call_control_id"] for start in starts} == {call_control_id(CALL.call_id)}
    users = [
        begin(Telnyx.create({}, Setting(account=Account(name))))[1]["start"]["user_id"]
        for name in ("office", "office", "lab")
    ]
    assert users[0] == users[1] != users[2]


def test_pipecat_reads_two_messages_and_knows_the_dialect_by_the_second() -> None:
    connected, start = begin(Telnyx(connect=True))
    assert connected["event"] == "connected"
    assert {"stream_id", "start"} <= start.keys()
    body = start["start"]
    assert (body["from"], body["to"], body["media_format"]["encoding"]) == ("+15550100", "+15550199", "PCMU")


def test_parameters_win_over_facts() -> None:
    (_, start) = begin(Telnyx(parameters={"from_number": "withheld"}))
    assert start["start"]["custom_parameters"]["from_number"] == "withheld"
    assert start["start"]["custom_parameters"]["call_id"] == CALL.call_id


def test_what_is_invalid_is_reported_with_what_is_expected() -> None:
    stream = Telnyx(connect=True, encoding="PCMA")
    begin(stream)
    reported: list[tuple[Message, str]] = []
    stream.on_discarded = lambda message, expected: reported.append((message, expected))
    assert stream.receive('{"event":"playAudio"}') == ()
    ((message, expected),) = reported
    assert message == '{"event":"playAudio"}'
    assert "base64 of PCMA at 8000 Hz in media.payload" in expected


def test_a_track_that_comes_back_continues_its_count() -> None:
    stream = Telnyx(connect=True)
    begin(stream)
    stream.track_started(TrackInfo("inbound"), 0.0)
    said = [*stream.audio("inbound", bytes(320), 0.02), *stream.track_stopped("inbound", 0.02)]
    stream.track_started(TrackInfo("inbound"), 1.0)
    said += stream.audio("inbound", bytes(320), 1.02)
    media = [json.loads(each)["media"] for each in said]
    assert [(each["chunk"], each["timestamp"]) for each in media] == [("1", "0"), ("2", "1000")]
