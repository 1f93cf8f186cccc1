"""What was seen of a call, from which follows how it ends. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Course:
    """What was seen of a call and is told nowhere."""

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
    """Its last party goes on in another call: it has met that in a bridge. It ends with its own parties."""
