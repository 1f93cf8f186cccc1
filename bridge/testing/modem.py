"""Strings as sound: a 300-baud FSK modem, to test whether audio arrived exactly.

One lost, doubled or damaged 20 ms frame is six bits, and breaks at least one character. The signal survives µ-law,
A-law, resampling and a change of gain. Characters are framed as on a serial line (a start bit, eight data bits with the
least significant first, a stop bit), so the receiver needs no common clock and resynchronizes after an error.
900 characters take 30 s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int16]

BAUD = 300
MARK_HZ = 1200  # a one, and the idle line
SPACE_HZ = 1800  # a zero; two baud rates apart, which makes one bit of either orthogonal to the other
BITS_PER_CHARACTER = 10
LEVEL = 9000
# Below this part of the loudest passage there is no carrier: the line counts as idle.
_CARRIER = 0.25
FAULT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Decoded:
    """The result of demodulating a signal.

    Args:
        text: the characters; one without a stop bit or with a gap in its carrier is U+FFFD.
        framing_errors: number of those characters.
        begins_s, ends_s: where the first character began and the last one ended; 0 if there is none.
    """

    text: str
    framing_errors: int
    begins_s: float
    ends_s: float


def seconds(text: str, lead_s: float = 0.1) -> float:
    """Return the duration of the signal of a string (`modulate`)."""
    return lead_s + (len(text.encode("latin-1")) * BITS_PER_CHARACTER + 15) / BAUD


def modulate(text: str, rate: int, *, lead_s: float = 0.1, level: int = LEVEL) -> Samples:
    """Return a string (Latin-1) as sound: an idle carrier of ``lead_s``, the characters, 50 ms of idle carrier."""
    data = np.frombuffer(text.encode("latin-1"), np.uint8)
    framed = np.zeros((len(data), BITS_PER_CHARACTER), bool)
    framed[:, 1:9] = np.unpackbits(data[:, None], axis=1, bitorder="little")
    framed[:, 9] = True
    bits = np.concatenate([framed.ravel(), np.ones(15, bool)])
    times = np.arange(round(len(bits) * rate / BAUD)) * BAUD // rate
    tones = np.where(bits[np.minimum(times, len(bits) - 1)], MARK_HZ, SPACE_HZ)
    tones = np.concatenate([np.full(round(lead_s * rate), MARK_HZ), tones])
    phase = np.cumsum(tones) * (2 * np.pi / rate)
    return np.round(level * np.sin(phase)).astype(np.int16)


def demodulate(samples: Samples, rate: int) -> str:
    """Return the text in a signal; a damaged character is U+FFFD."""
    return decode(samples, rate).text


def decode(samples: Samples, rate: int) -> Decoded:
    """Find and decode the characters in a signal, after any other audio."""
    bit = rate / BAUD
    window = round(bit)
    if len(samples) < window * BITS_PER_CHARACTER:
        return Decoded("", 0, 0.0, 0.0)
    mark, space = (_level(samples, tone, window, rate) for tone in (MARK_HZ, SPACE_HZ))
    carrier = np.maximum(mark, space)
    present = carrier > _CARRIER * np.quantile(carrier, 0.98)
    ones = mark >= space
    ones_or_idle = ones | ~present
    # A start bit is where the line falls from one to zero.
    falls = np.flatnonzero(ones_or_idle[:-1] & ~ones_or_idle[1:]) + 1
    characters: list[str] = []
    errors = 0
    first = end = 0
    at = 0
    while (index := np.searchsorted(falls, at)) < len(falls):
        start = int(falls[index])
        middles = np.round(start + bit * (np.arange(BITS_PER_CHARACTER) + 0.5)).astype(int)
        if middles[-1] >= len(ones):
            break
        if ones_or_idle[middles[0]]:  # a glitch, no start bit
            at = start + 1
            continue
        if not characters:
            first = start
        values = ones[middles]
        if values[9] and present[middles].all():
            characters.append(chr(int(np.packbits(values[1:9], bitorder="little")[0])))
            # Half a bit before the next possible start: its fall must not be missed if its clock is faster.
            at = int(middles[9])
        else:
            errors += 1
            characters.append(FAULT)
            at = int(middles[9])
        end = int(start + bit * BITS_PER_CHARACTER)
    return Decoded("".join(characters), errors, first / rate, end / rate)


def _level(samples: Samples, tone_hz: int, window: int, rate: int) -> NDArray[np.float64]:
    """Return the level of a tone in a window centered on each sample."""
    turned = samples * np.exp(-2j * np.pi * tone_hz / rate * np.arange(len(samples)))
    sums = np.concatenate([[0], np.cumsum(turned)])
    before = window // 2
    padded = np.concatenate([np.full(before, sums[0]), sums, np.full(window - before, sums[-1])])
    level: NDArray[np.float64] = np.abs(padded[window : window + len(samples)] - padded[: len(samples)])
    return level
