"""The tracks that a stream should have for the requested directions, and their tap points. Pure.

    listen   in: audio from the party    out: audio to the party    both: the mix    none
    speak    out: to the party    in: to the other parties, as if from the party    both: to all    none

One leg serves both directions where the result is exact; otherwise a second one is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from bridge.calls.call_record import Direction
from bridge.control.legs import Leg
from bridge.dialects.base import TrackInfo
from bridge.streams.flow_options import TRANSFER, FlowDirection
from bridge.taps.taps import Join, Snoop, TapPoint

DIRECTIONS: tuple[Direction, ...] = ("in", "out", "both")
ClientDirection = Literal["in", "out", "both", "none"]
"""Directions that a connecting client may request; at most one of them may be none."""
CLIENT_DIRECTIONS: tuple[ClientDirection, ...] = (*DIRECTIONS, "none")


class WantedTrack(Struct, frozen=True):
    """A track that a stream should have now.

    Args:
        info: facts that the dialect may send.
        tap_point: where its leg is attached; None: nowhere now, or the leg is open already (`Stream.adopt`).
        plays: the application's audio is played there.
        captures: audio from there goes to the application. If false, the dialect does not see the track.
        fills_silence: the application receives silence, by the clock, while Asterisk sends nothing.
    """

    info: TrackInfo
    tap_point: TapPoint | None
    plays: bool = False
    captures: bool = True
    fills_silence: bool = False

    def may_become(self, other: WantedTrack) -> bool:
        """Return whether this track can continue as the other one: same party, same directions."""
        same_party = self.tap_point == other.tap_point or self.info.channel_id == other.info.channel_id != ""
        return same_party and (self.plays, self.captures) == (other.plays, other.captures)


def party_tracks(
    info: TrackInfo, bridge_id: str | None, listen: ClientDirection, speak: ClientDirection, *, alone: bool = True
) -> list[WantedTrack]:
    """Return the tracks of a stream on one party; tracks that receive nothing have names that no dialect sees.

    Args:
        info: of the receiving track; its channel is the party.
        bridge_id: the mixing bridge of the Stasis application with the party; None: the party is elsewhere.
        listen: audio that the application receives.
        speak: who receives the application's audio.
        alone: the party is alone in this bridge, so audio played into it reaches only the party.
    """
    uses = _uses(info.channel_id, bridge_id, listen, speak, alone=alone)
    tracks = []
    for index, (tap_point, captures, plays) in enumerate(uses):
        own = info if captures else replace(info, name=f"({'plays' if plays else 'feeds'} {index})")
        tracks.append(WantedTrack(own, tap_point, plays=plays, captures=captures))
    return tracks


def _uses(
    party: str, bridge_id: str | None, listen: ClientDirection, speak: ClientDirection, *, alone: bool
) -> Iterable[tuple[TapPoint, bool, bool]]:
    """Yield tap points, and whether each one receives and sends."""
    captures = listen != "none"
    if speak == "none":
        # A receiving tap without playout can be shared by all streams that receive the same audio.
        if captures:
            yield Join(bridge_id) if bridge_id and listen == "both" else Snoop(party, listen, "none"), True, False
    elif bridge_id is None:
        # A snoop that whispers in both directions discards both queues when one direction has no traffic for 500 ms
        # (main/audiohook.c); two snoops that whisper in one direction each do not.
        yield Snoop(party, listen, "in" if speak == "in" else "out"), captures, True
        if speak == "both":
            yield Snoop(party, "none", "in"), False, True
    elif speak == "in" or (speak == "out" and not alone):
        # A feed for the bridge: without audio to the party, Asterisk has nothing to mix the whisper into.
        yield Snoop(party, listen, speak), captures, True
        yield Join(bridge_id), False, False
    # A member of the call's mixing bridge receives all others, other streams included: the mix. The audio from or to
    # the party alone takes a snoop.
    elif listen in ("both", "none"):
        yield Join(bridge_id), captures, True
    else:
        yield Snoop(party, listen, "none"), True, False
        yield Join(bridge_id), False, True


def conference_tracks(name: str, tap_point: TapPoint, *, captures: bool, plays: bool) -> list[WantedTrack]:
    """Return the track of a stream on a conference: a member that receives all others and sends to all."""
    # In a conference with one member, or without a sending one, Asterisk sends nothing.
    return [WantedTrack(TrackInfo(name), tap_point, plays=plays, captures=captures, fills_silence=captures)]


def flow_tracks(
    leg: Leg,
    other: Leg | None,
    wanted: Mapping[str, FlowDirection],
    speak: FlowDirection,
    about: Callable[[str, Leg], TrackInfo],
) -> list[WantedTrack]:
    """Return the current tracks of a stream of a flow.

    Args:
        leg: the flow's own. Its bridge may have other members: audio for the leg alone is whispered.
        other: the party connected with it.
        wanted: requested tracks, and the audio of each.
        speak: who receives the application's audio, seen from ``leg``.
        about: returns the facts about a track that the dialect may send.
    """
    tracks: list[WantedTrack] = []
    # One leg for both directions where possible: not for another party's track, or with several tracks.
    both_ways = speak if len(wanted) == 1 and TRANSFER not in wanted else ""
    for name, listen in wanted.items():
        of = other if name == TRANSFER else leg
        if of is not None and not of.gone.is_set():
            tracks += party_tracks(about(name, of), of.bridge_id, listen or "none", both_ways or "none", alone=False)
    if speak and not both_ways:
        tracks += party_tracks(about("", leg), leg.bridge_id, "none", speak, alone=False)
    return tracks
