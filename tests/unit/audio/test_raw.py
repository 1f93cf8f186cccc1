"""Bare audio and whole WAVE files."""

import io
import wave
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.audio.format import AudioFormat, Encoding, slin
from bridge.audio.raw import RawAudio, WholeSamples
from bridge.audio.wav import MAX_HEADER_BYTES, parse_header

PCM = bytes(range(200)) * 8


def wav(pcm: bytes = PCM, rate: int = 8000, channels: int = 1, width: int = 2) -> bytes:
    """Return a file as Python's own library writes it."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(pcm)
    return out.getvalue()


def chunk(name: bytes, body: bytes, length: int | None = None) -> bytes:
    return name + pack("<I", len(body) if length is None else length) + body + b"\0" * (len(body) & 1)


def riff(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + pack("<I", len(body)) + body


def fmt(tag: int, bits: int, rate: int = 8000, channels: int = 1, extra: bytes = b"") -> bytes:
    return chunk(b"fmt ", pack("<HHIIHH", tag, channels, rate, rate * bits // 8, bits // 8, bits) + extra)


@given(st.lists(st.binary(max_size=9), max_size=20))
def test_half_a_sample_waits_for_the_other_half(blocks: list[bytes]) -> None:
    whole = WholeSamples()
    parts = [whole.push(block) for block in blocks]
    assert all(len(part) % 2 == 0 for part in parts)
    everything = b"".join(blocks)
    assert b"".join(parts) == everything[: len(everything) // 2 * 2]


def test_bare_audio_is_what_the_stream_says() -> None:
    assert RawAudio(slin(16000)).receive(b"abcd") == [(b"abcd", 16000)]
    assert RawAudio(AudioFormat(Encoding.ULAW, 8000)).receive(b"\x80\xff\x00") == [
        (bytes.fromhex("7c7d00008482"), 8000)
    ]
    assert RawAudio(AudioFormat(Encoding.ALAW, 8000)).receive(b"\xd5") == [(bytes.fromhex("0800"), 8000)]
    assert RawAudio(slin(8000)).receive(b"x") == []


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
def test_a_wav_file_plays_without_its_header_at_its_own_rate(rate: int) -> None:
    refused: list[bytes] = []
    audio = RawAudio(slin(8000), refused.append)
    assert audio.receive(wav(rate=rate)) == [(PCM, rate)]
    assert audio.receive(b"abcd") == [(b"abcd", 8000)]  # after it, blocks are bare again
    assert audio.receive(wav(rate=24000)) == [(PCM, 24000)]
    assert refused == []


@given(st.lists(st.integers(1, 2000), max_size=10))
def test_a_wav_file_in_pieces(sizes: list[int]) -> None:
    data = wav(rate=16000)
    audio = RawAudio(slin(8000))
    played = []
    at = 0
    for size in [*(max(size, 12) for size in sizes), len(data)]:
        played += audio.receive(data[at : at + size])
        at += size
    assert b"".join(pcm for pcm, _ in played) == PCM
    assert {rate for _, rate in played} <= {16000}
    assert audio.receive(b"abcd") == [(b"abcd", 8000)]


def test_half_a_sample_before_a_file_is_none_of_it() -> None:
    audio = RawAudio(slin(8000))
    assert audio.receive(b"abc") == [(b"ab", 8000)]
    assert audio.receive(wav()) == [(PCM, 8000)]


def test_chunks_around_the_audio_are_skipped() -> None:
    noise = chunk(b"LIST", b"\x7f" * 333)
    data = riff(noise, fmt(1, 16), noise, chunk(b"data", PCM), noise)
    assert RawAudio(slin(16000)).receive(data) == [(PCM, 8000)]


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF])
def test_a_file_that_does_not_know_its_length(length: int) -> None:
    """What ffmpeg writes into a pipe."""
    audio = RawAudio(slin(8000))
    assert audio.receive(riff(fmt(1, 16, 16000), chunk(b"data", PCM, length))) == [(PCM, 16000)]
    assert audio.receive(b"abcd") == [(b"abcd", 16000)]
    assert audio.receive(wav()) == [(PCM, 8000)]


def test_companded_files() -> None:
    assert RawAudio(slin(8000)).receive(riff(fmt(7, 8), chunk(b"data", b"\x80\xff"))) == [
        (bytes.fromhex("7c7d0000"), 8000)
    ]
    assert RawAudio(slin(8000)).receive(riff(fmt(6, 8), chunk(b"data", b"\xd5\xd5"))) == [
        (bytes.fromhex("08000800"), 8000)
    ]


def test_extensible_is_what_its_subformat_says() -> None:
    subformat = pack("<HHI", 22, 16, 4) + bytes.fromhex("0100000000001000800000aa00389b71")
    assert RawAudio(slin(8000)).receive(riff(fmt(0xFFFE, 16, extra=subformat), chunk(b"data", PCM))) == [(PCM, 8000)]


@pytest.mark.parametrize(
    "data",
    [wav(channels=2), wav(width=1), riff(fmt(3, 32), chunk(b"data", PCM)), wav(rate=12345)],
    ids=["stereo", "8 bit", "float", "odd rate"],
)
def test_files_that_cannot_be_played_are_left_out_whole(data: bytes) -> None:
    refused: list[bytes] = []
    audio = RawAudio(slin(8000), refused.append)
    assert audio.receive(data[:500]) == []
    assert audio.receive(data[500:]) == []
    assert len(refused) == 2
    assert audio.receive(b"abcd") == [(b"abcd", 8000)]


@pytest.mark.parametrize(
    "data",
    [
        riff(chunk(b"data", PCM)),
        riff(chunk(b"fmt ", b"\1\0\1\0")),
        riff(chunk(b"LIST", b"", MAX_HEADER_BYTES + 1)),
        riff(chunk(b"fmt ", b"", 0xFFFFFFFF)),
    ],
)
def test_broken_files_are_left_out(data: bytes) -> None:
    refused: list[bytes] = []
    audio = RawAudio(slin(8000), refused.append)
    assert audio.receive(data) == []
    assert refused == [data]
    assert audio.receive(b"abcd") == [(b"abcd", 8000)]


@given(st.binary(max_size=300))
def test_no_header_is_fatal(tail: bytes) -> None:
    RawAudio(slin(8000)).receive(b"RIFF\0\0\0\0WAVE" + tail)


def test_a_header_is_for_files_only() -> None:
    with pytest.raises(ValueError, match="RIFF"):
        parse_header(b"RIFX" + bytes(40))
