"""Where the legs of a stream go that a flow has started, for what it is to hear and who is to hear it. Pure.

As `bridge.streams.places`, and beyond it: a stream may hear nothing or say nothing (""), and in a bridge where the
party is not alone ``speak = "out"`` is heard by the party only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from bridge.control.legs import Leg
from bridge.dialects.base import TrackInfo
from bridge.streams.flow_options import TRANSFER, Direction
from bridge.streams.places import LegPlace, places
from bridge.streams.track import TrackPlace
from bridge.taps.taps import Join, Snoop


def flow_places(channel_id: str, bridge_id: str | None, listen: Direction, speak: Direction) -> tuple[LegPlace, ...]:
    """The legs for a stream on one party of a flow; the first one hears, if any does.

    Args:
        channel_id: the party.
        bridge_id: the mixing bridge that it is in; None while the dialplan has it.
    """
    if not speak:
        if not listen:
            return ()
        place = Join(bridge_id) if bridge_id and listen == "both" else Snoop(channel_id, spy=listen, whisper="none")
        return (LegPlace(place, True, False),)
    if bridge_id is None:
        legs = places(channel_id, None, listen or "both", speak)
        return legs if listen else tuple(_deaf(leg) for leg in legs)
    if speak == "both":
        return places(channel_id, bridge_id, listen, speak) if listen else (LegPlace(Join(bridge_id), False, True),)
    # Somebody has to feed the bridge, or the party gets no audio that the whisper could be mixed into.
    return (
        LegPlace(Snoop(channel_id, spy=listen or "none", whisper=speak), bool(listen), True),
        LegPlace(Join(bridge_id), False, False),
    )


def _deaf(leg: LegPlace) -> LegPlace:
    assert isinstance(leg.place, Snoop)
    return LegPlace(Snoop(leg.place.channel_id, spy="none", whisper=leg.place.whisper), False, leg.speaks)


def as_tracks(legs: Iterable[LegPlace], info: TrackInfo) -> list[TrackPlace]:
    """Tracks for legs; those that hear nothing get names of their own, which no dialect is told."""
    tracks = []
    for index, leg in enumerate(legs):
        own = info if leg.hears else replace(info, name=f"({'speaks' if leg.speaks else 'feeds'} {index})")
        tracks.append(TrackPlace(own, leg.place, speaks=leg.speaks, hears=leg.hears))
    return tracks


def flow_tracks(
    leg: Leg,
    other: Leg | None,
    wanted: Mapping[str, Direction],
    speak: Direction,
    about: Callable[[str, Leg], TrackInfo],
) -> list[TrackPlace]:
    """The tracks that a stream of a flow ought to have now.

    Args:
        leg: the flow's own.
        other: who is connected with it.
        wanted: what is asked for: tracks, and what each hears of its party.
        speak: who hears the application, seen from ``leg``.
        about: what the dialect may say about a track.
    """
    tracks: list[TrackPlace] = []
    # A track that hears may be the one that speaks, which saves a leg; not if it is the other party's or one of many.
    both_ways = speak if len(wanted) == 1 and TRANSFER not in wanted else ""
    for name, listen in wanted.items():
        of = other if name == TRANSFER else leg
        if of is not None and not of.gone.is_set():
            tracks += as_tracks(flow_places(of.id, of.bridge_id, listen, both_ways), about(name, of))
    if speak and not both_ways:
        tracks += as_tracks(flow_places(leg.id, leg.bridge_id, "", speak), about("", leg))
    return tracks
