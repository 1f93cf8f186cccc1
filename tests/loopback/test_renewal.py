"""Taps are renewed when the partner of their party changes, and where they are silent though the partner is heard."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from bridge.audio.format import slin
from bridge.audio.playout import Playout
from bridge.calls.ids import OwnIds
from bridge.calls.tracker import CallTracker
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg
from bridge.media.listener import Listener
from bridge.taps import renewal
from bridge.taps.renewal import Renewal
from bridge.taps.taps import Snoop, Taps
from tests.fakes.ari_client import FakeAriClient
from tests.fakes.late_pbx import SILENCE, LatePbx
from tests.waiting import until

SAYS = Snoop("alice", "in", "none")
RECEIVES = Snoop("alice", "out", "none")
SPEAKS = Snoop("alice", "none", "out")
VOICE = {name: bytes([number]) * 320 for number, name in enumerate(("alice", "bob", "carol"), 1)}


class Listening:
    """A user of taps: when its leg is closed it opens another, as tracks and players do."""

    def __init__(self, scene: Scene, point: Snoop, taps: Taps) -> None:
        self.heard: list[bytes] = []
        self._scene = scene
        self._taps = taps
        self._point = point
        self._task = asyncio.create_task(self._run())

    async def hears(self, pcm: bytes) -> None:
        """Wait until frames of this kind come, and no others any more."""
        await until(lambda: self.heard[-3:] == [pcm] * 3)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait((self._task,))

    async def _run(self) -> None:
        while True:
            leg, closed = self._scene.leg(), asyncio.Event()
            leg.on_audio = self.heard.append
            leg.on_closed = closed.set
            tap = await self._taps.open(leg, self._point)
            try:
                await closed.wait()
            finally:
                await self._taps.close(tap)


class Scene:
    """Alice, who talks to Bob, and Carol."""

    def __init__(self, pbx: LatePbx, listener: Listener) -> None:
        self.pbx = pbx
        self.counters = listener.counters
        client = FakeAriClient(pbx)
        self.tracker = CallTracker(client)
        self.taps = Taps(client, listener, OwnIds("app"), lambda: f"127.0.0.1:{listener.port}", context="taps")
        self.renewal = Renewal(self.taps, self.tracker, self.counters)
        # Another worker or bridge on the same PBX.
        self.others = Taps(client, listener, OwnIds("other"), lambda: f"127.0.0.1:{listener.port}", context="taps")
        self.others_renewal = Renewal(self.others, self.tracker, self.counters)
        pbx.come("carol", "carol", state="Up")
        client.connect()
        self.users: list[Listening] = []
        self._talking = asyncio.create_task(self._talk())

    def leg(self) -> MediaLeg:
        return MediaLeg(slin(8000), Playout(slin(8000), 60_000), self.counters)

    async def listen(self, point: Snoop, taps: Taps | None = None) -> Listening:
        user = Listening(self, point, self.taps if taps is None else taps)
        self.users.append(user)
        connections = len(self.pbx.connections)
        await until(lambda: len(self.pbx.connections) > connections)
        return user

    async def talk_to(self, partner: str, bridge: str) -> None:
        """Alice talks to somebody in another bridge."""
        if self.pbx.bridge_of("alice"):
            self.pbx.leave_bridge("alice")
        for name in (partner, "alice"):
            self.pbx.enter_bridge(bridge, name)
        await until(lambda: self.renewal.partner("alice") is not None)

    async def close(self) -> None:
        for user in self.users:
            await user.stop()
        self._talking.cancel()
        await self.renewal.stop()
        await self.others_renewal.stop()
        await self.tracker.close()
        await until(lambda: not (self.pbx.snoops("alice") or len(self.taps)))

    async def _talk(self) -> None:
        while True:
            self.pbx.talk({name: voice for name, voice in VOICE.items() if name not in self.muted})
            await asyncio.sleep(0.002)

    muted: frozenset[str] = frozenset({"alice"})


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    listener = Listener(Counters())
    await listener.start("127.0.0.1", 0)
    pbx = LatePbx(listener.port)
    scene = Scene(pbx, listener)
    await scene.tracker.wait_synced(3)
    await scene.talk_to("bob", "first")
    yield scene
    await scene.close()
    await pbx.close()
    await listener.stop()


async def test_when_the_partner_changes_all_taps_are_closed_before_any_is_opened(scene: Scene) -> None:
    receives, _, _ = [await scene.listen(point) for point in (RECEIVES, SAYS, SPEAKS)]
    await until(lambda: VOICE["bob"] in receives.heard)
    before = scene.pbx.snoops("alice")
    await scene.talk_to("carol", "second")
    await until(lambda: VOICE["carol"] in receives.heard)
    await until(lambda: len(scene.pbx.snoops("alice")) == 3)
    assert not set(before) & set(scene.pbx.snoops("alice"))
    assert scene.counters.taps_renewed == 3


@pytest.mark.parametrize("theirs", [RECEIVES, SAYS])
async def test_taps_of_another_worker_are_renewed_at_the_same_time(scene: Scene, theirs: Snoop) -> None:
    receives = await scene.listen(RECEIVES)
    await scene.listen(theirs, scene.others)
    before = set(scene.pbx.snoops("alice"))
    assert len(before) == 2
    await scene.talk_to("carol", "second")
    await until(lambda: VOICE["carol"] in receives.heard)
    await until(lambda: len(scene.pbx.snoops("alice")) == 2)
    assert not before & set(scene.pbx.snoops("alice"))


async def test_what_the_party_says_is_not_disturbed_until_somebody_listens_to_what_it_receives(scene: Scene) -> None:
    await scene.listen(SAYS)
    (before,) = scene.pbx.snoops("alice")
    await scene.talk_to("carol", "second")
    await asyncio.sleep(0.05)
    assert scene.pbx.snoops("alice") == [before]
    receives = await scene.listen(RECEIVES)
    await until(lambda: VOICE["carol"] in receives.heard)
    await until(lambda: len(scene.pbx.snoops("alice")) == 2)
    assert before not in scene.pbx.snoops("alice")


async def test_the_same_partner_again_is_no_change_nor_is_a_third_party(scene: Scene) -> None:
    await scene.listen(RECEIVES)
    (before,) = scene.pbx.snoops("alice")
    scene.pbx.enter_bridge("first", "carol")
    await until(lambda: scene.renewal.partner("alice") is None)
    scene.pbx.leave_bridge("carol")
    await scene.talk_to("bob", "second")
    await asyncio.sleep(0.05)
    assert scene.pbx.snoops("alice") == [before]


async def test_a_partner_who_takes_the_place_of_another_in_the_same_bridge_is_noticed(scene: Scene) -> None:
    receives = await scene.listen(RECEIVES)
    scene.pbx.enter_bridge("first", "carol")
    scene.pbx.leave_bridge("bob")
    await until(lambda: VOICE["carol"] in receives.heard)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "LOOK_S", 0.02)
    monkeypatch.setattr(renewal, "SILENT_FRAMES", 5)
    monkeypatch.setattr(renewal, "COMPARE_S", 0.1)
    monkeypatch.setattr(renewal, "WAITS_S", (0.05,))


@pytest.mark.usefixtures("quick")
async def test_silence_although_the_partner_is_heard_is_repaired_counted_and_logged_once(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    receives = await scene.listen(RECEIVES)
    scene.renewal.start()
    await until(lambda: VOICE["bob"] in receives.heard)
    scene.pbx.lose_track("alice")
    await until(lambda: scene.counters.silences_repaired)
    await receives.hears(VOICE["bob"])
    await asyncio.sleep(0.1)
    assert (scene.counters.silences_repaired, scene.counters.taps_renewed) == (1, 1)
    (line,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "reopened and repaired channel=alice direction=out" in line.getMessage()
    assert not scene.pbx.snoops("bob")


@pytest.mark.usefixtures("quick")
async def test_silence_of_a_partner_who_says_nothing_is_left_alone(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.muted = frozenset({"alice", "bob"})
    receives = await scene.listen(RECEIVES)
    scene.renewal.start()
    await until(lambda: "snoop bob in none" in scene.pbx.made)
    await receives.hears(SILENCE)
    assert scene.counters.taps_renewed == 0
    scene.muted = frozenset({"alice"})
    await receives.hears(VOICE["bob"])
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.usefixtures("quick")
async def test_silence_that_renewal_does_not_end_is_no_repair(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await scene.listen(RECEIVES)
    scene.renewal.start()
    scene.pbx.foreign.add("alice")
    scene.pbx.lose_track("alice")
    await until(lambda: scene.counters.taps_renewed >= 3)
    assert scene.counters.silences_repaired == 0
    lines = [record.getMessage() for record in caplog.records if "still silent" in record.getMessage()]
    assert len(lines) == 1
