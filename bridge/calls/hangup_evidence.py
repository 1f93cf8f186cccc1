"""Observations of a call from which its hangup reason follows. Pure."""

from __future__ import annotations

from msgspec import Struct


class HangupEvidence(Struct):
    """State of a call that its record does not show."""

    dialstatus: str = ""
    """The furthest of RINGING, PROGRESS and ANSWER."""
    cause: int = 0
    party_hung_up: bool = False
    pbx_hung_up: bool = False
    forwarded: bool = False
    """Whether its phone has forwarded it."""
    redialed: bool = False
    """Whether it is dialed again, to where its phone forwarded it, when its channel has ended."""
    first: str = ""
    """The channel of the party that began it."""
    merged: bool = False
    """Whether its last party continues in another call, met in a bridge. The record ends with its own parties."""
