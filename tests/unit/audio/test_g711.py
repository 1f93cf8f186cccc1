"""G.711 against the values that the recommendation gives, and against itself."""

from collections.abc import Callable
from struct import pack, unpack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.audio import g711

# ITU-T G.711 tables 1a-2b, scaled to 16 bits: code word, its sample.
ULAW = {0xFF: 0, 0xFE: 8, 0x7E: -8, 0xF0: 120, 0x80: 32124, 0x00: -32124, 0xEF: 132}
ALAW = {0xD5: 8, 0x55: -8, 0xAA: 32256, 0x2A: -32256}


@pytest.mark.parametrize(("decode", "table"), [(g711.ulaw_decode, ULAW), (g711.alaw_decode, ALAW)])
def test_decoding_follows_the_recommendation(decode: Callable[[bytes], bytes], table: dict[int, int]) -> None:
    assert unpack(f"<{len(table)}h", decode(bytes(table))) == tuple(table.values())


@pytest.mark.parametrize(
    ("encode", "decode", "silence"),
    [(g711.ulaw_encode, g711.ulaw_decode, b"\xff"), (g711.alaw_encode, g711.alaw_decode, b"\xd5")],
)
def test_a_code_word_survives(
    encode: Callable[[bytes], bytes], decode: Callable[[bytes], bytes], silence: bytes
) -> None:
    words = bytes(word for word in range(256) if word != 0x7F)  # mu-law has two zeros; 0x7f is the other one
    assert encode(decode(words)) == words
    assert encode(bytes(2)) == silence


@given(st.lists(st.integers(-32768, 32767)))
def test_error_stays_within_a_step(samples: list[int]) -> None:
    pcm = pack(f"<{len(samples)}h", *samples)
    for encode, decode in ((g711.ulaw_encode, g711.ulaw_decode), (g711.alaw_encode, g711.alaw_decode)):
        back = unpack(f"<{len(samples)}h", decode(encode(pcm)))
        for sample, heard in zip(samples, back, strict=True):
            assert abs(sample - heard) <= max(16, abs(sample) / 16 + 1)


@pytest.mark.parametrize("encode", [g711.ulaw_encode, g711.alaw_encode])
def test_half_a_sample_is_refused(encode: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ValueError, match="3 bytes"):
        encode(b"abc")
