"""Taps: which objects each point makes on the PBX, what is removed when opening fails, and what is left to the sweep.

Sharing, and real AudioSocket connections, are in tests/loopback/test_taps.py.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

import pytest

from bridge.ari.rest import Parameter
from bridge.audio.format import slin
from bridge.audio.playout import Playout
from bridge.calls.ids import OwnIds
from bridge.errors import AriError
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg
from bridge.media.listener import Listener
from bridge.taps.backend import OPEN_TIMEOUT_S
from bridge.taps.opener import REOPENINGS
from bridge.taps.sweep import sweep
from bridge.taps.taps import ConfBridge, Join, Snoop, Tap, TapPoint, Taps
from tests.fakes.ari_client import FakeAriClient
from tests.fakes.garbage import uncollected
from tests.fakes.media_pbx import MediaPbx
from tests.fakes.pbx_state import FakeChannel
from tests.fakes.virtual_time import now, pass_time, settle

CONTEXT = "media-tap"
LISTENS, WHISPERS = Snoop("party", "in", "none"), Snoop("party", "none", "out")
ROOM = ConfBridge("daily", CONTEXT)
REFUSED = AriError(500, "POST", "/channels", "refused by the test")
EXTERNAL_MEDIA, ADD = "^POST /channels/externalMedia$", "/addChannel$"
STEPS = [
    *((point, step) for point in (LISTENS, WHISPERS) for step in ("/snoop$", EXTERNAL_MEDIA, "^POST /bridges$", ADD)),
    *((Join("ours"), step) for step in (EXTERNAL_MEDIA, ADD)),
    *((ROOM, step) for step in (EXTERNAL_MEDIA, "/continue$")),
]
"""The requests that open a tap at each point."""
SNOOP = ["media", "mix", "snoop"]
"""What a snoop takes without the dialplan's entry."""
FRAME = b"\1\0" * 320


class Scene:
    """Taps on a PBX with one party, one mixing bridge of the application, and a ConfBridge room.

    Args:
        entry: whether the dialplan has the entry for taps.
    """

    def __init__(self, *, entry: bool = False) -> None:
        self.listener = Listener(Counters())
        self.pbx = MediaPbx(self.listener)
        self.client = FakeAriClient(self.pbx)
        self.client.connect()
        self.ids = OwnIds("bridge")
        self.taps = Taps(self.client, self.listener, self.ids, lambda: "127.0.0.1:9092", context=CONTEXT)
        self.pbx.come("party", "1001", state="Up")
        self.pbx.handle("POST", "/bridges", {"bridgeId": "ours"})
        self.pbx.dialplan[CONTEXT, "room-daily"] = (("ConfBridge", "daily"),)
        if entry:
            self.pbx.dialplan[CONTEXT, "audiosocket"] = (("Answer", ""), ("AudioSocket", ""))

    def leg(self, rate: int = 16000) -> MediaLeg:
        return MediaLeg(slin(rate), Playout(slin(rate), 60_000), Counters())

    async def open(self, point: TapPoint, rate: int = 16000) -> Tap:
        return await self.taps.open(self.leg(rate), point)

    @property
    def made(self) -> list[str]:
        """Ids of the objects of taps that exist, without their numbers."""
        ours = [each for each in (*self.pbx.channels, *self.pbx.bridges) if self.ids.ours(each)]
        return sorted(each.split("-")[3] for each in ours)

    def nothing_left(self) -> None:
        assert self.made == []
        assert (len(self.taps), self.taps.object_ids, self.listener.expected) == (0, set(), 0)


@pytest.fixture
async def scene() -> Scene:
    return Scene()


