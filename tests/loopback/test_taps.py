"""Which objects taps make, what they share, and that nothing stays: against a PBX that keeps book."""

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
from bridge.taps import dialplan_entry as entry
from bridge.taps.taps import Snoop, Tap, Taps
from tests.fakes.ari_client import FakeAriClient
from tests.fakes.dialing_pbx import DialingPbx
from tests.waiting import until

ALICE = Snoop("alice", spy="in", whisper="none")
BOTH_WAYS = Snoop("alice", spy="in", whisper="out")
BY_MEDIA = ["bridge", "media slin", "snoop alice in none"]
FRAME = bytes(range(160)) * 2


class Scene:
    """Taps with a context of the dialplan, or none."""

    def __init__(self, pbx: DialingPbx, listener: Listener, context: str) -> None:
        self.pbx = pbx
        self.listener = listener
        client = FakeAriClient(pbx)
        client.connect()
        self.taps = Taps(client, listener, OwnIds("app"), lambda: f"127.0.0.1:{listener.port}", context=context)

    def leg(self, rate: int = 8000) -> tuple[MediaLeg, list[bytes]]:
        leg, heard = MediaLeg(slin(rate), Playout(slin(rate), 60_000), self.listener.counters), list[bytes]()
        leg.on_audio = heard.append
        return leg, heard

    async def open(self, place: Snoop = ALICE, rate: int = 8000) -> tuple[Tap, list[bytes]]:
        leg, heard = self.leg(rate)
        return await self.taps.open(leg, place), heard

    async def nothing_left(self) -> None:
        await until(lambda: not (self.pbx.there or self.listener.connections or len(self.taps)))
        assert not self.listener.expected
        assert not self.taps.object_ids


async def begun(scene: Scene) -> None:
    """Wait until the PBX has made the first object, and not a turn of the event loop longer."""
    while not scene.pbx.made:
        await asyncio.sleep(0)


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    server = Listener(Counters())
    await server.start("127.0.0.1", 0)
    yield server
    await server.stop()


@pytest.fixture
async def pbx(listener: Listener) -> AsyncIterator[DialingPbx]:
    pbx = DialingPbx(listener.port)
    yield pbx
    await pbx.close()


@pytest.fixture
async def scene(pbx: DialingPbx, listener: Listener) -> AsyncIterator[Scene]:
    scene = Scene(pbx, listener, "taps")
    yield scene
    await scene.nothing_left()


async def test_the_entry_serves_8_khz_with_one_channel_and_other_rates_take_external_media(scene: Scene) -> None:
    narrow, _ = await scene.open()
    assert scene.pbx.kinds == ["snoop alice in none"]
    assert list(scene.taps.object_ids) == scene.pbx.there
    wide, _ = await scene.open(rate=16000)
    assert scene.pbx.kinds == ["bridge", "media slin16", "snoop alice in none", "snoop alice in none"]
    await scene.taps.close(narrow)
    await scene.taps.close(wide)


async def test_without_a_context_it_is_external_media(pbx: DialingPbx, listener: Listener) -> None:
    scene = Scene(pbx, listener, "")
    tap, _ = await scene.open()
    assert pbx.kinds == BY_MEDIA
    await scene.taps.close(tap)
    await scene.nothing_left()


async def test_those_who_want_the_same_share_one_tap_until_the_last_has_gone(scene: Scene) -> None:
    (one, heard_one), (two, heard_two) = await asyncio.gather(scene.open(), scene.open())
    scene.pbx.say(FRAME)
    await until(lambda: heard_one and heard_two)
    three, heard_three = await scene.open()
    assert scene.pbx.made == ["snoop alice in none"]
    scene.pbx.say(FRAME)
    await until(lambda: len(heard_one) == 2)
    assert (heard_one, heard_two, heard_three) == ([FRAME] * 2, [FRAME] * 2, [FRAME])
    await scene.taps.close(one)
    await scene.taps.close(one)
    await scene.taps.close(three)
    scene.pbx.say(FRAME)
    await until(lambda: len(heard_two) == 3)
    assert (len(heard_one), len(heard_three)) == (2, 1)
    assert scene.listener.counters.frames_from_asterisk == 3, "what is shared is counted once"
    await scene.taps.close(two)
    assert not scene.pbx.there


