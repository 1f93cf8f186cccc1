"""Conferences on a PBX that is written by hand: what happens while something else does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import msgspec
import pytest

from bridge.ari.client import AriClient
from bridge.ari.dispatch import Dispatcher, subscribe
from bridge.ari.model import Bridge, Channel, decode_event
from bridge.calls.ids import OwnIds
from bridge.calls.tracker import CallTracker
from bridge.conferences import local as local_conferences
from bridge.conferences.conferences import ConferenceExists, Conferences, Left, NoSuchConference, NotOurs
from bridge.control.legs import Leg, LegGone
from bridge.errors import AriError, Overloaded
from bridge.events.hub import Events
from bridge.taps.taps import ConfBridge, Join


class Pbx:
    """An Asterisk's channels and bridges in memory, with the events that they cause."""

    app = "bridge"
    trouble: str | None = None
    connected = True

    def __init__(self) -> None:
        self.present: dict[str, Channel] = {}
        self.mixing: dict[str, Bridge] = {}
        self.slow = asyncio.Event()
        """Making bridges waits for this."""
        self.slow.set()
        self.fails: AriError | None = None
        self.hung_up: list[str] = []
        self._dispatcher = Dispatcher()
        self._up: list[Callable[[], object]] = []
        self.on_event = self._dispatcher.on_event
        self.channels = self
        self.bridges = Bridges(self)

    def on_connected(self, callback: Callable[[], object]) -> Callable[[], None]:
        return subscribe(self._up, callback)

    def on_disconnected(self, callback: Callable[[], object]) -> Callable[[], None]:
        return subscribe([], callback)

    def reconnect(self) -> None:
        for callback in self._up:
            callback()

    async def list(self) -> list[Channel]:
        return list(self.present.values())

    async def get_variable(self, channel_id: str, name: str) -> str:
        assert name == "CHANNEL(linkedid)"
        return channel_id

    async def hangup(self, channel_id: str) -> None:
        self.hung_up.append(channel_id)
        self.gone(channel_id)

    def tell(self, kind: str, **what: Any) -> None:
        self._dispatcher.dispatch(decode_event(msgspec.json.encode({"type": kind, **what})))

    def come(self, channel_id: str, number: str = "", technology: str = "PJSIP") -> None:
        self.present[channel_id] = Channel(
            id=channel_id,
            name=f"{technology}/{channel_id}-01",
            state="Up",
            caller={"number": number, "name": f"N{number}"},  # type: ignore[arg-type]
            channelvars={"CHANNEL(linkedid)": channel_id},
        )
        self.tell("ChannelCreated", channel=self.present[channel_id])

    def enter(self, bridge_id: str, channel_id: str, **bridge: Any) -> None:
        for other in [other.id for other in self.mixing.values() if channel_id in other.channels]:
            self.leave(other, channel_id)
        known = self.mixing.get(bridge_id, Bridge(id=bridge_id, **bridge))
        self.mixing[bridge_id] = msgspec.structs.replace(known, channels=[*known.channels, channel_id])
        self.tell("ChannelEnteredBridge", channel=self.present[channel_id], bridge=self.mixing[bridge_id])

    def leave(self, bridge_id: str, channel_id: str) -> None:
        known = self.mixing[bridge_id]
        left = [other for other in known.channels if other != channel_id]
        self.mixing[bridge_id] = msgspec.structs.replace(known, channels=left)
        self.tell("ChannelLeftBridge", channel=self.present[channel_id], bridge=self.mixing[bridge_id])

    def gone(self, channel_id: str) -> None:
        for bridge_id in [bridge.id for bridge in self.mixing.values() if channel_id in bridge.channels]:
            self.leave(bridge_id, channel_id)
        self.tell("ChannelDestroyed", channel=self.present.pop(channel_id))


