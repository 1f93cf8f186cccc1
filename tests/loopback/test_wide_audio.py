"""Legs above 8 kHz on an Asterisk whose AudioSocket carries 8 kHz only: the audio is right in both directions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge.audio.format import slin
from bridge.audio.playout import Playout
from bridge.calls.ids import OwnIds
from bridge.doctor.loopback import has_tone, tone
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg
from bridge.media.listener import Listener
from bridge.taps.sweep import sweep
from bridge.taps.taps import Join, Snoop, TapPoint, Taps
from tests.fakes.ari_client import FakeAriClient
from tests.fakes.old_pbx import CARRIES, DISCARDS, HANGS_UP, OldPbx
from tests.waiting import until

ALICE = Snoop("alice", "in", "none")
WHISPER = Snoop("alice", "none", "out")
JOIN = Join("ours")
OLD = pytest.mark.parametrize("manner", [DISCARDS, HANGS_UP])


class Scene:
    """Taps on an old PBX with a mixing bridge of the application."""

    def __init__(self, pbx: OldPbx, listener: Listener, context: str) -> None:
        self.pbx = pbx
        self.client = FakeAriClient(pbx)
        self.ids = OwnIds("app")
        address = f"127.0.0.1:{listener.port}"
        self.taps = Taps(self.client, listener, self.ids, lambda: address, context=context)
        pbx.handle("POST", "/bridges", {"bridgeId": "ours"})

    def leg(self, rate: int = 16000) -> tuple[MediaLeg, list[bytes]]:
        leg, heard = MediaLeg(slin(rate), Playout(slin(rate), 60_000), Counters()), list[bytes]()
        leg.on_audio = heard.append
        return leg, heard

    @property
    def tests(self) -> int:
        """How many channels were opened at 16 kHz."""
        return self.pbx.made.count("media slin16")


@asynccontextmanager
async def scene_of(manner: str, context: str = "") -> AsyncIterator[Scene]:
    listener = Listener(Counters())
    await listener.start("127.0.0.1", 0)
    pbx = OldPbx(listener.port, manner)
    scene = Scene(pbx, listener, context)
    scene.client.connect()
    try:
        yield scene
        await until(lambda: not (set(pbx.there) - {"ours"} or listener.connections or len(scene.taps)))
        assert (scene.taps.object_ids, listener.expected) == (set(), 0)
    finally:
        await scene.taps.stop()
        await listener.stop()
        await pbx.close()


def sounds(pcm: bytes, rate: int) -> bool:
    """Return whether the loud part of audio is the tone, at the right pitch and for as long as it was sent."""
    size = slin(rate).frame_bytes
    frames = [pcm[at : at + size] for at in range(0, len(pcm) - size + 1, size)]
    return sum(has_tone(frame, 1000, rate) for frame in frames) in (9, 10, 11)


@OLD
@pytest.mark.parametrize("point", [ALICE, WHISPER, JOIN])
@pytest.mark.parametrize("rate", [16000, 44100])
async def test_audio_is_converted_in_both_directions(manner: str, point: TapPoint, rate: int) -> None:
    async with scene_of(manner) as scene:
        leg, heard = scene.leg(rate)
        tap = await scene.taps.open(leg, point)
        channel_id = tap.object_ids[0] if tap.shared is None else next(iter(tap.shared.object_ids))
        assert scene.pbx.formats[channel_id] == slin(8000)
        leg.playout.play(tone(1000, 200, rate))
        scene.pbx.speak(channel_id, tone(1000, 200, 8000))
        await until(lambda: len(heard) >= 10)
        assert {len(frame) for frame in heard} == {slin(rate).frame_bytes}
        assert sounds(b"".join(heard), rate)
        if tap.shared is None:  # what only receives does not play
            await until(lambda: sounds(scene.pbx.heard[channel_id], 8000))
        await scene.taps.close(tap)
        assert scene.tests == 1


@OLD
async def test_the_entry_of_the_dialplan_serves_wide_legs_too(manner: str) -> None:
    async with scene_of(manner, "taps") as scene:
        leg, heard = scene.leg()
        tap = await scene.taps.open(leg, ALICE)
        assert scene.pbx.kinds == ["bridge", "snoop alice in none"]
        assert tap.shared is not None
        scene.pbx.speak(tap.shared.object_ids[0], tone(1000, 200, 8000))
        await until(lambda: len(heard) >= 10)
        assert sounds(b"".join(heard), 16000)
        await scene.taps.close(tap)


@OLD
async def test_a_connection_that_another_leg_takes_over_is_converted(manner: str) -> None:
    async with scene_of(manner) as scene:
        (one, _), (two, heard) = scene.leg(), scene.leg()
        tap = await scene.taps.open(one, JOIN)
        one.hand_over(two)
        two.playout.play(tone(1000, 200, 16000))
        (channel_id,) = tap.object_ids
        scene.pbx.speak(channel_id, tone(1000, 200, 8000))
        await until(lambda: len(heard) >= 10 and sounds(scene.pbx.heard[channel_id], 8000))
        assert sounds(b"".join(heard), 16000)
        two.close()
        await scene.taps.close(tap)


async def test_a_patched_build_carries_what_its_version_does_not() -> None:
    async with scene_of(CARRIES) as scene:
        leg, heard = scene.leg()
        tap = await scene.taps.open(leg, JOIN)
        (channel_id,) = tap.object_ids
        assert scene.pbx.formats[channel_id] == slin(16000)
        assert scene.tests == 2, "the test and the leg"
        scene.pbx.speak(channel_id, tone(1000, 200, 16000))
        await until(lambda: len(heard) >= 10)
        assert sounds(b"".join(heard), 16000)
        await scene.taps.close(tap)


@pytest.mark.parametrize("version", ["22.7.0", "23.4.1", "20.20.1", "21.12.3", "certified/22.8-cert2", "24.0.0"])
async def test_a_version_that_has_it_is_not_tested(version: str) -> None:
    async with scene_of(CARRIES) as scene:
        scene.client.disconnect()
        before = scene.tests
        scene.pbx.version = version
        scene.client.connect()
        leg, _ = scene.leg()
        tap = await scene.taps.open(leg, JOIN)
        assert leg.wire_fmt == slin(16000)
        assert scene.tests - before in (1, 2), "the leg, and the test that the first connection began"
        await scene.taps.close(tap)


async def test_an_asterisk_is_tested_once_per_connection() -> None:
    async with scene_of(HANGS_UP) as scene:
        for _ in range(2):
            leg, _ = scene.leg()
            await scene.taps.close(await scene.taps.open(leg, JOIN))
        assert scene.tests == 1
        scene.client.disconnect()
        scene.pbx.manner = CARRIES  # it was restarted as another version
        scene.client.connect()
        leg, _ = scene.leg()
        tap = await scene.taps.open(leg, JOIN)
        assert leg.wire_fmt == slin(16000)
        await scene.taps.close(tap)


async def test_the_sweep_spares_the_channel_of_the_test() -> None:
    async with scene_of(HANGS_UP) as scene:
        scene.pbx.gates["/silence$|externalMedia$"] = gate = asyncio.Event()
        leg, _ = scene.leg()
        opening = asyncio.create_task(scene.taps.open(leg, JOIN))
        await until(lambda: len(scene.taps.object_ids))
        assert await sweep(scene.client, scene.ids, lambda: scene.taps.object_ids) == (0, 0)
        gate.set()
        await scene.taps.close(await opening)
