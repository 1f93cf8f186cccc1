"""Sounds that need no file: a beep, keys, ringing, silence.

Every tone begins and ends softly: a sine that is cut off clicks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from bridge.audio.sound import Sound

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KEYS: Final = ("123A", "456B", "789C", "*0#D")
"""The keys of a phone as they lie (ITU-T Q.23)."""
ROWS_HZ: Final = (697, 770, 852, 941)
COLUMNS_HZ: Final = (1209, 1336, 1477, 1633)

EDGE_S: Final = 0.005
"""How long a tone takes to rise, and to fall."""
LEVEL: Final = 8000
"""Amplitude of a tone; a full-scale sine has 32767. About -12 dB, as loud as speech at its loudest."""

_RING_S, _RING_PAUSE_S = 2.0, 4.0  # North America's, which Asterisk has as its default too (ITU-T E.180 annex)
_PAUSES_S = {"w": 0.5, "W": 1.0}  # as Asterisk's dialplan and ARI have them (SendDTMF)

_Samples: TypeAlias = "NDArray[np.float64]"


def tone(hz: float, seconds: float, *, rate: int = 8000, level: int = LEVEL) -> Sound:
    """One frequency.

    Args:
        level: amplitude, up to 32767.
    """
    return _sound(_sines((hz,), seconds, rate, level), rate)


def silence(seconds: float, *, rate: int = 8000) -> Sound:
    """Nothing to be heard."""
    return Sound(bytes(2 * round(seconds * rate)), rate)


def beep(*, rate: int = 8000) -> Sound:
    """The short tone after which one speaks: 1000 Hz, a third of a second."""
    return tone(1000, 0.33, rate=rate)


def ringback(seconds: float, *, rate: int = 8000) -> Sound:
    """What a caller hears while the other phone rings: 440 and 480 Hz, two seconds of every six."""
    import numpy as np

    ring = np.concatenate([_sines((440, 480), _RING_S, rate, LEVEL), np.zeros(round(_RING_PAUSE_S * rate))])
    return _sound(np.resize(ring, round(seconds * rate)), rate)


def dtmf(digits: str, *, duration_ms: int = 100, between_ms: int = 100, rate: int = 8000) -> Sound:
    """Keys as tones (ITU-T Q.23), each followed by a pause.

    Args:
        digits: ``0``-``9``, ``*``, ``#``, ``A``-``D``; ``w`` is half a second of silence, ``W`` a whole one.

    Raises:
        ValueError: a character is no key.
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
    """Sines of ``level`` each, with soft edges."""
    import numpy as np

    times = np.arange(round(seconds * rate)) / rate
    edges = np.minimum(1, np.minimum(times, times[::-1]) / EDGE_S)
    waves: _Samples = np.sin(2 * np.pi * np.outer(frequencies, times)).sum(axis=0)
    sines: _Samples = level * edges * waves
    return sines


def _sound(samples: _Samples, rate: int) -> Sound:
    import numpy as np

    return Sound(np.clip(np.rint(samples), -32768, 32767).astype("<i2").tobytes(), rate)