@pytest.mark.parametrize(
    ("point", "made"),
    [
        (LISTENS, SNOOP),
        (WHISPERS, SNOOP),
        (Join("ours"), ["media"]),
        (ROOM, ["media"]),
    ],
)
async def test_each_point_makes_its_objects_and_removes_them(scene: Scene, point: TapPoint, made: list[str]) -> None:
    tap = await scene.open(point)
    assert scene.made == made
    assert {each.split("-")[3] for each in scene.taps.object_ids} == set(made)
    await scene.taps.close(tap)
    await scene.taps.close(tap)  # again: does nothing
    scene.nothing_left()
    assert all(wire.leg.closed for wire in scene.pbx.wires.values())
    assert {"party"} <= set(scene.pbx.channels)
    assert {"ours"} <= set(scene.pbx.bridges)


async def test_the_audio_of_a_point_flows_both_ways(scene: Scene) -> None:
    leg = scene.leg()
    received: list[bytes] = []
    leg.on_audio = received.append
    leg.playout.play(FRAME * 3)  # waits until there is a connection
    tap = await scene.taps.open(leg, Join("ours"))
    wire = scene.pbx.wire_in("ours")
    wire.leg.received_frame(FRAME)
    await pass_time(0.1)
    assert (received, wire.heard) == ([FRAME], FRAME * 3)
    await scene.taps.close(tap)


@pytest.mark.parametrize("point", [WHISPERS, Join("ours"), ROOM])
async def test_audio_waits_until_somebody_receives_it(scene: Scene, point: TapPoint) -> None:
    """Asterisk connects the audio of a channel first and bridges the channel then, later if it is busy."""
    step = "/continue$" if point == ROOM else ADD
    scene.pbx.gates[step] = gate = asyncio.Event()
    leg = scene.leg()
    leg.playout.play(FRAME * 3)
    opening = asyncio.create_task(scene.taps.open(leg, point))
    await pass_time(0.5)
    (wire,) = scene.pbx.wires.values()
    assert wire.frames >= 20, "without frames Asterisk's channel may hang (asterisk#2089)"
    gate.set()
    tap = await opening
    await pass_time(0.1)
    assert wire.heard == FRAME * 3
    await scene.taps.close(tap)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("point", [WHISPERS, Join("ours")])
async def test_a_tap_whose_user_gave_up_while_it_was_opened_is_not_for_the_next_user(
    scene: Scene, point: TapPoint, fails: bool
) -> None:
    """A talk is interrupted as it begins, and the next one follows: it must be heard."""
    scene.pbx.gates[EXTERNAL_MEDIA] = gate = asyncio.Event()
    first = asyncio.create_task(scene.open(point))
    await settle()
    first.cancel()
    await settle()
    if fails:
        scene.pbx.failures[EXTERNAL_MEDIA] = REFUSED
    leg = scene.leg()
    leg.playout.play(FRAME * 3)
    opening = asyncio.create_task(scene.taps.open(leg, point))
    await settle()
    gate.set()
    if fails:
        with pytest.raises(AriError):
            await opening
    else:
        tap = await opening
        await pass_time(0.1)
        assert FRAME * 3 in [wire.heard for wire in scene.pbx.wires.values()]
        await scene.taps.close(tap)
    await asyncio.gather(first, return_exceptions=True)
    await pass_time(0.1)
    scene.nothing_left()


async def test_a_room_is_entered_by_the_dialplan(scene: Scene) -> None:
    tap = await scene.open(ROOM)
    assert scene.pbx.bridge_of(tap.media_id or "") == "room-daily"
    await scene.taps.close(tap)


async def test_a_room_that_the_dialplan_does_not_have_is_named_in_the_error(scene: Scene) -> None:
    with pytest.raises(AriError, match="room-monthly of the dialplan's context 'media-tap' led to no conference"):
        await scene.open(ConfBridge("monthly", CONTEXT))
    scene.nothing_left()


@pytest.mark.parametrize(("point", "step"), STEPS)
async def test_what_was_made_before_a_refused_request_is_removed(scene: Scene, point: TapPoint, step: str) -> None:
    scene.pbx.failures[step] = REFUSED
    with pytest.raises(AriError, match="refused by the test"):
        await scene.open(point)
    scene.nothing_left()


