"""Speaks into a call: one media leg that plays what it is given."""

from __future__ import annotations

from bridge.calls.legs import Leg
from bridge.calls.tap import Place


class Voice:
    """Speaks in one place; its media leg is opened at the first word and kept until ``close``."""

    async def play(self, pcm: bytes, rate: int) -> None:
        """Play s16le mono; returns when all of it has been handed to Asterisk, or ``stop`` was called.

        Raises:
            LegGone: the party has gone.
            AriError: no audio connection.
        """
        raise NotImplementedError

    def stop(self) -> None:
        """Throw away what waits; a ``play`` that runs returns."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close the media leg; twice is fine."""
        raise NotImplementedError


class Voices:
    """Makes voices."""

    def of(self, leg: Leg) -> Voice:
        """One that speaks to a leg, wherever it is bridged; the leg's bridge partners hear it as well."""
        raise NotImplementedError

    def at(self, place: Place) -> Voice:
        """One that speaks in a place: a bridge, or a party of an ordinary call of the PBX."""
        raise NotImplementedError