class Bridges:
    """The bridges of ARI."""

    def __init__(self, pbx: Pbx) -> None:
        self._pbx = pbx

    async def list(self) -> list[Bridge]:
        return list(self._pbx.mixing.values())

    async def create(self, *, bridge_id: str, type: str, name: str) -> None:
        assert type.startswith("mixing")
        await self._pbx.slow.wait()
        if self._pbx.fails is not None:
            raise self._pbx.fails
        bridge = self._pbx.mixing[bridge_id] = Bridge(id=bridge_id, creator="Stasis", name=name)
        self._pbx.tell("BridgeCreated", bridge=bridge)

    async def destroy(self, bridge_id: str) -> None:
        if self._pbx.fails is not None:
            raise self._pbx.fails
        bridge = self._pbx.mixing.pop(bridge_id, None)
        if bridge is not None:
            self._pbx.tell("BridgeDestroyed", bridge=bridge)


class Phone:
    """A leg on that PBX."""

    def __init__(self, pbx: Pbx, number: str) -> None:
        self.id = f"c-{number}"
        self.gone = asyncio.Event()
        self.bridge_id: str | None = None
        self.muted = False
        self.went_to = ""
        self.slow = asyncio.Event()
        self.slow.set()
        self._pbx = pbx
        pbx.come(self.id, number)

    async def answer(self) -> None:
        await asyncio.sleep(0)

    async def move_to(self, bridge_id: str) -> None:
        await self.slow.wait()
        if bridge_id not in self._pbx.mixing:
            raise AriError(404, "POST", "/bridges", "Bridge not found")
        self._pbx.enter(bridge_id, self.id)
        self.bridge_id = bridge_id

    async def leave_bridge(self) -> None:
        assert self.bridge_id is not None
        self._pbx.leave(self.bridge_id, self.id)
        self.bridge_id = None

    async def mute(self, direction: str) -> None:
        assert direction == "in"
        self.muted = True

    async def unmute(self, direction: str) -> None:
        assert direction == "in"
        self.muted = False

    async def visit_dialplan(self, extension: str) -> None:
        self.went_to = extension

    async def hang_up(self) -> None:
        self._pbx.gone(self.id)
        self.gone.set()


class Story(list[str]):
    """What was published, in short."""

    def __init__(self, hub: Events) -> None:
        hub.subscribe(lambda event: self.note(event.type, dict(event.data)))

    def note(self, kind: str, data: dict[str, Any]) -> None:
        self.append(
            " ".join(filter(None, [kind.removeprefix("conference_"), data["conference_id"], data.get("number")]))
        )


@pytest.fixture
async def pbx() -> Pbx:
    return Pbx()


@pytest.fixture
async def tracker(pbx: Pbx) -> AsyncIterator[CallTracker]:
    tracker = CallTracker(cast(AriClient, pbx))
    await settle()
    yield tracker
    await tracker.close()


@pytest.fixture
def hub() -> Events:
    return Events()


@pytest.fixture
def story(hub: Events) -> Story:
    return Story(hub)


@pytest.fixture
async def conferences(pbx: Pbx, tracker: CallTracker, hub: Events) -> AsyncIterator[Conferences]:
    conferences = Conferences(cast(AriClient, pbx), tracker, OwnIds("bridge"), hub, context="ways-in")
    yield conferences
    await conferences.stop()
    assert conferences.object_ids == set()


async def settle() -> None:
    """Let everything run that can run without time passing."""
    for _ in range(60):
        await asyncio.sleep(0)


def joining(conferences: Conferences, phone: Phone, conference_id: str, **options: bool) -> asyncio.Task[Left]:
    return asyncio.create_task(conferences.join(cast(Leg, phone), conference_id, **options))


def members(conferences: Conferences, conference_id: str) -> list[str]:
    conference = conferences.get(conference_id)
    assert conference is not None
    return [participant.number for participant in conference.participants]


