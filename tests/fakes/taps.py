"""Taps that open media legs on no PBX, whose frames a test takes and sends one by one."""

from __future__ import annotations

import asyncio

from bridge.media.leg import MediaLeg
from bridge.taps.taps import TapPoint

FRAME = b"\1\0" * 160


class FakeTaps:
    """Opens media legs, as `bridge.taps.taps.Taps` does, but on no PBX."""

    def __init__(self) -> None:
        self.open_now: dict[MediaLeg, TapPoint] = {}
        self.opened: list[TapPoint] = []
        self.failures: list[Exception] = []
        """What the next attempts fail with."""
        self.close_s = 0.0
        """How long Asterisk takes to delete what was made for a leg."""
        self.admit = asyncio.Event()
        self.admit.set()

    async def open(self, leg: MediaLeg, place: TapPoint) -> MediaLeg:
        await self.admit.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.open_now[leg] = place
        self.opened.append(place)
        return leg

    async def close(self, tap: MediaLeg) -> None:
        self.open_now.pop(tap, None)
        await asyncio.sleep(self.close_s)

    def leg_at(self, place: TapPoint) -> MediaLeg:
        (leg,) = (leg for leg, where in self.open_now.items() if where == place)
        return leg


def playing(leg: MediaLeg) -> bytes | None:
    """Take the next frame that a leg would send to Asterisk."""
    return leg.playout.take()
