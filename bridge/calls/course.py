"""What was seen of a call, from which follows how it ends. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Course:
    """State of a call that its record does not show."""

    dialstatus: str = ""
    """The furthest of RINGING, PROGRESS and ANSWER."""
    cause: int = 0
    party_hung_up: bool = False
    pbx_hung_up: bool = False
    forwarded: bool = False
    """Its phone has forwarded it."""
    redialed: bool = False
    """When its channel has ended, it is dialed again, where the phone has forwarded it to."""
    first: str = ""
    """The channel of the party that began it."""
    merged: bool = False
    """Its last party continues in another call, which it has met in a bridge. The record ends with its own parties."""
