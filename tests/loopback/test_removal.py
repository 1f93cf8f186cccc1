"""What is left on the PBX when streams end on a party that sends and receives no audio, and when requests fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest

from bridge.audio.format import slin
from bridge.audio.playout import Playout
from bridge.calls.ids import OwnIds
from bridge.errors import AriError
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg
from bridge.media.listener import Listener
from bridge.taps import removal, taps
from bridge.taps.taps import Snoop, Tap, Taps
from tests.fakes.ari_client import FakeAriClient
from tests.fakes.dialing_pbx import DialingPbx
from tests.waiting import until

LISTENS = Snoop("alice", "in", "none")
SPEAKS = Snoop("alice", "in", "out")
FRAME = bytes(range(160)) * 2


class Scene:
    """Taps on Alice, who sends and receives nothing until a test starts it."""

    def __init__(self, pbx: DialingPbx, listener: Listener) -> None:
        self.pbx = pbx
        self.listener = listener
        client = FakeAriClient(pbx)
        client.connect()
        self.taps = Taps(client, listener, OwnIds("app"), lambda: f"127.0.0.1:{listener.port}", context="taps")
        pbx.packets["alice"] = 0

    async def open(self, point: Snoop) -> tuple[Tap, list[bytes]]:
        leg, heard = MediaLeg(slin(8000), Playout(slin(8000), 1000), self.listener.counters), list[bytes]()
        leg.on_audio = heard.append
        return await self.taps.open(leg, point), heard

    async def close(self, tap: Tap) -> None:
        """Close a tap, and then its leg, as the user of a tap does."""
        await self.taps.close(tap)
        tap.leg.close()

    async def talk(self) -> None:
        """Let packets pass Alice from now on."""
        while True:
            self.pbx.packets["alice"] += 1
            await asyncio.sleep(0.002)


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setattr(removal, "PACKETS_S", 0.02)
    monkeypatch.setattr(removal, "GONE_S", 0.05)
    monkeypatch.setattr(taps, "RETIRE_S", 0.05)
    listener = Listener(Counters())
    await listener.start("127.0.0.1", 0)
    pbx = DialingPbx(listener.port)
    scene = Scene(pbx, listener)
    yield scene
    await scene.taps.stop()
    await until(lambda: not (pbx.there or listener.connections or len(scene.taps)))
    await pbx.close()
    await listener.stop()


@pytest.mark.parametrize("point", [LISTENS, SPEAKS])
async def test_streams_that_come_and_go_on_a_silent_party_use_one_snoop(scene: Scene, point: Snoop) -> None:
    for _ in range(5):
        tap, heard = await scene.open(point)
        scene.pbx.say(FRAME)
        await until(partial(bool, heard))
        await scene.close(tap)
    assert len(scene.pbx.made) == len(scene.pbx.there) == 1


@pytest.mark.parametrize("point", [LISTENS, SPEAKS])
async def test_what_is_kept_goes_when_a_packet_passes(scene: Scene, point: Snoop) -> None:
    tap, _ = await scene.open(point)
    await scene.close(tap)
    await asyncio.sleep(0.1)
    assert len(scene.pbx.there) == 1
    talking = asyncio.create_task(scene.talk())
    await until(lambda: not scene.pbx.there)
    talking.cancel()


async def test_what_is_kept_goes_with_its_party(scene: Scene) -> None:
    tap, _ = await scene.open(SPEAKS)
    await scene.close(tap)
    scene.pbx.hang_up("alice")
    scene.pbx.packets.clear()
    await until(lambda: not scene.pbx.there and not len(scene.taps))


async def test_where_packets_pass_a_tap_is_closed_immediately(scene: Scene) -> None:
    talking = asyncio.create_task(scene.talk())
    for point in (LISTENS, SPEAKS):
        tap, _ = await scene.open(point)
        await scene.close(tap)
        assert not scene.pbx.there
    talking.cancel()


async def test_what_a_kept_snoop_speaks_is_what_its_next_user_says(scene: Scene) -> None:
    first, _ = await scene.open(SPEAKS)
    first.leg.playout.play(FRAME * 5)
    await scene.close(first)
    second, _ = await scene.open(SPEAKS)
    assert second.leg is not first.leg
    assert second.leg.playout.queued_ms == 0
    assert not second.leg.closed
    await scene.close(second)


async def test_who_joins_while_it_is_looked_at_keeps_it(scene: Scene) -> None:
    scene.pbx.packets.clear()
    tap, _ = await scene.open(LISTENS)
    closing = asyncio.create_task(scene.taps.close(tap))
    other, heard = await scene.open(LISTENS)
    await closing
    scene.pbx.say(FRAME)
    await until(lambda: heard)
    assert len(scene.pbx.made) == 1
    await scene.close(other)


async def test_a_request_that_fails_is_made_again(scene: Scene) -> None:
    scene.pbx.packets.clear()
    tap, _ = await scene.open(SPEAKS)
    (snoop_id,) = scene.pbx.there
    scene.pbx.failures[f"DELETE /channels/{snoop_id}"] = AriError(500, "DELETE", f"/channels/{snoop_id}", "busy")
    connection = scene.pbx.connections[snoop_id]
    connection.pause_reading()  # the end of the connection must not end the channel
    await scene.close(tap)
    assert scene.pbx.there == [snoop_id]
    scene.pbx.failures.clear()
    await until(lambda: not scene.pbx.there)
    assert scene.pbx.requests.count(f"DELETE /channels/{snoop_id}") >= 2
