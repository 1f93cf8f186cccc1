"""Which tracks a stream ought to have, and where on the PBX each is, for the directions that are wanted. Pure.

    listen   in: what the party says   out: what it hears   both: the mix   none: nothing
    speak    out: the party hears it   in: the others hear it as if the party spoke   both: everybody   none: nobody

One leg serves both ways where that is exact; otherwise a second one is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from bridge.control.legs import Leg
from bridge.dialects.base import TrackInfo
from bridge.streams.flow_options import TRANSFER
from bridge.streams.flow_options import Direction as FlowDirection
from bridge.taps.taps import Join, Snoop, TapPoint

Direction = Literal["in", "out", "both"]
DIRECTIONS: tuple[Direction, ...] = ("in", "out", "both")
ClientDirection = Literal["in", "out", "both", "none"]
"""What a client that connects may ask for, each way; not none for both."""
CLIENT_DIRECTIONS: tuple[ClientDirection, ...] = (*DIRECTIONS, "none")


@dataclass(frozen=True, slots=True)
class WantedTrack:
    """A track that a stream ought to have now.

    Args:
        info: what the dialect may say about it.
        tap_point: where its leg goes; None: nowhere now, or the leg is open already (`Stream.adopt`).
        speaks: the application's audio is played there.
        hears: what is heard there goes to the application. If not, the dialect does not know of the track.
        steady: the application receives silence, by the clock, while Asterisk sends nothing.
    """

    info: TrackInfo
    tap_point: TapPoint | None
    speaks: bool = False
    hears: bool = True
    steady: bool = False

    def may_become(self, other: WantedTrack) -> bool:
        """Whether this track may continue as the other: it is the same party's, and used for the same."""
        same_party = self.tap_point == other.tap_point or self.info.channel_id == other.info.channel_id != ""
        return same_party and (self.speaks, self.hears) == (other.speaks, other.hears)


def party_tracks(
    info: TrackInfo, bridge_id: str | None, listen: ClientDirection, speak: ClientDirection, *, alone: bool = True
) -> list[WantedTrack]:
    """Return the tracks for a stream on one party; those that receive nothing have names that no dialect sees.

    Args:
        info: of the track that receives; its channel is the party.
        bridge_id: the mixing bridge of our application that holds the party; None: the party is anywhere else.
        alone: nobody else is in this bridge, so that what is played into it reaches only the party.
    """
    uses = _uses(info.channel_id, bridge_id, listen, speak, alone=alone)
    tracks = []
    for index, (tap_point, hears, speaks) in enumerate(uses):
        own = info if hears else replace(info, name=f"({'speaks' if speaks else 'feeds'} {index})")
        tracks.append(WantedTrack(own, tap_point, speaks=speaks, hears=hears))
    return tracks


def _uses(
    party: str, bridge_id: str | None, listen: ClientDirection, speak: ClientDirection, *, alone: bool
) -> Iterable[tuple[TapPoint, bool, bool]]:
    """Where legs go, and whether each one receives and speaks."""
    hears = listen != "none"
    if speak == "none":
        # Nothing of ours is played, so that the tap can be shared with everyone who receives the same.
        if hears:
            yield Join(bridge_id) if bridge_id and listen == "both" else Snoop(party, listen, "none"), True, False
    elif bridge_id is None:
        # A snoop that whispers both ways discards both queues when one direction has no traffic for 500 ms
        # (main/audiohook.c); two that whisper one way each do not.
        yield Snoop(party, listen, "in" if speak == "in" else "out"), hears, True
        if speak == "both":
            yield Snoop(party, "none", "in"), False, True
    elif speak == "in" or (speak == "out" and not alone):
        # Something has to feed the bridge, or the party gets no audio into which the whisper could be mixed.
        yield Snoop(party, listen, speak), hears, True
        yield Join(bridge_id), False, False
    # In a bridge of ours a member receives everybody else, other streams included: that is the mix.
    # What the party alone says or hears takes a snoop.
    elif listen in ("both", "none"):
        yield Join(bridge_id), hears, True
    else:
        yield Snoop(party, listen, "none"), True, False
        yield Join(bridge_id), False, True


def conference_tracks(name: str, tap_point: TapPoint, *, listens: bool, speaks: bool) -> list[WantedTrack]:
    """Return the track for a stream on a conference: a member that receives all others and speaks to all."""
    # In a conference with one member, or none that speaks, Asterisk sends nothing.
    return [WantedTrack(TrackInfo(name), tap_point, speaks=speaks, hears=listens, steady=listens)]


def flow_tracks(
    leg: Leg,
    other: Leg | None,
    wanted: Mapping[str, FlowDirection],
    speak: FlowDirection,
    about: Callable[[str, Leg], TrackInfo],
) -> list[WantedTrack]:
    """Return the tracks that a stream of a flow has now.

    Args:
        leg: the flow's own. Others may be in its bridge: what is spoken to it alone is whispered.
        other: the party that is connected with it.
        wanted: what is asked for: tracks, and what each hears of its party.
        speak: who hears the application, seen from ``leg``.
        about: what the dialect may say about a track.
    """
    tracks: list[WantedTrack] = []
    # A track that receives may be the one that speaks, which saves a leg; not if it is another party's, or one of many.
    both_ways = speak if len(wanted) == 1 and TRANSFER not in wanted else ""
    for name, listen in wanted.items():
        of = other if name == TRANSFER else leg
        if of is not None and not of.gone.is_set():
            tracks += party_tracks(about(name, of), of.bridge_id, listen or "none", both_ways or "none", alone=False)
    if speak and not both_ways:
        tracks += party_tracks(about("", leg), leg.bridge_id, "none", speak, alone=False)
    return tracks
