"""What the transcripts cannot show of Twilio: wrong options, ids, and what real applications rely on."""

import base64
import hashlib
import hmac
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.audio import g711
from bridge.audio.format import slin
from bridge.audio.playout import Playout
from bridge.dialects.base import CallInfo, Clear, Mark, Message, Play, TrackInfo
from bridge.dialects.twilio import MAX_MARK_NAME, Twilio, account_sid, call_sid, signature

CALL = CallInfo("1755940023.7", "inbound", "+15550100", "1001", "+15550199")


def begin(stream: Twilio, *tracks: str, now: float = 0.0) -> list[dict[str, Any]]:
    said = [json.loads(each) for each in stream.opened(CALL, tracks, now, 0.0)]
    for track in tracks:
        stream.track_started(TrackInfo(track), now)
    return said


def hear(stream: Twilio, seconds: float, track: str = "inbound", pcm: bytes = bytes(320)) -> list[dict[str, Any]]:
    count = round(seconds / 0.02)
    return [json.loads(each) for n in range(count) for each in stream.audio(track, pcm, 0.02 * (n + 1))]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tracks": "inbound"}, "tracks must be one of inbound_track, outbound_track, both_tracks, not 'inbound'"),
        ({"tracks": "both_tracks", "connect": True}, "a two-way stream carries inbound_track only"),
        ({"encoding": "opus"}, "encoding must be one of mulaw, l16, not 'opus'"),
        ({"rate": 16000}, "encoding=mulaw is 8000 Hz only, not 16000; use encoding=l16"),
        ({"rate": 11025, "encoding": "l16"}, "rate must be one of 8000, 12000"),
        ({"account_sid": "AC123"}, "account_sid must be AC and 32 hexadecimal digits"),
        ({"call_sid": "AC" + 32 * "0"}, "call_sid must be CA and 32 hexadecimal digits"),
        ({"parameters": {"retries": 5}}, "parameters must be strings; the value of 'retries' is 5"),
    ],
)
def test_options_that_do_not_go_together_say_what_does(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Twilio(**options)


def test_ids() -> None:
    assert re.fullmatch("CA[0-9a-f]{32}", call_sid("1755940023.7"))
    assert call_sid("1755940023.7") == "CA" + hashlib.sha256(b"1755940023.7").hexdigest()[:32]
    assert call_sid("1755940023.7") != call_sid("1755940023.8")
    assert re.fullmatch("AC[0-9a-f]{32}", account_sid("office"))
    assert account_sid("office") != account_sid("lab")
    starts = [begin(Twilio())[1]["start"] for _ in range(3)]
    assert len({start["streamSid"] for start in starts}) == 3
    assert {start["callSid"] for start in starts} == {call_sid(CALL.call_id)}
    assert len({start["accountSid"] for start in starts}) == 1


def test_the_signature_is_the_one_that_servers_compute() -> None:
    url = "wss://example.com/media"
    expected = base64.b64encode(hmac.new(b"12345", url.encode(), hashlib.sha1).digest()).decode()
    assert signature("12345", url) == expected
    assert signature("12345", url) != signature("12345", url + "/")


# What real applications rely on.


def test_pipecat_reads_exactly_two_messages_and_knows_twilio_by_the_second() -> None:
    connected, start = begin(Twilio(connect=True), "inbound")
    assert connected["event"] == "connected"
    assert start["event"] == "start"
    assert start["start"]["streamSid"] == start["streamSid"]
    assert start["start"]["callSid"].startswith("CA")
    body = start["start"]["customParameters"]
    assert (body["from_number"], body["to_number"]) == ("+15550100", "1001")
    assert all(isinstance(each, str) for each in body.values())


def test_pipecat_sends_40_ms_and_clears() -> None:
    stream = Twilio(connect=True)
    (begun, start) = begin(stream, "inbound")
    sid = start["streamSid"]
    payload = base64.b64encode(b"\x80" * 320).decode()
    message = json.dumps({"event": "media", "streamSid": sid, "media": {"payload": payload}})
    assert stream.receive(message) == (Play(g711.ulaw_decode(b"\x80" * 320), 8000),)
    assert stream.receive(json.dumps({"event": "clear", "streamSid": sid})) == (Clear(),)
    assert begun == {"event": "connected", "protocol": "Call", "version": "1.0.0"}


def test_openai_subtracts_timestamps_also_in_silence() -> None:
    stream = Twilio(connect=True)
    begin(stream, "inbound")
    timestamps = [int(each["media"]["timestamp"]) for each in hear(stream, 2.0)]
    assert timestamps == list(range(0, 2000, 20))
    assert all(isinstance(each["media"]["timestamp"], str) for each in hear(stream, 0.1))


def test_openai_sends_many_seconds_at_once_and_marks_without_a_name() -> None:
    stream = Twilio(connect=True)
    begin(stream, "inbound")
    payload = base64.b64encode(b"\x80" * 8000 * 30).decode()
    (play,) = stream.receive(json.dumps({"event": "media", "media": {"payload": payload}}))
    assert isinstance(play, Play)
    assert len(play.pcm) == 2 * 8000 * 30
    marks: list[dict[str, Any]] = [{}, {"mark": {}}, {"mark": {"name": ""}}, {"mark": {"name": 7}}]
    for mark in marks:
        assert stream.receive(json.dumps({"event": "mark", "streamSid": "MZ0", **mark})) == (Mark(""),)
    (echo,) = stream.mark_reached("", 1.0)
    assert json.loads(echo)["mark"] == {"name": ""}


def test_one_echo_for_each_mark_in_order_also_after_clear() -> None:
    """The Python sample keeps its marks, all of one name, in a queue; the agents SDK maps names to positions."""
    stream = Twilio(connect=True)
    begin(stream, "inbound")
    playout = Playout(slin(8000), 60_000)
    echoes: list[Message] = []

    def obey(text: str) -> None:
        for command in stream.receive(text):
            match command:
                case Play(pcm):
                    playout.play(pcm)
                case Mark(name):
                    playout.mark(name)
                case Clear():
                    for name in playout.clear():
                        echoes.extend(stream.mark_reached(name, 0.0))

    payload = base64.b64encode(b"\x80" * 160).decode()
    for name in ("1", "2", "responsePart", "responsePart", "3"):
        obey(json.dumps({"event": "media", "media": {"payload": payload}}))
        obey(json.dumps({"event": "mark", "mark": {"name": name}}))
    for _ in range(2):
        playout.take()
        for name in playout.reached():
            echoes.extend(stream.mark_reached(name, 0.0))
    assert [json.loads(each)["mark"]["name"] for each in echoes] == ["1", "2"]
    obey('{"event":"clear"}')
    assert [json.loads(each)["mark"]["name"] for each in echoes] == ["1", "2", "responsePart", "responsePart", "3"]
    assert [json.loads(each)["sequenceNumber"] for each in echoes] == [str(n) for n in range(2, 7)]


def test_fonoster_ignores_what_it_does_not_know() -> None:
    stream = Twilio(connect=True)
    begin(stream, "inbound")
    for message in (b"\x00" * 160, "{", '{"event":"media"}', '{"event":"start"}'):
        assert stream.receive(message) == ()
    assert stream.discarded == 4


def test_a_wav_file_where_bare_audio_belongs_is_reported_once_for_each_utterance() -> None:
    stream = Twilio(connect=True)
    reported: list[tuple[bytes | str, str]] = []
    stream.on_discarded = lambda message, expected: reported.append((message, expected))
    header = b"RIFF\x24\x08\0\0WAVEfmt " + bytes(144)
    for _ in range(2):
        for payload in (header, bytes(160), header):  # later ones may be audio
            media = {"event": "media", "media": {"payload": base64.b64encode(payload).decode()}}
            (played,) = stream.receive(json.dumps(media))
            assert isinstance(played, Play)
        stream.receive('{"event":"mark","mark":{"name":"said"}}')
    assert stream.discarded == 2
    assert reported == [(header, "bare mulaw at 8000 Hz: a WAV header plays as noise")] * 2


def test_what_an_application_sends_is_bounded() -> None:
    stream = Twilio(connect=True)
    for text, understood in (
        ('{"event":"mark","mark":{"name":"%s"}}' % ("x" * MAX_MARK_NAME), True),
        ('{"event":"mark","mark":{"name":"%s"}}' % ("x" * (MAX_MARK_NAME + 1)), False),
        ("[" * 100_000, False),
        ('{"event":"mark","mark":' + "[" * 100_000, False),
        ('{"event":"clear","x":' + "[" * 100_000, False),
    ):
        assert bool(stream.receive(text)) is understood
    assert stream.discarded == 4


@pytest.mark.slow
@given(st.lists(st.one_of(st.binary(max_size=50), st.text(max_size=50)), max_size=10))
def test_nothing_that_comes_is_fatal(messages: list[bytes | str]) -> None:
    stream = Twilio(connect=True)
    for message in messages:
        assert stream.receive(message) == ()
    assert stream.discarded == len(messages)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["payload", "name", "x"]), inner),
    max_leaves=6,
)


@given(event=st.sampled_from(["media", "mark", "clear", "stop"]), media=JSON, mark=JSON)
def test_no_json_is_fatal(event: str, media: object, mark: object) -> None:
    stream = Twilio(connect=True)
    for command in stream.receive(json.dumps({"event": event, "media": media, "mark": mark})):
        assert isinstance(command, Play | Mark | Clear)
        if isinstance(command, Play):
            assert command.pcm


def test_messages_last_as_long_as_they_say() -> None:
    stream = Twilio()
    begin(stream, "inbound")
    (message,) = hear(stream, 0.02)
    assert len(base64.b64decode(message["media"]["payload"])) / 8 == stream.message_ms