@pytest.mark.parametrize(("point", "step"), STEPS)
async def test_what_asterisk_makes_after_its_caller_has_given_up_is_removed(
    scene: Scene, point: TapPoint, step: str
) -> None:
    scene.pbx.gates[step] = gate = asyncio.Event()
    opening = asyncio.create_task(scene.open(point))
    await settle()
    opening.cancel()
    await settle()
    assert not opening.done(), "it waits for Asterisk's answer"
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await opening
    scene.nothing_left()


@pytest.mark.parametrize(("point", "step"), [*STEPS, (LISTENS, ""), (WHISPERS, "")])
async def test_closed_taps_leave_nothing_to_the_garbage_collector(scene: Scene, point: TapPoint, step: str) -> None:
    with uncollected() as left:
        if step:
            scene.pbx.failures[step] = AriError(500, "POST", "/channels", "refused by the test")
            with contextlib.suppress(AriError):  # pytest.raises would keep the traceback
                await scene.open(point)
                pytest.fail("it opened")
            scene.pbx.failures.clear()
        else:
            for tap in [await scene.open(point) for _ in range(2)]:
                await scene.taps.close(tap)
            del tap
        scene.nothing_left()
        await settle()
    assert not left


@pytest.mark.parametrize("point", [LISTENS, WHISPERS, Join("ours")])
@pytest.mark.parametrize("step", [ADD, EXTERNAL_MEDIA])
async def test_a_leg_that_breaks_while_it_is_opened_is_opened_again(scene: Scene, point: TapPoint, step: str) -> None:
    """Asterisk 22.5 and others may hang up a channel that is woken up without data."""
    scene.pbx.late[step] = gate = asyncio.Event()
    leg, closed, received = scene.leg(), list[str](), list[bytes]()
    leg.on_closed = lambda: closed.append("closed")
    leg.on_audio = received.append
    leg.playout.play(FRAME * 3)
    opening = asyncio.create_task(scene.taps.open(leg, point))
    await pass_time(0.1)
    (channel_id,) = scene.pbx.wires
    scene.pbx.break_media(channel_id)
    await settle()
    gate.set()
    tap = await opening
    await pass_time(0.1)
    own = (tap.shared or tap).leg
    (wire,) = (each for each in scene.pbx.wires.values() if each.leg is own and not each.ended)
    wire.leg.received_frame(FRAME)
    assert (closed, leg.closed, received) == ([], False, [FRAME])
    assert tap.shared is not None or wire.heard == FRAME * 3
    await scene.taps.close(tap)
    scene.nothing_left()


async def test_a_leg_that_breaks_again_and_again_is_an_error_that_names_its_cause(scene: Scene) -> None:
    real = scene.pbx.on_external_media

    def connect_and_break(channel: FakeChannel, params: Mapping[str, Parameter]) -> None:
        real(channel, params)
        scene.pbx.break_media(channel.id)

    scene.pbx.on_external_media = connect_and_break
    with pytest.raises(AriError, match="ended the media leg after its first audio, at 16000 Hz"):
        await scene.open(Join("ours"))
    assert len(scene.pbx.wires) == 1 + REOPENINGS
    scene.nothing_left()


async def test_a_party_that_has_ended_is_asterisks_error(scene: Scene) -> None:
    with pytest.raises(AriError) as raised:
        await scene.open(Snoop("nobody", "in", "none"))
    assert raised.value.status == 404
    scene.nothing_left()


async def test_audio_that_never_comes_is_an_error_that_names_the_address(scene: Scene) -> None:
    scene.pbx.deaf = True
    began = now()
    with pytest.raises(AriError, match=r"did not connect to 127\.0\.0\.1:9092\. Run asterisk-bridge doctor"):
        await scene.open(Join("ours"))
    assert now() - began == pytest.approx(OPEN_TIMEOUT_S, abs=0.1)
    scene.nothing_left()


