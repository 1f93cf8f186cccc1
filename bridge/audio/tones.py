"""Sounds that need no file: a beep, keys, ringing, silence."""

from __future__ import annotations

from bridge.audio.sound import Sound


def tone(hz: float, seconds: float, *, rate: int = 8000, level: int = 8000) -> Sound:
    """One frequency."""
    raise NotImplementedError


def silence(seconds: float, *, rate: int = 8000) -> Sound:
    """Nothing to be heard."""
    raise NotImplementedError


def beep(*, rate: int = 8000) -> Sound:
    """The short tone after which one speaks."""
    raise NotImplementedError


def ringback(seconds: float, *, rate: int = 8000) -> Sound:
    """What a caller hears while the other phone rings."""
    raise NotImplementedError


def dtmf(digits: str, *, duration_ms: int = 100, between_ms: int = 100, rate: int = 8000) -> Sound:
    """Keys as tones.

    Raises:
        ValueError: a character is no key.
    """
    raise NotImplementedError