@pytest.mark.parametrize("other", [Snoop("bob", "in", "none"), Snoop("alice", "out", "none"), BOTH_WAYS])
async def test_another_party_direction_or_one_that_speaks_has_its_own(scene: Scene, other: Snoop) -> None:
    taps = [await scene.open(place) for place in (ALICE, other)]
    assert len(scene.pbx.there) == 2
    for tap, _ in taps:
        await scene.taps.close(tap)


async def test_two_that_speak_do_not_share(scene: Scene) -> None:
    taps = [await scene.open(BOTH_WAYS) for _ in range(2)]
    assert scene.pbx.kinds == ["snoop alice in out"] * 2
    for tap, _ in taps:
        await scene.taps.close(tap)


async def test_callbacks_that_change_are_the_ones_that_are_called(scene: Scene) -> None:
    """A track that is silenced must hear no more, however long closing takes."""
    tap, heard = await scene.open()
    later: list[bytes] = []
    tap.leg.on_audio = later.append
    ticks: list[int] = []
    tap.leg.on_tick = lambda: ticks.append(1)
    other, heard_other = await scene.open()
    scene.pbx.say(FRAME)
    await until(lambda: later and heard_other and ticks)
    assert not heard
    tap.leg.on_audio = lambda _: None
    scene.pbx.say(FRAME)
    await until(lambda: len(heard_other) == 2)
    assert len(later) == 1
    await scene.taps.close(other)
    await scene.taps.close(tap)


async def test_a_listener_that_fails_loses_its_audio_and_the_others_do_not(scene: Scene) -> None:
    leg, _ = scene.leg()
    leg.on_audio = lambda _: 1 / 0  # type: ignore[assignment]
    lost = asyncio.Event()
    leg.on_closed = lost.set
    bad = await scene.taps.open(leg, ALICE)
    good, heard = await scene.open()
    for _ in range(3):
        scene.pbx.say(FRAME)
    await until(lambda: len(heard) == 3)
    assert lost.is_set()
    assert leg.closed
    await scene.taps.close(bad)
    scene.pbx.say(FRAME)
    await until(lambda: len(heard) == 4)
    await scene.taps.close(good)


async def test_a_tap_that_breaks_tells_all_and_is_opened_again_once(scene: Scene) -> None:
    taps = [(await scene.open())[0] for _ in range(3)]
    told: list[int] = []
    for number, tap in enumerate(taps):
        tap.leg.on_closed = partial(told.append, number)
    scene.pbx.hang_up(scene.pbx.there[0])
    await until(lambda: len(told) == 3)
    assert all(tap.leg.closed for tap in taps)
    again: list[Tap] = []
    for tap in taps:  # each owner closes what has broken and opens it again
        await scene.taps.close(tap)
        again.append((await scene.open())[0])
    assert scene.pbx.made == ["snoop alice in none"] * 2
    for tap in again:
        await scene.taps.close(tap)


async def test_who_comes_while_the_last_one_closes_gets_a_new_tap(scene: Scene) -> None:
    tap, _ = await scene.open()
    closing = asyncio.create_task(scene.taps.close(tap))
    await asyncio.sleep(0)
    other, heard = await scene.open()
    await closing
    scene.pbx.say(FRAME)
    await until(lambda: heard)
    await scene.taps.close(other)


async def test_a_listener_that_gives_up_while_it_is_opened_leaves_it_to_the_others(scene: Scene) -> None:
    first = asyncio.create_task(scene.open())
    second = asyncio.create_task(scene.open())
    await begun(scene)
    first.cancel()
    tap, heard = await second
    scene.pbx.say(FRAME)
    await until(lambda: heard)
    assert first.cancelled()
    assert scene.pbx.made == ["snoop alice in none"]
    await scene.taps.close(tap)


