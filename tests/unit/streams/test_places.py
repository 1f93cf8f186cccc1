"""The table of docs/decisions/taps.md, every combination, written down a second time."""

from __future__ import annotations

import itertools

import pytest

from bridge.streams.places import DIRECTIONS, Direction, LegPlace, places
from bridge.taps.taps import Join, Snoop

PARTY, BRIDGE = "party", "bridge"
JOINED = LegPlace(Join(BRIDGE), True, True)
SPEAKS_INTO_BRIDGE = LegPlace(Join(BRIDGE), False, True)
FEEDS_BRIDGE = LegPlace(Join(BRIDGE), False, False)


def snoop(spy: str, whisper: str, hears: bool = True, speaks: bool = True) -> LegPlace:
    return LegPlace(Snoop(PARTY, spy, whisper), hears, speaks)


IN_OUR_APPLICATION: dict[tuple[Direction, Direction], tuple[LegPlace, ...]] = {
    ("both", "both"): (JOINED,),
    ("both", "out"): (JOINED,),
    ("both", "in"): (snoop("both", "in"), FEEDS_BRIDGE),
    ("in", "both"): (snoop("in", "none", speaks=False), SPEAKS_INTO_BRIDGE),
    ("in", "out"): (snoop("in", "none", speaks=False), SPEAKS_INTO_BRIDGE),
    ("in", "in"): (snoop("in", "in"), FEEDS_BRIDGE),
    ("out", "both"): (snoop("out", "none", speaks=False), SPEAKS_INTO_BRIDGE),
    ("out", "out"): (snoop("out", "none", speaks=False), SPEAKS_INTO_BRIDGE),
    ("out", "in"): (snoop("out", "in"), FEEDS_BRIDGE),
}
ANYWHERE: dict[tuple[Direction, Direction], tuple[LegPlace, ...]] = {
    (listen, speak): (snoop(listen, "in"),)
    if speak == "in"
    else (snoop(listen, "out"),)
    if speak == "out"
    else (snoop(listen, "out"), snoop("none", "in", hears=False))
    for listen in DIRECTIONS
    for speak in DIRECTIONS
}
ALL = list(itertools.product(DIRECTIONS, DIRECTIONS))


@pytest.mark.parametrize(("listen", "speak"), ALL)
def test_in_our_application(listen: Direction, speak: Direction) -> None:
    assert places(PARTY, BRIDGE, listen, speak) == IN_OUR_APPLICATION[listen, speak]


@pytest.mark.parametrize(("listen", "speak"), ALL)
def test_anywhere_else(listen: Direction, speak: Direction) -> None:
    assert places(PARTY, None, listen, speak) == ANYWHERE[listen, speak]


@pytest.mark.parametrize(("listen", "speak"), ALL)
@pytest.mark.parametrize("bridge_id", [BRIDGE, None])
def test_what_holds_for_every_combination(bridge_id: str | None, listen: Direction, speak: Direction) -> None:
    found = places(PARTY, bridge_id, listen, speak)
    assert [leg.hears for leg in found].count(True) == 1, "each sound is heard once"
    assert 1 <= len(found) <= 2
    snoops = [leg.place for leg in found if isinstance(leg.place, Snoop)]
    assert all(place.whisper != "both" for place in snoops), "Asterisk throws both queues away"
    for leg in found:
        if isinstance(leg.place, Snoop):
            assert leg.hears == (leg.place.spy != "none")
            assert leg.speaks == (leg.place.whisper != "none")
    if bridge_id is not None:
        assert any(isinstance(leg.place, Join) for leg in found), "a bridge that nobody feeds is silent"


@pytest.mark.parametrize("listen", DIRECTIONS)
@pytest.mark.parametrize("bridge_id", [BRIDGE, None])
def test_who_says_nothing_has_one_leg_that_can_be_shared(bridge_id: str | None, listen: Direction) -> None:
    (leg,) = places(PARTY, bridge_id, listen, "none")
    joins = bridge_id is not None and listen == "both"
    assert leg == LegPlace(Join(BRIDGE) if joins else Snoop(PARTY, listen, "none"), hears=True, speaks=False)