async def test_made_joined_left_and_ended(pbx: Pbx, conferences: Conferences, story: Story) -> None:
    made = await conferences.create("Weekly", "weekly")
    assert (made.id, made.name, made.kind, made.auto_delete) == ("weekly", "Weekly", "bridge", False)
    (bridge_id,) = conferences.object_ids
    assert conferences.tap_point("weekly") == Join(bridge_id)
    alice, bob = Phone(pbx, "1001"), Phone(pbx, "1002")
    joined = [joining(conferences, phone, "weekly") for phone in (alice, bob)]
    await settle()
    assert members(conferences, "weekly") == ["1001", "1002"]
    pbx.come("ab-bridge-01234567-media-00000001", technology="AudioSocket")
    pbx.enter(bridge_id, "ab-bridge-01234567-media-00000001")
    assert members(conferences, "weekly") == ["1001", "1002"]
    await alice.hang_up()
    with pytest.raises(LegGone):
        await joined[0]
    ended: list[str] = []
    conferences.on_ended(lambda conference_id: ended.append(f"{conference_id} {len(pbx.mixing[bridge_id].channels)}"))
    await conferences.delete("weekly")
    assert ended == ["weekly 2"], "told before anybody is let go"
    assert await joined[1] == "deleted"
    assert (bob.bridge_id, bridge_id in pbx.mixing, pbx.hung_up) == (None, False, [])
    assert story == [
        "created weekly", "joined weekly 1001", "joined weekly 1002", "left weekly 1001", "left weekly 1002",
        "deleted weekly",
    ]  # fmt: skip


async def test_what_cannot_be(pbx: Pbx, conferences: Conferences) -> None:
    await conferences.create(id="here")
    for taken in ("here", "720"):
        if taken == "720":
            pbx.come("c-1")
            pbx.enter("room", "c-1", creator="ConfBridge", name="720")
        with pytest.raises(ConferenceExists):
            await conferences.create(id=taken)
    for bad in ("", " a", "../x", "a\nb", "..", "x" * 129):
        with pytest.raises(ValueError, match="id"):
            await conferences.create(id=bad)
    with pytest.raises(ValueError, match="name"):
        await conferences.create("a\nb")
    with pytest.raises(NoSuchConference):
        await conferences.delete("nowhere")
    with pytest.raises(NoSuchConference):
        conferences.tap_point("nowhere")
    with pytest.raises(NoSuchConference):
        await conferences.mute("here", "nobody")
    with pytest.raises(NoSuchConference):
        await joining(conferences, Phone(pbx, "1001"), "nowhere")
    assert len((await conferences.create()).id) == 36
    assert len(conferences.list()) == 3
    pbx.gone("c-1")


async def test_there_is_a_limit(conferences: Conferences, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_conferences, "MAX_CONFERENCES", 2)
    for name in ("one", "two"):
        await conferences.create(name, name)
    with pytest.raises(Overloaded, match="2 conferences"):
        await conferences.create("three", "three")
    await conferences.delete("one")
    assert (await conferences.create("three", "three")).id == "three"


async def test_one_that_asterisk_does_not_make_is_none(pbx: Pbx, conferences: Conferences, story: Story) -> None:
    pbx.fails = AriError(500, "POST", "/bridges", "no")
    with pytest.raises(AriError):
        await conferences.create(id="x")
    alice = Phone(pbx, "1001")
    with pytest.raises(AriError):
        await joining(conferences, alice, "y", create=True)
    pbx.fails = None
    assert (conferences.list(), conferences.object_ids, story) == ([], set(), [])


async def test_its_bridge_is_in_use_before_it_is_there(pbx: Pbx, conferences: Conferences) -> None:
    pbx.slow.clear()
    making = asyncio.create_task(conferences.create(id="x"))
    await settle()
    assert len(conferences.object_ids) == 1
    making.cancel()  # who asked has gone; the request is carried out all the same
    await settle()
    pbx.slow.set()
    await settle()
    assert set(conferences.object_ids) == set(pbx.mixing)
    await conferences.delete("x")
    assert pbx.mixing == {}


async def test_two_who_join_what_is_not_there_meet_and_the_last_one_ends_it(
    pbx: Pbx, conferences: Conferences, story: Story
) -> None:
    pbx.slow.clear()
    alice, bob = Phone(pbx, "1001"), Phone(pbx, "1002")
    first = joining(conferences, alice, "adhoc", create=True)
    second = joining(conferences, bob, "adhoc", create=True)
    await settle()
    pbx.slow.set()
    await settle()
    assert members(conferences, "adhoc") == ["1001", "1002"]
    assert len(pbx.mixing) == 1
    await conferences.kick("adhoc", alice.id)
    assert await first == "kicked"
    assert alice.bridge_id is None
    await settle()
    assert members(conferences, "adhoc") == ["1002"]
    await bob.hang_up()
    with pytest.raises(LegGone):
        await second
    await settle()
    assert (conferences.get("adhoc"), pbx.mixing) == (None, {})
    assert story[-2:] == ["left adhoc 1002", "deleted adhoc"]


