"""Where a stream's legs go on the PBX, for the directions that were asked for. Pure.

    direction_listen   in: what the party says   out: what it hears   both: the mix   none: nothing
    direction_speak    out: the party hears it   in: the others hear it as if the party spoke   both: everybody
                       none: nobody

One leg serves both ways where that is exact; otherwise a second one is opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bridge.taps.taps import Join, Snoop, TapPoint

Direction = Literal["in", "out", "both"]
DIRECTIONS: tuple[Direction, ...] = ("in", "out", "both")
ClientDirection = Literal["in", "out", "both", "none"]
"""What a client that connects may ask for, each way; not none for both."""
CLIENT_DIRECTIONS: tuple[ClientDirection, ...] = (*DIRECTIONS, "none")


@dataclass(frozen=True)
class LegPlace:
    """One leg: where it goes, and what the stream uses it for."""

    place: TapPoint
    hears: bool
    speaks: bool


def places(
    channel_id: str, bridge_id: str | None, listen: ClientDirection, speak: ClientDirection
) -> tuple[LegPlace, ...]:
    """The legs for a stream on one party.

    Args:
        channel_id: the party.
        bridge_id: the mixing bridge in which our Stasis application holds the party; None for a call anywhere else.
    """
    if listen == "none":
        return _speaking_places(channel_id, bridge_id, speak)
    if speak == "none":
        # Nothing of ours is played, so that the tap can be shared with whoever hears the same.
        place = Join(bridge_id) if bridge_id and listen == "both" else Snoop(channel_id, spy=listen, whisper="none")
        return (LegPlace(place, True, False),)
    if bridge_id is None:
        # A snoop that whispers both ways throws both queues away when one direction has no traffic for 500 ms
        # (main/audiohook.c); two that whisper one way each do not.
        first = LegPlace(Snoop(channel_id, spy=listen, whisper="in" if speak == "in" else "out"), True, True)
        if speak != "both":
            return (first,)
        return (first, LegPlace(Snoop(channel_id, spy="none", whisper="in"), False, True))
    # In a bridge of ours a member hears everybody else, other streams included: that is the mix.
    # What the party alone says or hears takes a snoop.
    if listen == "both" and speak != "in":
        return (LegPlace(Join(bridge_id), True, True),)
    if speak == "in":
        # The bridge has to be fed by somebody, or the party gets no audio at all: a leg sends silence at least.
        return (
            LegPlace(Snoop(channel_id, spy=listen, whisper="in"), True, True),
            LegPlace(Join(bridge_id), False, False),
        )
    return (
        LegPlace(Snoop(channel_id, spy=listen, whisper="none"), True, False),
        LegPlace(Join(bridge_id), False, True),
    )


def _speaking_places(channel_id: str, bridge_id: str | None, speak: ClientDirection) -> tuple[LegPlace, ...]:
    """The legs for a stream that hears nothing."""
    if bridge_id is not None and speak != "in":
        return (LegPlace(Join(bridge_id), False, True),)
    ways: tuple[Direction, ...] = ("out", "in") if speak == "both" else ("in",) if speak == "in" else ("out",)
    legs = tuple(LegPlace(Snoop(channel_id, spy="none", whisper=way), False, True) for way in ways)
    # As above: the bridge has to be fed by somebody.
    return legs if bridge_id is None else (*legs, LegPlace(Join(bridge_id), False, False))
