"""Playback to a leg: at its own pace, in turn, through moves and broken audio connections, and not beyond its end."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from bridge.control.leg import LegGone
from bridge.control.playback import RATE, SETTLE_S, Players
from bridge.errors import AriError
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg
from bridge.taps.taps import Join, Snoop, Tap, TapPoint, Taps
from tests.fakes.taps import FakeTaps
from tests.fakes.virtual_time import now, pass_time, settle
from tests.unit.control.house import House

SECOND = b"\1\0" * RATE


class TickingTaps(FakeTaps):
    """Takes a frame from each open media leg every 20 ms, as a connection does."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = b""
        self._ticking: dict[MediaLeg, asyncio.Task[None]] = {}

    async def open(self, leg: MediaLeg, place: TapPoint) -> Any:
        await super().open(leg, place)
        self._ticking[leg] = asyncio.create_task(self._tick(leg))
        return Tap(leg, place)

    async def close(self, tap: Any) -> None:
        self._ticking.pop(tap.leg).cancel()
        await super().close(tap.leg)

    def break_all(self) -> None:
        """Have every audio connection break."""
        for leg in self.open_now:
            leg.detach()

    async def _tick(self, leg: MediaLeg) -> None:
        while not leg.closed:
            await pass_time(0.02)
            self.heard += leg.playout.take() or b""
            for name in leg.playout.reached():
                leg.on_mark(name)


@pytest.fixture
async def taps() -> TickingTaps:
    return TickingTaps()


@pytest.fixture
async def players(taps: TickingTaps) -> Players:
    return Players(cast(Taps, taps), Counters())


async def test_it_takes_as_long_as_it_sounds_and_the_leg_is_held_in_a_bridge(
    taps: TickingTaps, players: Players
) -> None:
    house = House()
    leg = await house.caller()
    player = players.of(leg)
    began = now()
    await player.play(SECOND * 5, RATE)
    assert now() - began == pytest.approx(5, abs=0.1)
    assert taps.heard == SECOND * 5
    assert leg.bridge_id is not None
    assert taps.opened == [Join(leg.bridge_id)]
    await player.close()
    await player.close()
    assert taps.open_now == {}


async def test_several_wait_for_their_turns_and_one_that_is_cancelled_is_over(
    taps: TickingTaps, players: Players
) -> None:
    player = players.at(Snoop("party", "none", "out"))
    first, second, third = (asyncio.create_task(player.play(bytes([n, 0]) * RATE, RATE)) for n in (1, 2, 3))
    await pass_time(1.5)
    assert (first.done(), second.done()) == (True, False)
    second.cancel()
    await third
    assert len(taps.heard) < 2.7 * len(SECOND)
    assert set(taps.heard[::2]) == {1, 2, 3}
    assert taps.heard.endswith(b"\3\0" * RATE)
    await player.close()


async def test_stop_ends_all_that_plays_or_waits(taps: TickingTaps, players: Players) -> None:
    player = players.at(Join("b"))
    playing = [asyncio.create_task(player.play(SECOND * 60, RATE)) for _ in range(3)]
    await pass_time(1)
    player.stop()
    await asyncio.gather(*playing)
    assert len(taps.heard) < 1.1 * len(SECOND)
    await player.play(SECOND, RATE)  # and the next one plays
    await player.close()


async def test_a_broken_connection_is_restored_once_and_goes_on_where_it_was(
    taps: TickingTaps, players: Players
) -> None:
    player = players.at(Join("b"))
    playing = asyncio.create_task(player.play(SECOND * 3, RATE))
    await pass_time(1)
    taps.break_all()
    await playing
    assert taps.heard == SECOND * 3
    assert taps.opened == [Join("b")] * 2
    playing = asyncio.create_task(player.play(SECOND * 3, RATE))
    for _ in range(2):
        await pass_time(1)
        taps.break_all()
    with pytest.raises(AriError, match="broke repeatedly"):
        await playing
    await player.close()


async def test_it_follows_a_leg_that_moves(taps: TickingTaps, players: Players) -> None:
    house = House()
    leg = await house.caller()
    player = players.of(leg)
    playing = asyncio.create_task(player.play(SECOND * 3, RATE))
    await pass_time(1)
    await house.client.bridges.create(bridge_id="elsewhere")
    await leg.move_to("elsewhere")
    await playing
    assert taps.opened[1:] == [Join("elsewhere")]
    assert taps.heard == SECOND * 3
    await player.close()


async def test_no_audio_connection_is_made_for_a_party_that_hangs_up(taps: TickingTaps, players: Players) -> None:
    house = House()
    leg = await house.caller()
    player = players.of(leg)
    playing = asyncio.create_task(player.play(SECOND * 3, RATE))
    await pass_time(1)
    house.pbx.leave_bridge(leg.id)  # comes before the end, as its audio's end does
    await settle()
    taps.break_all()
    await pass_time(SETTLE_S / 2)
    house.pbx.hang_up(leg.id)
    with pytest.raises(LegGone):
        await playing
    assert len(taps.opened) == 1
    with pytest.raises(LegGone):
        await player.play(SECOND, RATE)
    await player.close()


async def test_what_asterisk_refuses_is_told(taps: TickingTaps, players: Players) -> None:
    taps.failures.append(AriError(500, "POST", "/channels/externalMedia", "no"))
    player = players.at(Join("b"))
    with pytest.raises(AriError, match="no"):
        await player.play(SECOND, RATE)
    await player.play(SECOND, RATE)
    await player.close()