async def test_all_give_up_while_it_is_opened_and_nothing_stays(scene: Scene) -> None:
    tasks = [asyncio.create_task(scene.open()) for _ in range(2)]
    await begun(scene)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await scene.nothing_left()


async def test_a_party_that_is_gone_is_an_error_for_all_and_the_entry_is_not_blamed(scene: Scene) -> None:
    results = await asyncio.gather(*(scene.open(Snoop("gone", "in", "none")) for _ in range(2)), return_exceptions=True)
    assert [getattr(result, "status", None) for result in results] == [404, 404]
    await scene.nothing_left()
    tap, _ = await scene.open()
    assert scene.pbx.kinds == ["snoop alice in none"]
    await scene.taps.close(tap)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "bridge.taps.dialplan_entry"]


@pytest.mark.parametrize("fault", ["no context", "refused"])
async def test_an_entry_that_is_not_there_is_left_alone_for_a_while_and_told_once(
    pbx: DialingPbx, listener: Listener, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    now = 1000.0
    if fault == "refused":
        pbx.failures["/continue$"] = AriError(409, "POST", "/continue", "refused by the test")
    scene = Scene(pbx, listener, "taps" if fault == "refused" else "elsewhere")
    scene.taps._opener._backend._entry._clock = lambda: now
    for again in (False, False, True):
        if again:
            now += entry.TRY_AGAIN_S
        before = len(pbx.made)
        tap, _ = await scene.open(BOTH_WAYS)
        assert pbx.kinds == ["bridge", "media slin", "snoop alice in out"]
        assert len(pbx.made) - before == (4 if again or before == 0 else 3), "tried first, and after a while"
        await scene.taps.close(tap)
        await scene.nothing_left()
    lines = warnings(caplog)
    assert len(lines) == 5, lines
    assert lines[2] == "exten => audiosocket,1,Answer()"
    pbx.add_entry("elsewhere")
    pbx.failures.clear()
    now += entry.TRY_AGAIN_S
    tap, _ = await scene.open()
    assert pbx.kinds == ["snoop alice in none"], "the lines were added"
    await scene.taps.close(tap)
    await scene.nothing_left()


async def test_an_entry_that_does_not_reach_us_is_given_up(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(entry, "ENTER_TIMEOUT_S", 0.1)
    scene.pbx.deaf = True
    tap, heard = await scene.open()
    assert scene.pbx.kinds == BY_MEDIA
    assert warnings(caplog)
    scene.pbx.say(FRAME)
    await until(lambda: heard)
    await scene.taps.close(tap)


async def test_a_party_that_leaves_while_the_entry_is_tried_is_not_its_fault(
    pbx: DialingPbx, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(pbx, listener, "elsewhere")
    opening = asyncio.create_task(scene.open())
    await begun(scene)
    pbx.hang_up("alice")
    pbx.hang_up("bob")
    with pytest.raises(AriError):
        await opening
    await scene.nothing_left()
    assert not warnings(caplog)


async def test_a_shared_tap_by_the_entry_is_sent_little_and_any_other_all(scene: Scene) -> None:
    taps = [(await scene.open())[0], (await scene.open(BOTH_WAYS))[0], (await scene.open(rate=16000))[0]]
    ticks: list[int] = []
    taps[0].leg.on_tick = partial(ticks.append, 1)
    await asyncio.sleep(1.2)
    sent = scene.pbx.received
    assert 2 <= sent["snoop alice in none"] <= 4
    assert 50 <= sent["snoop alice in out"] <= 70
    assert 50 <= sent["media slin16"] <= 70
    assert 50 <= len(ticks) <= 70, "time passes for its listeners all the same"
    for tap in taps:
        await scene.taps.close(tap)
