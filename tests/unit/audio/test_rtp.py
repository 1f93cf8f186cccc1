"""RTP headers, written and read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.audio.rtp import Packetizer, parse

HEADER = bytes.fromhex("80 80 fffe 00000064 deadbeef")


def test_a_packet_byte_by_byte() -> None:
    packets = Packetizer(0, ssrc=0xDEADBEEF, sequence=0xFFFE, timestamp=100)
    assert packets.packet(b"ab", 160, marker=True) == HEADER + b"ab"
    assert packets.packet(b"cd", 160) == bytes.fromhex("80 00 ffff 00000104 deadbeef") + b"cd"
    assert packets.packet(b"", 160) == bytes.fromhex("80 00 0000 000001a4 deadbeef")  # the sequence wraps


def test_the_timestamp_wraps() -> None:
    packets = Packetizer(96, ssrc=1, sequence=0, timestamp=0xFFFFFFFF)
    packets.packet(b"", 160)
    assert parse(packets.packet(b"", 160)).timestamp == 159


@given(
    st.integers(0, 127),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**16 - 1),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=400),
    st.booleans(),
)
def test_round_trip(payload_type: int, ssrc: int, sequence: int, timestamp: int, payload: bytes, marker: bool) -> None:
    packet = parse(Packetizer(payload_type, ssrc, sequence, timestamp).packet(payload, 160, marker))
    assert packet == (payload_type, marker, sequence, timestamp, ssrc, payload)


@given(
    st.lists(st.binary(min_size=4, max_size=4), max_size=15),
    st.none() | st.lists(st.binary(min_size=4, max_size=4), max_size=5),
    st.integers(0, 255),
    st.binary(max_size=200),
)
def test_sources_extension_and_padding_are_no_audio(
    sources: list[bytes], extension: list[bytes] | None, padding: int, payload: bytes
) -> None:
    first = 0x80 | len(sources) | (0x10 if extension is not None else 0) | (0x20 if padding else 0)
    data = bytes([first, 8]) + HEADER[2:] + b"".join(sources)
    if extension is not None:
        data += b"\xbe\xde" + len(extension).to_bytes(2, "big") + b"".join(extension)
    data += payload
    if padding:
        data += bytes(padding - 1) + bytes([padding])
    packet = parse(data)
    assert packet.payload == payload
    assert packet.payload_type == 8


@given(st.binary(max_size=80))
def test_garbage_is_refused_or_read(data: bytes) -> None:
    try:
        packet = parse(data)
    except ValueError:
        return
    assert data[0] >> 6 == 2
    assert packet.payload in data


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (HEADER[:11], "11"),
        (b"\x40" + HEADER[1:], "version 2"),
        (b"\x81" + HEADER[1:], "beyond"),  # promises a contributing source
        (b"\x90" + HEADER[1:] + b"\x00\x00", "extension"),
        (b"\x90" + HEADER[1:] + b"\x00\x00\x00\x01", "beyond"),
        (b"\xa0" + HEADER[1:] + b"\x00\x02", None),  # padding only: an empty packet, not a wrong one
        (b"\xa0" + HEADER[1:] + b"\x00\x03", "beyond"),
        (b"\xa0" + HEADER[1:] + b"ab\x00", "length 0"),
    ],
)
def test_headers_that_promise_too_much(data: bytes, why: str | None) -> None:
    if why is None:
        assert parse(data).payload == b""
        return
    with pytest.raises(ValueError, match=why):
        parse(data)
