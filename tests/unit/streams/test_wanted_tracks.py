"""The table of docs/decisions/taps.md, every combination, written down a second time."""

from __future__ import annotations

import asyncio
import itertools
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from bridge.calls.call_record import Direction
from bridge.dialects.base import TrackInfo
from bridge.streams.flow_options import FlowDirection
from bridge.streams.wanted_tracks import (
    CLIENT_DIRECTIONS,
    DIRECTIONS,
    ClientDirection,
    conference_tracks,
    flow_tracks,
    party_tracks,
)
from bridge.taps.taps import Join, Snoop, TapPoint

PARTY, BRIDGE = "party", "bridge"
Use = tuple[TapPoint | None, bool, bool]
"""Where a leg goes, whether it receives audio, and whether it sends audio."""
JOINED: Use = (Join(BRIDGE), True, True)
SPEAKS_INTO_BRIDGE: Use = (Join(BRIDGE), False, True)
FEEDS_BRIDGE: Use = (Join(BRIDGE), False, False)
NONE: ClientDirection = "none"


def snoop(spy: str, whisper: str, captures: bool = True, plays: bool = True) -> Use:
    return (Snoop(PARTY, spy, whisper), captures, plays)


def uses(bridge_id: str | None, listen: ClientDirection, speak: ClientDirection, *, alone: bool = True) -> list[Use]:
    tracks = party_tracks(TrackInfo(listen, PARTY), bridge_id, listen, speak, alone=alone)
    names = [track.info.name for track in tracks]
    assert len(set(names)) == len(names)
    assert all(name.startswith("(") != track.captures for name, track in zip(names, tracks, strict=True))
    assert {track.info.channel_id for track in tracks} <= {PARTY}, "DTMF digits are sent to it"
    return [(track.tap_point, track.captures, track.plays) for track in tracks]


ALONE_IN_OUR_BRIDGE: dict[tuple[ClientDirection, Direction], list[Use]] = {
    ("both", "both"): [JOINED],
    ("both", "out"): [JOINED],
    ("both", "in"): [snoop("both", "in"), FEEDS_BRIDGE],
    ("in", "both"): [snoop("in", "none", plays=False), SPEAKS_INTO_BRIDGE],
    ("in", "out"): [snoop("in", "none", plays=False), SPEAKS_INTO_BRIDGE],
    ("in", "in"): [snoop("in", "in"), FEEDS_BRIDGE],
    ("out", "both"): [snoop("out", "none", plays=False), SPEAKS_INTO_BRIDGE],
    ("out", "out"): [snoop("out", "none", plays=False), SPEAKS_INTO_BRIDGE],
    ("out", "in"): [snoop("out", "in"), FEEDS_BRIDGE],
    ("none", "both"): [SPEAKS_INTO_BRIDGE],
    ("none", "out"): [SPEAKS_INTO_BRIDGE],
    ("none", "in"): [snoop("none", "in", captures=False), FEEDS_BRIDGE],
}
WITH_OTHERS_IN_IT = ALONE_IN_OUR_BRIDGE | {
    ("both", "out"): [snoop("both", "out"), FEEDS_BRIDGE],
    ("in", "out"): [snoop("in", "out"), FEEDS_BRIDGE],
    ("out", "out"): [snoop("out", "out"), FEEDS_BRIDGE],
    ("none", "out"): [snoop("none", "out", captures=False), FEEDS_BRIDGE],
}
ALL = list(itertools.product(CLIENT_DIRECTIONS, DIRECTIONS))
bridges = pytest.mark.parametrize("bridge_id", [BRIDGE, None])
whether_alone = pytest.mark.parametrize("alone", [True, False])


@pytest.mark.parametrize(("listen", "speak"), ALL)
def test_in_our_application(listen: ClientDirection, speak: Direction) -> None:
    assert uses(BRIDGE, listen, speak) == ALONE_IN_OUR_BRIDGE[listen, speak]
    assert uses(BRIDGE, listen, speak, alone=False) == WITH_OTHERS_IN_IT[listen, speak]


@whether_alone
@pytest.mark.parametrize(("listen", "speak"), ALL)
def test_anywhere_else(listen: ClientDirection, speak: Direction, alone: bool) -> None:
    first = snoop(listen, "in" if speak == "in" else "out", captures=listen != "none")
    second = [snoop("none", "in", captures=False)] if speak == "both" else []
    assert uses(None, listen, speak, alone=alone) == [first, *second]


