"""RTP packets as bytes (RFC 3550 section 5.1), payload types of RFC 3551."""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

PT_ULAW: Final = 0
PT_ALAW: Final = 8
PT_SLIN: Final = 96
"""Dynamic; by convention of the clients s16le at 8000 Hz. (RFC 3551's own L16 is big-endian at 44100 Hz.)"""

HEADER_BYTES: Final = 12
MAX_PACKET_BYTES: Final = 65507
"""Largest payload of a UDP datagram, so the longest possible packet."""

_HEADER = Struct("!BBHII")
_EXTENSION = Struct("!HH")
_VERSION_2 = 0x80
_MARKER = 0x80


class RtpPacket(NamedTuple):
    """The fields of a packet. ``timestamp`` counts samples; ``payload`` excludes padding."""

    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes


class Packetizer:
    """Numbers the packets of one RTP stream.

    Args:
        payload_type: 0-127, of every packet.
        ssrc: identifies the sender; random in real use.
        sequence: number of the first packet; random in real use.
        timestamp: of the first packet, in samples.
    """

    __slots__ = ("_payload_type", "_sequence", "_ssrc", "_timestamp")

    def __init__(self, payload_type: int, ssrc: int, sequence: int, timestamp: int = 0) -> None:
        self._payload_type = payload_type
        self._ssrc = ssrc
        self._sequence = sequence
        self._timestamp = timestamp

    def packet(self, payload: bytes, samples: int, marker: bool = False) -> bytes:
        """Return the next packet; the timestamp of the following one is ``samples`` later."""
        sequence, timestamp = self._sequence, self._timestamp
        self._sequence = (sequence + 1) & 0xFFFF
        self._timestamp = (timestamp + samples) & 0xFFFFFFFF
        second = self._payload_type | _MARKER if marker else self._payload_type
        return _HEADER.pack(_VERSION_2, second, sequence, timestamp, self._ssrc) + payload


def parse(data: bytes) -> RtpPacket:
    """Parse one packet; skip contributing sources, header extension and padding.

    Raises:
        ValueError: not a packet of RTP version 2, or shorter than its header promises.
    """
    size = len(data)
    if size < HEADER_BYTES:
        raise ValueError(f"an RTP packet has at least {HEADER_BYTES} bytes, not {size}")
    first, second, sequence, timestamp, ssrc = _HEADER.unpack_from(data)
    if first >> 6 != 2:
        raise ValueError(f"not RTP version 2 (first byte 0x{first:02x})")
    start, end = HEADER_BYTES, size
    if first != _VERSION_2:  # nearly every packet is plain
        start += 4 * (first & 0x0F)
        if first & 0x10:
            if start + _EXTENSION.size > size:
                raise ValueError("RTP header extension beyond the end of the packet")
            start += _EXTENSION.size + 4 * _EXTENSION.unpack_from(data, start)[1]
        if first & 0x20:
            end -= data[-1]
            if data[-1] == 0:
                raise ValueError("RTP padding of length 0")
        if start > end:
            raise ValueError("RTP header or padding beyond the end of the packet")
    return RtpPacket(second & 0x7F, second >= _MARKER, sequence, timestamp, ssrc, data[start:end])
