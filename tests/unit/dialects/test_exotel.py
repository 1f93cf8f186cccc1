"""What the transcripts cannot show of Exotel: wrong options, ids, and what real applications rely on."""

import json
from typing import Any

import pytest

from bridge.dialects.base import Account, CallInfo, Setting
from bridge.dialects.exotel import Exotel

CALL = CallInfo("1755940023.7", "inbound", "+15550100", "1001", "+15550199")


def begin(stream: Exotel) -> list[dict[str, Any]]:
    return [json.loads(each) for each in stream.opened(CALL, ["inbound"], 0.0, 0.0)]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tracks": "both_tracks", "connect": True}, "a two-way stream carries inbound_track only"),
        ({"encoding": "wav"}, "encoding must be one of raw, mulaw, not 'wav'"),
        ({"rate": 16000, "encoding": "mulaw"}, "encoding=mulaw is 8000 Hz only, not 16000; use encoding=raw"),
        ({"rate": 48000}, "rate must be one of 8000, 16000, 24000, not 48000"),
        ({"account_sid": 5}, "account_sid must be a string, not 5"),
    ],
)
def test_wrong_options(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Exotel(**options)


def test_pipecat_reads_two_messages_and_knows_the_dialect_by_the_second() -> None:
    connected, start = begin(Exotel(connect=True, parameters={"language": "hi"}))
    assert connected == {"event": "connected"}
    body = start["start"]
    assert start["event"] == "start"
    assert {"stream_sid", "call_sid", "account_sid"} <= body.keys()
    assert (body["from"], body["to"], body["custom_parameters"]["language"]) == ("+15550100", "+15550199", "hi")


def test_ids() -> None:
    starts = [begin(Exotel.create({}, Setting(account=Account("office"))))[1]["start"] for _ in range(2)]
    assert starts[0]["stream_sid"] != starts[1]["stream_sid"]
    assert starts[0]["call_sid"] == starts[1]["call_sid"]
    assert starts[0]["account_sid"] != begin(Exotel())[1]["start"]["account_sid"]


def test_what_is_invalid_is_reported_with_what_is_expected() -> None:
    stream = Exotel(connect=True, rate=16000)
    begin(stream)
    reported: list[str] = []
    stream.on_discarded = lambda _, expected: reported.append(expected)
    assert stream.receive('{"event":"playAudio"}') == ()
    assert "base64 of s16le at 16000 Hz in media.payload" in reported[0]
