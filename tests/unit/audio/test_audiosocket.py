"""The AudioSocket codec, against written bytes and against every way of splitting them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.audio import g711
from bridge.audio.audiosocket import HANGUP_MESSAGE, RATE_OF_KIND, MessageDecoder, MessageKind, encode, kind_of_rate
from bridge.audio.format import SLIN_RATES
from bridge.errors import AsteriskProtocolError

WIRE = Path(__file__).parents[2] / "wire" / "audiosocket"

MESSAGES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(sorted(RATE_OF_KIND)), st.binary(min_size=1, max_size=700)),
        st.tuples(st.just(int(MessageKind.UUID)), st.binary(min_size=16, max_size=16)),
        st.tuples(st.just(int(MessageKind.DTMF)), st.sampled_from([bytes([each]) for each in b"0123456789ABCD*#"])),
        st.tuples(st.just(int(MessageKind.HANGUP)), st.just(b"")),
        st.tuples(st.just(int(MessageKind.ERROR)), st.binary(max_size=1)),
    ),
    max_size=12,
)


def decode(data: bytes) -> list[tuple[int, bytes]]:
    return MessageDecoder().feed(data)


@given(MESSAGES, st.data())
def test_messages_survive_any_split(messages: list[tuple[int, bytes]], data: st.DataObject) -> None:
    stream = b"".join(encode(kind, payload) for kind, payload in messages)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=20)))
    decoder = MessageDecoder()
    decoded = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        decoded += decoder.feed(stream[start:end])
    assert decoded == messages
    assert decoder.pending == 0


@given(st.binary(max_size=200))
def test_garbage_is_an_error_or_waits(data: bytes) -> None:
    decoder = MessageDecoder()
    try:
        messages = decoder.feed(data)
    except AsteriskProtocolError:
        return
    assert b"".join(encode(kind, payload) for kind, payload in messages) == data[: len(data) - decoder.pending]


def test_the_read_buffer_may_be_reused() -> None:
    buffer = bytearray(encode(MessageKind.SLIN, b"first frame ") + encode(MessageKind.SLIN, b"second")[:-2])
    decoder = MessageDecoder()
    (first,) = decoder.feed(memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    assert first == (MessageKind.SLIN, b"first frame ")
    assert decoder.feed(b"nd") == [(MessageKind.SLIN, b"second")]

    whole = bytearray(encode(MessageKind.SLIN16, b"ab"))
    (message,) = decoder.feed(memoryview(whole))
    whole[:] = bytes(len(whole))
    assert message == (MessageKind.SLIN16, b"ab")


def test_every_kind_on_the_wire() -> None:
    assert decode((WIRE / "every-kind.bin").read_bytes()) == [
        (0x01, bytes.fromhex("40325ec25efd4bd3805f53576e581d13")),
        (0x10, bytes.fromhex("0100feff")),
        (0x11, b"\x11" * 480),
        (0x12, b"\x12" * 640),
        (0x13, b"\x13" * 960),
        (0x14, b"\x14" * 1280),
        (0x15, b"\x15" * 1764),
        (0x16, b"\x16" * 1920),
        (0x17, b"\x17" * 3840),
        (0x18, b"\x18" * 7680),
        (0x03, b"5"),
        (0xFF, b"\x01"),
        (0xFF, b""),
        (0x10, b"\x10" * 65535),
        (0x00, b""),
    ]


@pytest.mark.parametrize(
    ("name", "header_end"),
    [("unknown-kind", 326), ("empty-audio", 326), ("short-uuid", 3), ("long-dtmf", 3), ("hangup-with-payload", 3)],
)
def test_what_asterisk_never_sends_is_refused(name: str, header_end: int) -> None:
    data = (WIRE / f"bad-{name}.bin").read_bytes()
    with pytest.raises(AsteriskProtocolError, match="0x"):
        decode(data)
    decoder = MessageDecoder()
    for byte in data[: header_end - 1]:
        decoder.feed(bytes([byte]))
    with pytest.raises(AsteriskProtocolError):  # by its header alone: a payload may never come
        decoder.feed(data[header_end - 1 : header_end])


def captured(name: str) -> list[tuple[int, bytes]]:
    """Messages of a real Asterisk, fed in reads of a size that fits nothing."""
    data = (WIRE / f"asterisk-22.10.1-{name}.bin").read_bytes()
    decoder = MessageDecoder()
    messages = [message for at in range(0, len(data), 1000) for message in decoder.feed(data[at : at + 1000])]
    assert decoder.pending == 0
    assert messages.pop(0) == (MessageKind.UUID, bytes.fromhex("40325ec25efd4bd3805f53576e581d13"))
    return messages


def pitch(pcm: bytes, rate: int) -> float:
    """Return the strongest frequency, in Hz."""
    spectrum = np.abs(np.fft.rfft(np.frombuffer(pcm, "<i2") * np.hanning(len(pcm) // 2)))
    return float(spectrum.argmax() * rate * 2 / len(pcm))


@pytest.mark.parametrize(
    ("name", "rate"), [("app", 8000), ("slin", 8000), ("slin16", 16000), ("slin44", 44100), ("slin48", 48000)]
)
def test_a_tone_from_a_real_asterisk(name: str, rate: int) -> None:
    messages = captured(name)
    assert {(kind, len(payload)) for kind, payload in messages} == {(kind_of_rate(rate), rate // 50 * 2)}
    pcm = b"".join(payload for _, payload in messages)
    assert pitch(pcm, rate) == pytest.approx(1004, abs=2)


def test_kind_0x10_of_a_real_asterisk_can_be_ulaw() -> None:
    """Only the length of the frames shows it: 160 bytes for 20 ms."""
    messages = captured("ulaw")
    assert {(kind, len(payload)) for kind, payload in messages} == {(MessageKind.SLIN, 160)}
    assert pitch(g711.ulaw_decode(b"".join(payload for _, payload in messages)), 8000) == pytest.approx(1004, abs=2)


def test_keys_from_a_real_asterisk() -> None:
    messages = captured("dtmf")
    assert b"".join(payload for kind, payload in messages if kind == MessageKind.DTMF) == b"159#"
    assert {kind for kind, _ in messages} == {MessageKind.DTMF, MessageKind.SLIN}


def test_what_we_write() -> None:
    assert encode(MessageKind.SLIN, b"\x01\x02") == bytes.fromhex("1000020102")
    assert encode(MessageKind.SLIN16, bytes(640)) == bytes.fromhex("120280") + bytes(640)
    assert encode(MessageKind.HANGUP, b"") == HANGUP_MESSAGE
    assert len(encode(MessageKind.SLIN, bytes(65535))) == 65538
    with pytest.raises(ValueError, match="65535"):
        encode(MessageKind.SLIN, bytes(65536))


def test_kinds_and_rates_are_a_pair_each() -> None:
    assert {RATE_OF_KIND[kind_of_rate(rate)] for rate in SLIN_RATES} == set(SLIN_RATES)
    assert kind_of_rate(16000) == 0x12  # an early draft of Asterisk's documentation had 0x11
    with pytest.raises(ValueError, match="11025"):
        kind_of_rate(11025)
