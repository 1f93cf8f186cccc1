"""Generated sounds: beep, DTMF, ringback, silence.

Every tone fades in and out briefly: a sine that is cut off clicks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from bridge.audio.sound import Sound

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KEYS: Final = ("123A", "456B", "789C", "*0#D")
"""The keys of a phone by row (ITU-T Q.23)."""
ROWS_HZ: Final = (697, 770, 852, 941)
COLUMNS_HZ: Final = (1209, 1336, 1477, 1633)

EDGE_S: Final = 0.005
"""Duration of a tone's rise and of its fall, in seconds."""
LEVEL: Final = 8000
"""Amplitude of a tone, of 32767 at full scale: about -12 dB, as loud as the loudest speech."""

_RING_S, _RING_PAUSE_S = 2.0, 4.0  # North America's, also Asterisk's default (ITU-T E.180 annex)
_PAUSES_S = {"w": 0.5, "W": 1.0}  # as in Asterisk's SendDTMF and ARI

_Samples: TypeAlias = "NDArray[np.float64]"


def tone(hz: float, seconds: float, *, rate: int = 8000, level: int = LEVEL) -> Sound:
    """Return a sine tone.

    Args:
        hz: frequency in Hz.
        seconds: duration.
        rate: sampling rate in Hz.
        level: amplitude, up to 32767.
    """
    return _sound(_sines((hz,), seconds, rate, level), rate)


def silence(seconds: float, *, rate: int = 8000) -> Sound:
    """Return silence."""
    return Sound(bytes(2 * round(seconds * rate)), rate)


def beep(*, rate: int = 8000) -> Sound:
    """Return the tone that invites a caller to speak: 1000 Hz, a third of a second."""
    return tone(1000, 0.33, rate=rate)


def ringback(seconds: float, *, rate: int = 8000) -> Sound:
    """Return the ringing tone that a caller hears: 440 and 480 Hz, two seconds of every six."""
    import numpy as np

    ring = np.concatenate([_sines((440, 480), _RING_S, rate, LEVEL), np.zeros(round(_RING_PAUSE_S * rate))])
    return _sound(np.resize(ring, round(seconds * rate)), rate)


def dtmf(digits: str, *, duration_ms: int = 100, between_ms: int = 100, rate: int = 8000) -> Sound:
    """Return DTMF digits as tones (ITU-T Q.23), each followed by a pause.

    Args:
        digits: ``0``-``9``, ``*``, ``#``, ``A``-``D``; ``w`` is half a second of silence, ``W`` one second.
        duration_ms: length of a tone in milliseconds.
        between_ms: length of the pause after it in milliseconds.
        rate: sampling rate in Hz.

    Raises:
        ValueError: a character is not a DTMF digit.
    """
    import numpy as np

    parts: list[_Samples] = [np.zeros(0)]
    for digit in digits:
        if digit in _PAUSES_S:
            parts.append(np.zeros(round(_PAUSES_S[digit] * rate)))
            continue
        row = next((row for row, keys in enumerate(KEYS) if digit.upper() in keys), None)
        if row is None:
            raise ValueError(f"{digit!r} is not a DTMF digit; expected 0-9 * # A-D, or w and W for a pause")
        frequencies = (ROWS_HZ[row], COLUMNS_HZ[KEYS[row].index(digit.upper())])
        parts.append(_sines(frequencies, duration_ms / 1000, rate, LEVEL))
        parts.append(np.zeros(round(between_ms * rate / 1000)))
    return _sound(np.concatenate(parts), rate)


def _sines(frequencies: tuple[float, ...], seconds: float, rate: int, level: int) -> _Samples:
    """Return the sum of sines of ``level`` each, faded in and out."""
    import numpy as np

    times = np.arange(round(seconds * rate)) / rate
    edges = np.minimum(1, np.minimum(times, times[::-1]) / EDGE_S)
    waves: _Samples = np.sin(2 * np.pi * np.outer(frequencies, times)).sum(axis=0)
    sines: _Samples = level * edges * waves
    return sines


def _sound(samples: _Samples, rate: int) -> Sound:
    import numpy as np

    return Sound(np.clip(np.rint(samples), -32768, 32767).astype("<i2").tobytes(), rate)
