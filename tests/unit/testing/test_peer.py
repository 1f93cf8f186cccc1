"""The test application's own view of the wire formats."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest

from bridge.testing import peer

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop


def test_ulaw_agrees_with_the_library_both_ways() -> None:
    codes = bytes(range(256))
    assert peer.ulaw_samples(codes).tobytes() == audioop.ulaw2lin(codes, 2)
    every = np.arange(-32768, 32768, 7).astype("<i2")
    ours = peer.ulaw_samples(peer.ulaw_bytes(every)).astype(int)
    theirs = np.frombuffer(audioop.ulaw2lin(audioop.lin2ulaw(every.tobytes(), 2), 2), "<i2").astype(int)
    # The library rounds by the reference's thresholds, we to the nearest value: never further off than it is.
    assert (np.abs(ours - every) <= np.abs(theirs - every)).all()


def test_rtp_round_trip() -> None:
    payload = bytes(range(256)) * 2
    packets = peer.rtp_packets(payload, payload_type=0, frame_bytes=160)
    assert [len(packet) for packet in packets] == [172, 172, 172, 44]
    assert packets[1][:8] == bytes([0x80, 0, 0, 1, 0, 0, 0, 160])
    assert peer.rtp_payloads(packets) == ([0, 0, 0, 0], payload)


def test_rtp_payload_type_without_the_marker() -> None:
    packet = bytearray(peer.rtp_packets(b"ab", payload_type=96, frame_bytes=2)[0])
    packet[1] |= 0x80
    assert peer.rtp_payloads([bytes(packet)]) == ([96], b"ab")


def test_audiosocket_round_trip_however_it_is_cut() -> None:
    pcm = bytes(range(200)) * 5
    data = b"".join(peer.audiosocket_messages(pcm))
    assert data[:3] == bytes([0x10, 0x01, 0x40])
    for size in (1, 7, 323, len(data)):
        assert peer.audiosocket_audio(peer.frames(data, size)) == ([0x10, 0x10, 0x10, 0x10], pcm)


@pytest.mark.parametrize(("pcm", "expected"), [(b"\x01\x00\xff\xff", [1, -1]), (b"\x01\x00\x05", [1]), (b"", [])])
def test_samples_of(pcm: bytes, expected: list[int]) -> None:
    assert peer.samples_of(pcm).tolist() == expected


def test_frames_leave_nothing_out() -> None:
    assert peer.frames(b"abcde", 2) == [b"ab", b"cd", b"e"]
    assert sys.byteorder == "little" or peer.samples_of(b"\x01\x00").tolist() == [1]