async def test_who_is_moved_elsewhere_has_left(pbx: Pbx, conferences: Conferences) -> None:
    await conferences.create(id="x")
    alice = Phone(pbx, "1001")
    task = joining(conferences, alice, "x", muted=True)
    await settle()
    assert alice.muted
    pbx.mixing["elsewhere"] = Bridge(id="elsewhere")
    await alice.move_to("elsewhere")
    assert await task == "left"
    assert alice.bridge_id == "elsewhere", "it is not taken out of where it is now"
    assert not alice.muted


async def test_a_join_that_is_cancelled_leaves(pbx: Pbx, conferences: Conferences) -> None:
    await conferences.create(id="x")
    alice = Phone(pbx, "1001")
    task = joining(conferences, alice, "x")
    await settle()
    await conferences.mute("x", alice.id)
    assert alice.muted
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (alice.bridge_id, alice.muted, members(conferences, "x")) == (None, False, [])
    task = joining(conferences, alice, "x")
    await settle()
    with pytest.raises(ValueError, match="already"):
        await joining(conferences, alice, "x")
    assert members(conferences, "x") == ["1001"]


async def test_ended_while_somebody_is_on_the_way(pbx: Pbx, conferences: Conferences) -> None:
    await conferences.create(id="x")
    alice = Phone(pbx, "1001")
    alice.slow.clear()
    task = joining(conferences, alice, "x")
    await settle()
    deleting = asyncio.create_task(conferences.delete("x"))
    await settle()
    assert conferences.get("x") is None
    alice.slow.set()
    assert await task == "deleted"
    await deleting
    assert (alice.bridge_id, pbx.mixing) == (None, {})


async def test_what_could_not_be_deleted_is_left_to_the_sweep(pbx: Pbx, conferences: Conferences) -> None:
    await conferences.create(id="x")
    pbx.fails = AriError(500, "DELETE", "/bridges", "no")
    with pytest.raises(AriError):
        await conferences.delete("x")
    pbx.fails = None
    assert len(pbx.mixing) == 1
    assert (conferences.object_ids, conferences.get("x")) == (set(), None)


async def test_somebody_else_deletes_the_bridge(pbx: Pbx, conferences: Conferences, story: Story) -> None:
    await conferences.create(id="x")
    alice = Phone(pbx, "1001")
    task = joining(conferences, alice, "x")
    await settle()
    (bridge_id,) = conferences.object_ids
    pbx.leave(bridge_id, alice.id)
    alice.bridge_id = None
    await pbx.bridges.destroy(bridge_id)
    assert await task in ("left", "deleted")
    await settle()
    assert conferences.get("x") is None
    assert story[-1] == "deleted x"


async def test_made_again_when_asterisk_has_forgotten_it(pbx: Pbx, conferences: Conferences, story: Story) -> None:
    await conferences.create(id="x")
    (bridge_id,) = conferences.object_ids
    pbx.mixing.clear()  # a restart: nothing is told
    pbx.reconnect()
    await settle()
    assert list(pbx.mixing) == [bridge_id]
    assert story == ["created x"]


async def test_rooms_come_and_go(pbx: Pbx, conferences: Conferences, story: Story) -> None:
    ended: list[str] = []
    conferences.on_ended(ended.append)
    pbx.come("announcer", technology="CBAnn")
    pbx.enter("b1", "announcer", creator="ConfBridge", name="720")
    assert conferences.list() == []
    pbx.come("c-1", "1001")
    pbx.enter("b1", "c-1")
    (room,) = conferences.list()
    assert (room.id, room.kind, room.auto_delete) == ("720", "confbridge", True)
    assert conferences.tap_point("720") == ConfBridge("720", "ways-in")
    assert conferences.object_ids == set(), "it is none of ours to sweep or to keep"
    with pytest.raises(NotOurs):
        await conferences.mute("720", "c-1")
    pbx.come("ab-bridge-01234567-media-00000001", technology="AudioSocket")
    pbx.enter("b1", "ab-bridge-01234567-media-00000001")
    await conferences.kick("720", "c-1")
    assert pbx.hung_up == ["c-1"]
    assert (conferences.list(), ended) == ([], ["720"]), "one with nobody but us in it is over"
    assert story == ["created 720", "joined 720 1001", "left 720 1001", "deleted 720"]


