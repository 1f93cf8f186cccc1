"""What the transcripts cannot show of VoIPBIN: wrong options, real randomness, whole files, and anything at all."""

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.audio import audiosocket, g711, rtp
from bridge.audio.format import SLIN_RATES
from bridge.dialects.base import Clear, Command, Dtmf, Mark, Message, Play, Send, Setting, Stop
from bridge.dialects.text_control import MAX_DIGITS, MAX_MARK_NAME
from bridge.dialects.voipbin import MAX_HEADERS, MAX_INNER_MESSAGES, MAX_KIND_CHANGES, Voipbin
from bridge.errors import ClientProtocolError
from tests.fakes.work import calls_in

OPTIONS = [
    ("rtp", None, None),
    ("rtp", "slin", None),
    ("rtp", "alaw", 8000),
    ("sln", None, None),
    ("sln", "ulaw", None),
    ("sln", "slin", 16000),
    ("audiosocket", None, None),
    ("audiosocket", "slin", 48000),
]


def played(commands: Sequence[Command]) -> bytes:
    plays = [each for each in commands if isinstance(each, Play)]
    assert len(plays) == len(commands)
    return b"".join(each.pcm for each in plays)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("",), "encapsulation must be one of rtp, sln, audiosocket, not ''"),
        (("RTP",), "not 'RTP'"),
        (("rtp", "opus"), "codec must be one of slin, ulaw, alaw, not 'opus'"),
        (("audiosocket", "ulaw"), "carries codec=slin only, not ulaw"),
        (("rtp", None, 16000), "encapsulation=rtp is 8000 Hz only, not 16000"),
        (("rtp", "slin", 16000), "use sln or audiosocket"),
        (("sln", "alaw", 16000), "codec=alaw is 8000 Hz only, not 16000"),
        (("sln", None, 11025), "rate must be one of 8000, 12000"),
        (("sln", None, 0), "rate must be one of 8000, 12000"),
        (("sln", None, None, False), "encapsulation=sln does not support headers. Omit headers"),
        (("audiosocket", None, None, 1), "headers must be true or false, not 1"),
    ],
)
def test_options_that_do_not_go_together_say_what_does(options: tuple[Any, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Voipbin(*options)


@pytest.mark.parametrize("encapsulation", ["sln", "audiosocket"])
@pytest.mark.parametrize("rate", SLIN_RATES)
def test_every_rate(encapsulation: str, rate: int) -> None:
    stream = Voipbin(encapsulation, rate=rate)
    frame = bytes(range(1, 101)) * (rate // 50 * 2 // 100) + b"z" * (rate // 50 * 2 % 100)
    (message,) = stream.audio("call", frame, 0.0)
    assert isinstance(message, bytes)
    assert message.endswith(frame)
    assert stream.rate == rate
    assert stream.receive(message) == [Play(frame, rate)]


@pytest.mark.parametrize(
    ("two_way", "options", "held"), [(True, {}, True), (False, {}, False), (True, {"headers": True}, False)]
)
def test_audio_is_held_back_only_for_an_application_that_may_speak(
    two_way: bool, options: dict[str, Any], held: bool
) -> None:
    stream = Voipbin.create({"encapsulation": "audiosocket", **options}, Setting(two_way=two_way))
    assert len(stream.audio("call", bytes(320), 0.0)) == (0 if held else 1)


def test_streams_differ_in_what_is_random() -> None:
    frame = bytes(320)
    messages = [Voipbin("rtp").audio("call", frame, 0.0)[0] for _ in range(4)]
    packets = [rtp.parse(message) for message in messages if isinstance(message, bytes)]
    assert len(packets) == 4
    assert len({packet.ssrc for packet in packets}) == 4
    assert len({packet.sequence for packet in packets}) > 1
    assert all(packet.marker and packet.timestamp == 0 for packet in packets)


@pytest.mark.parametrize("options", OPTIONS)
@given(sizes=st.lists(st.integers(1, 600), max_size=20))
def test_audio_comes_out_in_20_ms_whatever_went_in(options: tuple[Any, ...], sizes: list[int]) -> None:
    sent = b"".join((each % 251).to_bytes(2, "little") for each in range(sum(sizes)))
    stream = Voipbin(*options)
    messages: list[Message] = []
    at = 0
    for size in sizes:
        messages += stream.audio("call", sent[2 * at : 2 * (at + size)], at / stream.rate)
        at += size
    assert len(messages) == at // (stream.rate // 50)
    assert len({len(message) for message in messages}) <= 1
    echo = Voipbin(*options)  # what one stream sends another one can read
    heard = b"".join(played(echo.receive(message)) for message in messages)
    if options[1] in ("ulaw", "alaw") or options == ("rtp", None, None):
        encode = g711.alaw_encode if options[1] == "alaw" else g711.ulaw_encode
        assert encode(heard) == encode(sent)[: len(heard) // 2]
    else:
        assert heard == sent[: len(heard)]
    assert len(heard) == len(messages) * (stream.rate // 50) * 2
    assert echo.discarded == 0


@given(st.lists(st.binary(max_size=700), max_size=10))
def test_sln_in_any_pieces(blocks: list[bytes]) -> None:
    sent = b"".join(blocks)
    stream = Voipbin("sln")
    heard = b"".join(played(stream.receive(block)) for block in blocks)
    assert heard == sent[: len(sent) // 2 * 2]


@given(st.lists(st.binary(min_size=1, max_size=400), min_size=1, max_size=20), st.data())
def test_audiosocket_in_any_pieces(payloads: list[bytes], data: st.DataObject) -> None:
    """The first message must be enough to be known by; after it the stream may be cut anywhere."""
    sent = b"".join(audiosocket.encode(0x10, payload) for payload in payloads)
    first = 3 + len(payloads[0])
    cuts = sorted({first, *data.draw(st.sets(st.integers(first, len(sent)), max_size=12))})
    stream = Voipbin("audiosocket")
    heard = b""
    for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        heard += played(stream.receive(sent[start:end]))
    audio = b"".join(payloads)
    assert heard == audio[: len(audio) // 2 * 2]
    assert stream.discarded == 0


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 322, 323, 324, 4096])
def test_audiosocket_relayed_in_reads_of_any_size(size: int) -> None:
    sent = audiosocket.encode(0x10, b"\x01\x02" * 160) * 20
    stream = Voipbin("audiosocket")
    heard = b"".join(played(stream.receive(sent[at : at + size])) for at in range(0, len(sent), size))
    assert heard == b"\x01\x02" * 3200


def test_a_whole_file_is_one_command() -> None:
    pcm = random.Random(1).randbytes(5 << 20)
    assert Voipbin("sln").receive(pcm) == [Play(pcm, 8000)]
    framed = b"".join(audiosocket.encode(0x10, pcm[at : at + 320]) for at in range(0, len(pcm), 320))
    assert Voipbin("audiosocket").receive(framed) == [Play(pcm, 8000)]
    assert Voipbin("audiosocket").receive(b"\0\0" + pcm) == [Play(b"\0\0" + pcm, 8000)]
    (command,) = Voipbin("rtp").receive(pcm)
    assert command == Play(g711.ulaw_decode(pcm), 8000)


@pytest.mark.parametrize("first", [b"\x80", b"\x9f", b"\xa0", b"\xbf", b"\xff"])
def test_a_whole_file_of_loud_ulaw_is_no_packet(first: bytes) -> None:
    data = first + b"\x00" * 40 + b"\x90" * 200_000
    assert Voipbin("rtp").receive(data) == [Play(g711.ulaw_decode(data), 8000)]


@pytest.mark.parametrize("options", OPTIONS)
@given(messages=st.lists(st.one_of(st.binary(max_size=400), st.text(max_size=60)), max_size=12))
def test_nothing_that_comes_is_fatal(options: tuple[Any, ...], messages: list[bytes | str]) -> None:
    stream = Voipbin(*options)
    for message in messages:
        for command in stream.receive(message):
            assert isinstance(command, Play | Clear | Mark | Dtmf | Stop)
            if isinstance(command, Play):
                assert command.pcm
                assert len(command.pcm) % 2 == 0
                assert command.rate in SLIN_RATES
    assert 0 <= stream.discarded <= sum(max(1, len(message)) for message in messages)


@pytest.mark.parametrize(
    ("text", "understood"),
    [
        ('{"event":"mark","name":"%s"}' % ("x" * MAX_MARK_NAME), True),
        ('{"event":"mark","name":"%s"}' % ("x" * (MAX_MARK_NAME + 1)), False),
        ('{"event":"dtmf","dtmf":{"digits":"%s"}}' % ("1" * MAX_DIGITS), True),
        ('{"event":"dtmf","dtmf":{"digits":"%s"}}' % ("1" * (MAX_DIGITS + 1)), False),
        ("[" * 100_000, False),
        ('{"event":"clear","x":' + "[" * 100_000, False),
    ],
    ids=["name", "long name", "digits", "long digits", "nested", "nested in an unknown field"],
)
def test_control_is_bounded(text: str, understood: bool) -> None:
    stream = Voipbin("rtp")
    assert bool(stream.receive(text)) is understood
    assert stream.discarded == (not understood)


@pytest.mark.parametrize(
    "text",
    [
        '{"event":"hangup","hangup":{"after_playout":"yes"}}',
        '{"event":"hangup","hangup":true}',
        '{"event":"transfer"}',
        '{"event":"transfer","transfer":{}}',
        '{"event":"transfer","transfer":{"destination":"1002"}}',
        '{"event":"transfer","transfer":{"destination":{"target":"%s"}}}' % ("1" * 10_000),
        '{"event":"transfer","transfer":{"destination":{"target":' + "[" * 3000 + "]" * 3000 + "}}}",
    ],
    ids=["a word", "no object", "no destination", "empty", "a string", "long", "nested"],
)
def test_a_wrong_request_to_change_the_call_is_not_understood(text: str) -> None:
    stream = Voipbin("sln", control=True)
    (answer,) = stream.receive(text)
    assert isinstance(answer, Send)
    assert json.loads(answer.message)["error"]["message"] == "not understood"
    assert stream.discarded == 1


def test_a_request_to_change_the_call_needs_the_option_control() -> None:
    stream = Voipbin("sln")
    assert not stream.receive('{"event":"hangup"}')
    assert stream.discarded == 1


def test_the_outcome_of_a_request_is_text() -> None:
    stream = Voipbin("sln", control=True)
    (told,) = stream.request_answered("transfer", {"call_id": "c2", "status": "dialing"}, 0.0)
    assert json.loads(told) == {"event": "transfer", "transfer": {"call_id": "c2", "status": "dialing"}}
    (told,) = stream.request_answered("hangup", {"reason": "SCOPE_MISSING"}, 0.0, "no scope")
    error = {"message": "no scope", "received": "hangup", "reason": "SCOPE_MISSING"}
    assert json.loads(told) == {"event": "error", "error": error}


TINY = b"\x10\x00\x02ab"


def test_audiosocket_messages_in_one_message_are_bounded() -> None:
    stream = Voipbin("audiosocket")
    assert stream.receive(TINY * MAX_INNER_MESSAGES) == [Play(b"ab" * MAX_INNER_MESSAGES, 8000)]
    with pytest.raises(ClientProtocolError, match="60000"):
        stream.receive(TINY * (MAX_INNER_MESSAGES + 1))


@pytest.mark.parametrize("first", [True, False])
def test_the_bound_holds_for_the_first_message_and_for_later_ones(first: bool) -> None:
    stream = Voipbin("audiosocket")
    if not first:
        stream.receive(TINY)
    message = TINY * (16 * 1024 * 1024 // len(TINY))

    def refuse() -> None:
        with pytest.raises(ClientProtocolError):
            stream.receive(message)

    assert calls_in(refuse) < 2 * MAX_INNER_MESSAGES


def test_audiosocket_messages_of_changing_size_in_one_message_are_bounded() -> None:
    stream = Voipbin("audiosocket")
    both = b"\x10\x00\x02ab\x10\x00\x04abcd"
    assert stream.receive(both * (MAX_HEADERS // 2)) == [Play(b"ababcd" * (MAX_HEADERS // 2), 8000)]
    with pytest.raises(ClientProtocolError, match="5000 changes of size"):
        stream.receive(both * MAX_HEADERS)


@given(st.lists(st.tuples(st.sampled_from([2, 3, 320]), st.integers(1, 1500)), max_size=6), st.integers(0, 700))
def test_runs_of_alike_messages_are_taken_apart_as_single_ones(runs: list[tuple[int, int]], cut: int) -> None:
    messages = [
        b"\x10" + size.to_bytes(2, "big") + bytes([n % 251] * size) for size, count in runs for n in range(count)
    ]
    whole, single = Voipbin("audiosocket"), Voipbin("audiosocket")
    whole.receive(TINY)
    single.receive(TINY)
    joined = b"".join(messages)
    cut = min(cut, len(joined))
    together = [command for part in (joined[:cut], joined[cut:]) for command in whole.receive(part)]
    apart = [command for message in messages for command in single.receive(message)]
    assert played(together) == played(apart)
    assert whole.discarded == single.discarded == 0


def test_changes_of_kind_in_one_message_are_bounded() -> None:
    pair = b"\x11\x00\x02ab\x12\x00\x02cd"
    assert len(Voipbin("audiosocket").receive(pair * (MAX_KIND_CHANGES // 2))) == MAX_KIND_CHANGES
    with pytest.raises(ClientProtocolError, match="100 changes"):
        Voipbin("audiosocket").receive(pair * (MAX_KIND_CHANGES // 2) + TINY)


def test_audiosocket_keys_in_a_row_are_one_command() -> None:
    stream = Voipbin("audiosocket")
    keys = b"".join(b"\x03\x00\x01" + key for key in (b"1", b"a", b"x", b"#"))
    assert stream.receive(TINY + keys + TINY) == [Play(b"ab", 8000), Dtmf("1A#"), Play(b"ab", 8000)]
    assert stream.discarded == 1
    many = stream.receive(b"\x03\x00\x017" * (MAX_DIGITS + 1))
    assert many == [Dtmf("7" * MAX_DIGITS), Dtmf("7")]


def test_messages_last_as_long_as_they_say() -> None:
    stream = Voipbin("sln")
    (message,) = stream.audio("call", bytes(320), 0.0)
    assert len(message) / 16 == stream.message_ms
