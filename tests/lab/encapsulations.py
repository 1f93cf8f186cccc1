"""Audio and data as applications send and receive them, in each encapsulation of ``media_stream``."""

from __future__ import annotations

import random
import string
from itertools import pairwise

import numpy as np

from bridge.testing import modem, peer


def text_of(seconds: float, seed: int) -> str:
    """Return characters that last ``seconds`` at 300 baud, different ones for each seed."""
    letters = string.ascii_letters + string.digits + " .,"
    return "".join(random.Random(seed).choices(letters, k=int(seconds * modem.BAUD / modem.BITS_PER_CHARACTER)))


def to_messages(encapsulation: str, samples: peer.Samples) -> list[bytes]:
    """Return audio as an application sends it: one message per 20 ms."""
    pcm = samples.astype("<i2").tobytes()
    if encapsulation == "rtp":
        return peer.rtp_packets(peer.ulaw_bytes(samples), 0, 160)
    return peer.audiosocket_messages(pcm) if encapsulation == "audiosocket" else peer.frames(pcm)


def from_messages(encapsulation: str, messages: list[bytes]) -> peer.Samples:
    """Return the audio in received messages; each must be as documented."""
    if encapsulation == "rtp":
        assert {len(message) for message in messages} == {172}
        types, payload = peer.rtp_payloads(messages)
        assert set(types) == {0}
        sequence = [int.from_bytes(message[2:4], "big") for message in messages]
        assert np.all(np.diff(np.array(sequence)) % 65536 == 1)
        stamps = [int.from_bytes(message[4:8], "big") for message in messages]
        assert {(after - before) % 2**32 for before, after in pairwise(stamps)} == {160}
        assert messages[0][1] & 0x80
        return peer.ulaw_samples(payload)
    if encapsulation == "audiosocket":
        assert {len(message) for message in messages} == {323}
        kinds, payload = peer.audiosocket_audio(messages)
        assert set(kinds) == {0x10}
        return peer.samples_of(payload)
    assert {len(message) for message in messages} == {320}
    return peer.samples_of(b"".join(messages))