async def test_a_room_that_is_another_one_now(pbx: Pbx, conferences: Conferences, story: Story) -> None:
    pbx.come("c-1", "1001")
    pbx.enter("b1", "c-1", creator="ConfBridge", name="720")
    pbx.mixing["b2"] = Bridge(id="b2", creator="ConfBridge", name="720", channels=["c-1"])
    del pbx.mixing["b1"]
    pbx.reconnect()  # what happened meanwhile nobody told
    await settle()
    assert members(conferences, "720") == ["1001"]
    assert story == [
        "created 720", "joined 720 1001", "left 720 1001", "deleted 720", "created 720", "joined 720 1001",
    ]  # fmt: skip


async def test_a_leg_goes_into_a_room_by_the_dialplan(pbx: Pbx, conferences: Conferences) -> None:
    pbx.come("c-1", "1001")
    pbx.enter("b1", "c-1", creator="ConfBridge", name="720")
    alice = Phone(pbx, "1002")
    assert await joining(conferences, alice, "720", create=True) == "left"
    assert alice.went_to == "room-720"
    with pytest.raises(NotOurs):
        await joining(conferences, alice, "720", muted=True)


async def test_a_call_that_came_for_a_conference_ends_with_it(pbx: Pbx, conferences: Conferences) -> None:
    alice, bob = Phone(pbx, "1001"), Phone(pbx, "1002")
    await conferences.create(id="x")
    bringing = [asyncio.create_task(conferences.bring(cast(Leg, phone), "x")) for phone in (alice, bob)]
    await settle()
    assert members(conferences, "x") == ["1001", "1002"]
    await conferences.kick("x", alice.id)
    await bringing[0]
    assert alice.gone.is_set()
    await conferences.delete("x")
    await bringing[1]
    assert bob.gone.is_set()
    carol = Phone(pbx, "1003")
    await conferences.bring(cast(Leg, carol), "no/conference")
    assert carol.gone.is_set()


async def test_a_call_that_came_for_a_conference_and_is_moved_elsewhere_goes_on(
    pbx: Pbx, conferences: Conferences
) -> None:
    alice = Phone(pbx, "1001")
    await conferences.create(id="x")
    bringing = asyncio.create_task(conferences.bring(cast(Leg, alice), "x"))
    await settle()
    pbx.mixing["other"] = Bridge(id="other")
    await alice.move_to("other")
    await bringing
    assert members(conferences, "x") == []
    assert not alice.gone.is_set()


async def test_without_a_way_in_rooms_are_only_seen(pbx: Pbx, tracker: CallTracker, hub: Events) -> None:
    conferences = Conferences(cast(AriClient, pbx), tracker, OwnIds("bridge"), hub)
    pbx.come("c-1", "1001")
    pbx.enter("b1", "c-1", creator="ConfBridge", name="720")
    assert members(conferences, "720") == ["1001"]
    with pytest.raises(NotOurs, match=r"calling\.context"):
        conferences.tap_point("720")
    with pytest.raises(NotOurs, match=r"calling\.context"):
        await joining(conferences, Phone(pbx, "1002"), "720")


async def test_an_id_of_ours_hides_the_room_of_that_name(pbx: Pbx, conferences: Conferences) -> None:
    await conferences.create(id="720")
    pbx.come("c-1", "1001")
    pbx.enter("b1", "c-1", creator="ConfBridge", name="720")
    assert [conference.kind for conference in conferences.list()] == ["bridge"]
    await conferences.delete("720")
    assert [conference.kind for conference in conferences.list()] == ["confbridge"]


async def test_nothing_is_made_once_it_stops(pbx: Pbx, conferences: Conferences) -> None:
    await conferences.create(id="x")
    alice = Phone(pbx, "1001")
    task = joining(conferences, alice, "x")
    await settle()
    await conferences.stop()
    assert await task == "deleted"
    assert (pbx.mixing, pbx.hung_up) == ({}, [])
    with pytest.raises(AriError, match="shutting down"):
        await conferences.create(id="y")