@whether_alone
@bridges
@pytest.mark.parametrize(("listen", "speak"), ALL)
def test_what_holds_for_every_combination(
    bridge_id: str | None, listen: ClientDirection, speak: Direction, alone: bool
) -> None:
    found = uses(bridge_id, listen, speak, alone=alone)
    assert [captures for _, captures, _ in found].count(True) == (listen != "none"), "each sound is received once"
    assert 1 <= len(found) <= 2
    for place, captures, plays in found:
        if isinstance(place, Snoop):
            assert place.whisper != "both", "Asterisk discards both queues"
            assert captures == (place.spy != "none")
            assert plays == (place.whisper != "none")
    if bridge_id is not None:
        assert any(isinstance(place, Join) for place, _, _ in found), "a bridge that nobody feeds is silent"


@whether_alone
@pytest.mark.parametrize("listen", DIRECTIONS)
@bridges
def test_who_says_nothing_has_one_leg_that_can_be_shared(bridge_id: str | None, listen: Direction, alone: bool) -> None:
    (use,) = uses(bridge_id, listen, NONE, alone=alone)
    joins = bridge_id is not None and listen == "both"
    assert use == (Join(BRIDGE) if joins else Snoop(PARTY, listen, "none"), True, False)
    assert uses(bridge_id, NONE, NONE, alone=alone) == []


def test_a_conference_is_received_by_the_clock() -> None:
    for captures, plays in [(True, True), (True, False), (False, True)]:
        (track,) = conference_tracks("both", Join("c"), captures=captures, plays=plays)
        assert (track.tap_point, track.captures, track.plays, track.fills_silence) == (
            Join("c"),
            captures,
            plays,
            captures,
        )
        assert track.info.channel_id == "", "a conference has no phone"


# Flows


def leg(channel_id: str, bridge_id: str | None = "b") -> Any:
    return SimpleNamespace(id=channel_id, bridge_id=bridge_id, gone=asyncio.Event())


def about(name: str, of: Any) -> TrackInfo:
    return TrackInfo(name, of.id)


def test_the_transfer_track_is_there_while_the_other_leg_is() -> None:
    wanted: dict[str, FlowDirection] = {"caller": "in", "transfer": "in"}
    (caller,) = flow_tracks(leg("p"), None, wanted, "", about)
    assert (caller.info.name, caller.tap_point, caller.captures) == ("caller", Snoop("p", "in", "none"), True)
    other = leg("o")
    tracks = flow_tracks(leg("p"), other, wanted, "", about)
    assert [(track.info.name, track.tap_point) for track in tracks] == [
        ("caller", Snoop("p", "in", "none")),
        ("transfer", Snoop("o", "in", "none")),
    ]
    other.gone.set()
    assert [track.info.name for track in flow_tracks(leg("p"), other, wanted, "", about)] == ["caller"]


def test_one_leg_serves_both_ways_where_that_is_exact() -> None:
    (mix,) = flow_tracks(leg("p"), None, {"mix": "both"}, "both", about)
    assert (mix.info.name, mix.tap_point, mix.captures, mix.plays) == ("mix", Join("b"), True, True)
    heard, spoken = flow_tracks(leg("p"), None, {"inbound": "in"}, "both", about)
    assert (heard.info.name, heard.captures, heard.plays) == ("inbound", True, False)
    assert (spoken.tap_point, spoken.captures, spoken.plays) == (Join("b"), False, True)
    assert spoken.info.channel_id == "p"  # where DTMF digits are sent


def test_what_only_speaks_is_one_leg_even_if_the_other_party_is_heard() -> None:
    (spoken,) = flow_tracks(leg("p"), None, {}, "both", about)
    assert (spoken.tap_point, spoken.captures, spoken.plays) == (Join("b"), False, True)
    heard, spoken = flow_tracks(leg("p"), leg("o"), {"transfer": "in"}, "both", about)
    assert (heard.tap_point, heard.plays) == (Snoop("o", "in", "none"), False)
    assert (spoken.tap_point, spoken.plays) == (Join("b"), True)


def test_speak_out_of_a_flow_reaches_only_its_party() -> None:
    heard, feeds = flow_tracks(leg("p"), leg("o"), {"caller": "in"}, "out", about)
    assert (heard.tap_point, heard.captures, heard.plays) == (Snoop("p", "in", "out"), True, True)
    assert (feeds.tap_point, feeds.captures, feeds.plays) == (Join("b"), False, False)


@pytest.mark.parametrize(("listen", "speak"), list(itertools.product(get_args(FlowDirection), repeat=2)))
def test_tracks_that_receive_nothing_have_names_that_cannot_be_asked_for(
    listen: FlowDirection, speak: FlowDirection
) -> None:
    tracks = flow_tracks(leg("p"), None, {"caller": listen} if listen else {}, speak, about)
    names = [track.info.name for track in tracks]
    assert len(set(names)) == len(names)
    assert all(name.startswith("(") != track.captures for name, track in zip(names, tracks, strict=True))