async def test_audio_that_asterisk_cannot_deliver_is_an_error_that_names_the_address(scene: Scene) -> None:
    words = "An internal error prevented this request from being handled"
    scene.pbx.failures[EXTERNAL_MEDIA] = AriError(500, "POST", "/channels/externalMedia", words)
    with pytest.raises(AriError) as raised:
        await scene.open(Join("ours"))
    assert raised.value.message == (f"Asterisk cannot connect to 127.0.0.1:9092. Run asterisk-bridge doctor ({words})")
    scene.pbx.failures[EXTERNAL_MEDIA] = AriError(409, "POST", "/channels/externalMedia", "taken")
    with pytest.raises(AriError) as raised:
        await scene.open(Join("ours"))
    assert raised.value.message == "taken"
    scene.nothing_left()


async def test_the_entry_of_the_dialplan_takes_one_channel_at_8_khz_only() -> None:
    scene = Scene(entry=True)
    narrow = await scene.open(LISTENS, 8000)
    assert scene.made == ["snoop"]
    wide = await scene.open(LISTENS, 16000)
    assert scene.made == ["media", "mix", "snoop", "snoop"]
    for tap in (narrow, wide):
        await scene.taps.close(tap)
    scene.nothing_left()


async def test_an_entry_that_does_not_connect_is_replaced_by_external_media(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    tap = await scene.open(LISTENS, 8000)
    assert scene.made == SNOOP
    assert "add the following lines to extensions.conf" in caplog.text
    await scene.taps.close(tap)
    scene.nothing_left()


async def test_what_asterisk_does_not_delete_is_logged_and_left_to_the_sweep(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    tap = await scene.open(LISTENS)
    ids = set(scene.taps.object_ids)
    scene.pbx.failures["^DELETE"] = REFUSED
    await scene.taps.close(tap)
    assert caplog.text.count("cleanup failed, next sweep retries") == 3
    assert not scene.taps.object_ids, "the sweep may take it"
    scene.pbx.failures.clear()
    assert await sweep(scene.client, scene.ids, lambda: scene.taps.object_ids) == (1, 1)
    assert ids.isdisjoint({*scene.pbx.channels, *scene.pbx.bridges})


# The sweep


async def test_a_sweep_removes_our_orphans_and_nothing_else(scene: Scene) -> None:
    in_use = await scene.open(LISTENS)
    for channel_id in ("ab-bridge-00000000-media-1", "ab-other-00000000-media-1"):
        scene.pbx.come(channel_id, "x", state="Up")
    for bridge_id in ("ab-bridge-00000000-mix-1", "somebodys"):
        scene.pbx.handle("POST", "/bridges", {"bridgeId": bridge_id})
    before = {*scene.pbx.channels, *scene.pbx.bridges}
    assert await sweep(scene.client, scene.ids, lambda: scene.taps.object_ids) == (1, 1)
    removed = before - {*scene.pbx.channels, *scene.pbx.bridges}
    assert removed == {"ab-bridge-00000000-media-1", "ab-bridge-00000000-mix-1"}
    await scene.taps.close(in_use)


async def test_a_sweep_takes_nothing_that_is_being_made_meanwhile(scene: Scene) -> None:
    scene.pbx.gates["^GET /bridges"] = gate = asyncio.Event()
    sweeping = asyncio.create_task(sweep(scene.client, scene.ids, lambda: scene.taps.object_ids))
    await settle()
    tap = await scene.open(LISTENS)
    gate.set()
    assert await sweeping == (0, 0)
    assert scene.made == SNOOP
    await scene.taps.close(tap)


async def test_one_that_cannot_be_deleted_does_not_keep_the_others(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (1, 2):
        scene.pbx.come(f"ab-bridge-00000000-media-{number}", "x", state="Up")
    scene.pbx.failures["^DELETE /channels/.*-media-1"] = REFUSED
    await sweep(scene.client, scene.ids, lambda: ())
    assert [each for each in scene.pbx.channels if each.startswith("ab-")] == ["ab-bridge-00000000-media-1"]
    assert "refused by the test" in caplog.text
