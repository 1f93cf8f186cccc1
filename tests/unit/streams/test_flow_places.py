"""Where the legs of a flow's streams go, every combination."""

from __future__ import annotations

import asyncio
import itertools
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from bridge.dialects.base import TrackInfo
from bridge.streams.flow_options import Direction
from bridge.streams.flow_places import flow_places, flow_tracks
from bridge.streams.places import LegPlace
from bridge.taps.taps import Join, Snoop

DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
PAIRS = list(itertools.product(DIRECTIONS, DIRECTIONS))
FEEDS = LegPlace(Join("b"), False, False)


def snoop(spy: str, whisper: str, hears: bool, speaks: bool) -> LegPlace:
    return LegPlace(Snoop("p", spy, whisper), hears, speaks)


IN_A_BRIDGE: dict[tuple[str, str], tuple[LegPlace, ...]] = {
    ("", ""): (),
    ("in", ""): (snoop("in", "none", True, False),),
    ("out", ""): (snoop("out", "none", True, False),),
    ("both", ""): (LegPlace(Join("b"), True, False),),
    ("", "both"): (LegPlace(Join("b"), False, True),),
    ("in", "both"): (snoop("in", "none", True, False), LegPlace(Join("b"), False, True)),
    ("out", "both"): (snoop("out", "none", True, False), LegPlace(Join("b"), False, True)),
    ("both", "both"): (LegPlace(Join("b"), True, True),),
    ("", "in"): (snoop("none", "in", False, True), FEEDS),
    ("in", "in"): (snoop("in", "in", True, True), FEEDS),
    ("out", "in"): (snoop("out", "in", True, True), FEEDS),
    ("both", "in"): (snoop("both", "in", True, True), FEEDS),
    ("", "out"): (snoop("none", "out", False, True), FEEDS),
    ("in", "out"): (snoop("in", "out", True, True), FEEDS),
    ("out", "out"): (snoop("out", "out", True, True), FEEDS),
    ("both", "out"): (snoop("both", "out", True, True), FEEDS),
}


@pytest.mark.parametrize(("listen", "speak"), PAIRS)
def test_in_a_bridge(listen: Direction, speak: Direction) -> None:
    assert flow_places("p", "b", listen, speak) == IN_A_BRIDGE[listen, speak]


@pytest.mark.parametrize(("listen", "speak"), PAIRS)
def test_in_no_bridge_all_is_by_snoops_that_whisper_one_way_each(listen: Direction, speak: Direction) -> None:
    legs = flow_places("p", None, listen, speak)
    assert [leg.place.spy for leg in legs if leg.hears and isinstance(leg.place, Snoop)] == [listen] * bool(listen)
    whispers = {leg.place.whisper for leg in legs if leg.speaks and isinstance(leg.place, Snoop)}
    assert whispers == {"": set(), "both": {"in", "out"}}.get(speak, {speak})
    for leg in legs:
        assert isinstance(leg.place, Snoop)
        assert (leg.place.spy != "none") == leg.hears
        assert (leg.place.whisper != "none") == leg.speaks


def leg(channel_id: str, bridge_id: str | None = "b") -> Any:
    return SimpleNamespace(id=channel_id, bridge_id=bridge_id, gone=asyncio.Event())


def about(name: str, of: Any) -> TrackInfo:
    return TrackInfo(name, of.id)


def test_the_transfer_track_is_there_while_the_other_leg_is() -> None:
    wanted: dict[str, Direction] = {"caller": "in", "transfer": "in"}
    (caller,) = flow_tracks(leg("p"), None, wanted, "", about)
    assert (caller.info.name, caller.place, caller.hears) == ("caller", Snoop("p", "in", "none"), True)
    other = leg("o")
    tracks = flow_tracks(leg("p"), other, wanted, "", about)
    assert [(track.info.name, track.place) for track in tracks] == [
        ("caller", Snoop("p", "in", "none")),
        ("transfer", Snoop("o", "in", "none")),
    ]
    other.gone.set()
    assert [track.info.name for track in flow_tracks(leg("p"), other, wanted, "", about)] == ["caller"]


def test_one_leg_serves_both_ways_where_that_is_exact() -> None:
    (mix,) = flow_tracks(leg("p"), None, {"mix": "both"}, "both", about)
    assert (mix.info.name, mix.place, mix.hears, mix.speaks) == ("mix", Join("b"), True, True)
    heard, spoken = flow_tracks(leg("p"), None, {"inbound": "in"}, "both", about)
    assert (heard.info.name, heard.hears, heard.speaks) == ("inbound", True, False)
    assert (spoken.place, spoken.hears, spoken.speaks) == (Join("b"), False, True)
    assert spoken.info.channel_id == "p"  # where keys are pressed


def test_what_only_speaks_is_one_leg_even_if_the_other_party_is_heard() -> None:
    (spoken,) = flow_tracks(leg("p"), None, {}, "both", about)
    assert (spoken.place, spoken.hears, spoken.speaks) == (Join("b"), False, True)
    heard, spoken = flow_tracks(leg("p"), leg("o"), {"transfer": "in"}, "both", about)
    assert (heard.place, heard.speaks) == (Snoop("o", "in", "none"), False)
    assert (spoken.place, spoken.speaks) == (Join("b"), True)


def test_names_of_what_no_dialect_is_told_are_no_tracks_that_can_be_asked_for() -> None:
    for listen, speak in PAIRS:
        tracks = flow_tracks(leg("p"), None, {"caller": listen} if listen else {}, speak, about)
        names = [track.info.name for track in tracks]
        assert len(set(names)) == len(names)
        assert all(name.startswith("(") != track.hears for name, track in zip(names, tracks, strict=True))
