"""A media leg between its connection and its owner."""

from __future__ import annotations

import pytest

from bridge.audio.format import slin
from bridge.audio.playout import Playout
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg

FRAME = bytes(range(1, 161)) * 2


class Wire:
    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def hang_up(self) -> None:
        self.written.append(b"")

    def hand_over(self, leg: MediaLeg) -> None:
        leg.attach(self)


def attached() -> tuple[MediaLeg, Wire, Counters]:
    counters = Counters()
    leg = MediaLeg(slin(8000), Playout(slin(8000), 1000), counters)
    wire = Wire()
    leg.attach(wire)
    return leg, wire, counters


async def test_a_frame_is_written_at_once_and_one_for_every_tick() -> None:
    leg, wire, counters = attached()
    leg.playout.play(FRAME)
    leg.tick(2)
    assert wire.written == [leg.header + bytes(320), leg.header + FRAME, leg.header + bytes(320)]
    assert (counters.frames_to_asterisk, counters.silent_frames_to_asterisk) == (3, 2)


@pytest.mark.parametrize("held_first", [True, False])
async def test_a_leg_that_is_held_sends_silence_and_keeps_what_it_plays(held_first: bool) -> None:
    counters, wire, ticks = Counters(), Wire(), list[str]()
    leg = MediaLeg(slin(8000), Playout(slin(8000), 1000), counters)
    leg.on_tick = lambda: ticks.append("tick")
    if held_first:
        leg.hold()
        leg.attach(wire)
    else:
        leg.attach(wire)
        leg.hold()
    leg.playout.play(FRAME * 2)
    leg.tick(2)
    assert wire.written == [leg.header + bytes(320)] * 3
    leg.release()
    leg.tick(2)
    assert wire.written[3:] == [leg.header + FRAME] * 2
    assert (counters.frames_to_asterisk, counters.silent_frames_to_asterisk, len(ticks)) == (5, 3, 3)


async def test_a_leg_that_is_held_writes_nothing_while_asterisk_does_not_read() -> None:
    leg, wire, counters = attached()
    leg.hold()
    leg.blocked = True
    leg.tick(3)
    assert (len(wire.written), counters.frames_blocked) == (1, 3)
    leg.blocked = False
    leg.tick(1)
    assert len(wire.written) == 2


async def test_a_leg_without_a_connection_may_be_released() -> None:
    leg = MediaLeg(slin(8000), Playout(slin(8000), 1000), Counters())
    leg.hold()
    leg.tick(1)
    leg.release()
    leg.tick(1)
    wire = Wire()
    leg.playout.play(FRAME)
    leg.attach(wire)
    assert wire.written == [leg.header + FRAME]


async def test_time_is_told_only_where_no_audio_tells_it() -> None:
    leg, _, counters = attached()
    ticks: list[str] = []
    leg.on_tick = lambda: ticks.append("tick")
    leg.on_audio = lambda pcm: ticks.append(f"{len(pcm)} bytes")
    leg.received_frame(FRAME)
    leg.tick(1)
    leg.tick(1)
    leg.received(0x10, FRAME[:160])
    leg.tick(1)
    leg.blocked = True
    leg.tick(1)
    assert ticks == ["320 bytes", "tick", "160 bytes", "tick"]
    assert (counters.frames_from_asterisk, counters.frames_blocked) == (2, 1)


async def test_marks_are_told_with_the_tick_that_passes_them() -> None:
    leg, _, _ = attached()
    told: list[str] = []
    leg.on_mark = told.append
    leg.playout.play(FRAME)
    leg.playout.mark("end")
    assert leg.playout.marked
    leg.tick(1)
    assert told == ["end"]
    assert not leg.playout.marked


async def test_a_watch_passes_everything_on_until_it_has_heard_something() -> None:
    leg, _, _ = attached()
    heard: list[bytes] = []
    leg.on_audio = heard.append
    watch = leg.watch()
    for _ in range(3):
        leg.received_frame(bytes(320))
    assert (watch.heard, watch.frames, watch.active) == (False, 3, True)
    leg.received_frame(FRAME)
    leg.received_frame(bytes(320))
    assert (watch.heard, watch.frames, watch.active) == (True, 3, False)
    assert heard == [bytes(320)] * 3 + [FRAME, bytes(320)]
    assert leg.sink == heard.append


async def test_a_watch_of_a_leg_that_gets_another_listener_is_over() -> None:
    leg, _, _ = attached()
    watch = leg.watch()
    heard: list[bytes] = []
    leg.on_audio = heard.append
    watch.end()
    leg.received_frame(FRAME)
    assert (watch.active, watch.heard, heard) == (False, False, [FRAME])


async def test_a_leg_that_has_given_its_connection_away_cannot_close_it() -> None:
    leg, wire, _ = attached()
    closed: list[str] = []
    leg.on_closed = lambda: closed.append("closed")
    other = MediaLeg(slin(8000), Playout(slin(8000), 1000), Counters())
    leg.hand_over(other)
    wire.written.clear()
    leg.tick(1)
    leg.close()
    assert (wire.written, closed) == ([], [])
    assert other.connected.is_set()
    other.close()
    assert wire.written == [b""]
