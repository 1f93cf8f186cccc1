"""Conferences on a PBX that is written by hand: what happens while something else does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bridge.calls.ids import OwnIds
from bridge.calls.records import Records
from bridge.calls.tracker import CallTracker
from bridge.conferences import local as local_conferences
from bridge.conferences.conferences import ConferenceExists, Conferences, Left, NoSuchConference, NotControlled
from bridge.control.legs import Leg, LegEnded, Legs
from bridge.control.stasis import StasisCalls
from bridge.errors import AriError, Overloaded
from bridge.events.hub import Events
from bridge.taps.taps import ConfBridge, Join
from tests.fakes.ari_client import FakeAriClient
from tests.fakes.pbx import FakePbx
from tests.fakes.virtual_time import settle

OURS = "ab-bridge-01234567-media-00000001"


class Pbx(FakePbx):
    """A PBX with phones that call our application, and rooms of its dialplan."""

    def __init__(self) -> None:
        super().__init__()
        self.client = FakeAriClient(self, at_once=True)
        self.client.connect()
        self.records = Records(Events(), lambda: 0.0)
        self.legs = Legs(self.client, OwnIds("bridge"), self.records, context="ways-in")
        self.legs.claim = lambda *_: True
        self.stasis = StasisCalls(self.client, OwnIds("bridge"), self.legs)
        self.dialplan["from-internal", "750"] += (("Echo", ""),)
        self.dialplan["ways-in", "room-720"] = (("ConfBridge", "720"), ("Stasis", "bridge,resume"))
        self.slow = self.gates["POST /bridges$"] = asyncio.Event()
        """Creating bridges waits for this."""
        self.slow.set()
        self.joining = self.gates["/addChannel$"] = asyncio.Event()
        """Joining bridges waits for this."""
        self.joining.set()

    @property
    def hung_up(self) -> list[str]:
        """Channels that we have hung up."""
        return [each.split("/")[2] for each in self.requests if each.startswith("DELETE /channels/")]

    def fail(self, failure: AriError) -> None:
        """Fail requests for bridges from now on."""
        self.failures[" /bridges"] = failure

    def reconnect(self) -> None:
        self.client.disconnect()
        self.client.connect()

    def phone(self, number: str) -> Leg:
        """Have a phone call us; return its leg."""
        leg = self.legs.get(self.call(number, "750", channel_id=f"c-{number}"))
        assert leg is not None
        return leg

    def is_muted(self, leg: Leg) -> bool:
        return self.channels[leg.id].muted == {"in"}

    def room(self, bridge_id: str, channel_id: str) -> None:
        """Have a channel enter the dialplan's conference room 720."""
        self.enter_bridge(bridge_id, channel_id, creator="ConfBridge", name="720")


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
    tracker = CallTracker(pbx.client)
    tracker.subscribe(pbx.records.on_change)
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
    conferences = Conferences(pbx.client, tracker, OwnIds("bridge"), hub, context="ways-in")
    yield conferences
    await conferences.stop()
    assert conferences.object_ids == set()


def joining(conferences: Conferences, phone: Leg, conference_id: str, **options: bool) -> asyncio.Task[Left]:
    return asyncio.create_task(conferences.join(phone, conference_id, **options))


def members(conferences: Conferences, conference_id: str) -> list[str]:
    conference = conferences.get(conference_id)
    assert conference is not None
    return [participant.number for participant in conference.participants]


async def test_made_joined_left_and_ended(pbx: Pbx, conferences: Conferences, story: Story) -> None:
    made = await conferences.create("Weekly", "weekly")
    assert (made.id, made.name, made.kind, made.auto_delete) == ("weekly", "Weekly", "bridge", False)
    (bridge_id,) = conferences.object_ids
    assert conferences.tap_point("weekly") == Join(bridge_id)
    alice, bob = pbx.phone("1001"), pbx.phone("1002")
    joined = [joining(conferences, phone, "weekly") for phone in (alice, bob)]
    await settle()
    assert members(conferences, "weekly") == ["1001", "1002"]
    pbx.come(OURS, "", name="AudioSocket/1")
    pbx.enter_bridge(bridge_id, OURS)
    assert members(conferences, "weekly") == ["1001", "1002"]
    pbx.hang_up(alice.id)
    with pytest.raises(LegEnded):
        await joined[0]
    ended: list[str] = []
    conferences.on_ended(
        lambda conference_id: ended.append(f"{conference_id} {len(pbx.bridges[bridge_id]['channels'])}")
    )
    await conferences.delete("weekly")
    assert ended == ["weekly 2"], "told before anybody is let go"
    assert await joined[1] == "deleted"
    assert (bob.bridge_id, bridge_id in pbx.bridges, pbx.hung_up) == (None, False, [])
    assert story == [
        "created weekly", "joined weekly 1001", "joined weekly 1002", "left weekly 1001", "left weekly 1002",
        "deleted weekly",
    ]  # fmt: skip


async def test_what_cannot_be(pbx: Pbx, conferences: Conferences) -> None:
    await conferences.create(id="here")
    for taken in ("here", "720"):
        if taken == "720":
            pbx.come("c-1", "", state="Up")
            pbx.room("room", "c-1")
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
        await joining(conferences, pbx.phone("1001"), "nowhere")
    assert len((await conferences.create()).id) == 36
    assert len(conferences.list()) == 3
    pbx.hang_up("c-1")


async def test_there_is_a_limit(conferences: Conferences, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_conferences, "MAX_CONFERENCES", 2)
    for name in ("one", "two"):
        await conferences.create(name, name)
    with pytest.raises(Overloaded, match="2 conferences"):
        await conferences.create("three", "three")
    await conferences.delete("one")
    assert (await conferences.create("three", "three")).id == "three"


async def test_one_that_asterisk_does_not_make_is_none(pbx: Pbx, conferences: Conferences, story: Story) -> None:
    pbx.fail(AriError(500, "POST", "/bridges", "no"))
    with pytest.raises(AriError):
        await conferences.create(id="x")
    alice = pbx.phone("1001")
    with pytest.raises(AriError):
        await joining(conferences, alice, "y", create=True)
    pbx.failures.clear()
    assert (conferences.list(), conferences.object_ids, story) == ([], set(), [])


async def test_its_bridge_is_in_use_before_it_is_there(pbx: Pbx, conferences: Conferences) -> None:
    pbx.slow.clear()
    making = asyncio.create_task(conferences.create(id="x"))
    await settle()
    assert len(conferences.object_ids) == 1
    making.cancel()  # the requester has gone; the request is still carried out
    await settle()
    pbx.slow.set()
    await settle()
    assert set(conferences.object_ids) == set(pbx.bridges)
    await conferences.delete("x")
    assert pbx.bridges == {}


async def test_two_who_join_what_is_not_there_meet_and_the_last_one_ends_it(
    pbx: Pbx, conferences: Conferences, story: Story
) -> None:
    pbx.slow.clear()
    alice, bob = pbx.phone("1001"), pbx.phone("1002")
    first = joining(conferences, alice, "adhoc", create=True)
    second = joining(conferences, bob, "adhoc", create=True)
    await settle()
    pbx.slow.set()
    await settle()
    assert members(conferences, "adhoc") == ["1001", "1002"]
    assert len(pbx.bridges) == 1
    await conferences.kick("adhoc", alice.id)
    assert await first == "kicked"
    assert alice.bridge_id is None
    await settle()
    assert members(conferences, "adhoc") == ["1002"]
    await bob.hang_up()
    with pytest.raises(LegEnded):
        await second
    await settle()
    assert (conferences.get("adhoc"), pbx.bridges) == (None, {})
    assert story[-2:] == ["left adhoc 1002", "deleted adhoc"]


async def test_who_is_moved_elsewhere_has_left(pbx: Pbx, conferences: Conferences) -> None:
    await conferences.create(id="x")
    alice = pbx.phone("1001")
    task = joining(conferences, alice, "x", muted=True)
    await settle()
    assert pbx.is_muted(alice)
    await pbx.client.bridges.create(bridge_id="elsewhere")
    await alice.move_to("elsewhere")
    assert await task == "left"
    assert alice.bridge_id == "elsewhere", "it is not taken out of where it is now"
    assert not pbx.is_muted(alice)


async def test_a_join_that_is_cancelled_leaves(pbx: Pbx, conferences: Conferences) -> None:
    await conferences.create(id="x")
    alice = pbx.phone("1001")
    task = joining(conferences, alice, "x")
    await settle()
    await conferences.mute("x", alice.id)
    assert pbx.is_muted(alice)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (alice.bridge_id, pbx.is_muted(alice), members(conferences, "x")) == (None, False, [])
    task = joining(conferences, alice, "x")
    await settle()
    with pytest.raises(ValueError, match="already"):
        await joining(conferences, alice, "x")
    assert members(conferences, "x") == ["1001"]


async def test_ended_while_somebody_is_on_the_way(pbx: Pbx, conferences: Conferences) -> None:
    await conferences.create(id="x")
    alice = pbx.phone("1001")
    pbx.joining.clear()
    task = joining(conferences, alice, "x")
    await settle()
    deleting = asyncio.create_task(conferences.delete("x"))
    await settle()
    assert conferences.get("x") is None
    pbx.joining.set()
    assert await task == "deleted"
    await deleting
    assert (alice.bridge_id, pbx.bridges) == (None, {})


async def test_what_could_not_be_deleted_is_left_to_the_sweep(pbx: Pbx, conferences: Conferences) -> None:
    await conferences.create(id="x")
    pbx.fail(AriError(500, "DELETE", "/bridges", "no"))
    with pytest.raises(AriError):
        await conferences.delete("x")
    pbx.failures.clear()
    assert len(pbx.bridges) == 1
    assert (conferences.object_ids, conferences.get("x")) == (set(), None)


async def test_somebody_else_deletes_the_bridge(pbx: Pbx, conferences: Conferences, story: Story) -> None:
    await conferences.create(id="x")
    alice = pbx.phone("1001")
    task = joining(conferences, alice, "x")
    await settle()
    (bridge_id,) = conferences.object_ids
    await pbx.client.bridges.destroy(bridge_id)
    assert await task in ("left", "deleted")
    await settle()
    assert conferences.get("x") is None
    assert story[-1] == "deleted x"


async def test_made_again_when_asterisk_has_forgotten_it(pbx: Pbx, conferences: Conferences, story: Story) -> None:
    await conferences.create(id="x")
    (bridge_id,) = conferences.object_ids
    pbx.bridges.clear()  # a restart: no event is sent
    pbx.reconnect()
    await settle()
    assert list(pbx.bridges) == [bridge_id]
    assert story == ["created x"]


async def test_rooms_come_and_go(pbx: Pbx, conferences: Conferences, story: Story) -> None:
    ended: list[str] = []
    conferences.on_ended(ended.append)
    pbx.come("announcer", "", name="CBAnn/1")
    pbx.room("b1", "announcer")
    assert conferences.list() == []
    pbx.come("c-1", "1001", state="Up")
    pbx.enter_bridge("b1", "c-1")
    (room,) = conferences.list()
    assert (room.id, room.kind, room.auto_delete) == ("720", "confbridge", True)
    assert conferences.tap_point("720") == ConfBridge("720", "ways-in")
    assert conferences.object_ids == set(), "it is none of ours to sweep or to keep"
    with pytest.raises(NotControlled):
        await conferences.mute("720", "c-1")
    pbx.come(OURS, "", name="AudioSocket/1")
    pbx.enter_bridge("b1", OURS)
    await conferences.kick("720", "c-1")
    assert pbx.hung_up == ["c-1"]
    assert (conferences.list(), ended) == ([], ["720"]), "one with nobody but us in it is over"
    assert story == ["created 720", "joined 720 1001", "left 720 1001", "deleted 720"]


async def test_a_room_that_is_another_one_now(pbx: Pbx, conferences: Conferences, story: Story) -> None:
    pbx.come("c-1", "1001", state="Up")
    pbx.room("b1", "c-1")
    pbx.client.disconnect()  # what happens now causes no event
    pbx.leave_bridge("c-1")
    del pbx.bridges["b1"]
    pbx.room("b2", "c-1")
    pbx.client.connect()
    await settle()
    assert members(conferences, "720") == ["1001"]
    assert story == [
        "created 720", "joined 720 1001", "left 720 1001", "deleted 720", "created 720", "joined 720 1001",
    ]  # fmt: skip


async def test_a_leg_goes_into_a_room_by_the_dialplan(pbx: Pbx, conferences: Conferences) -> None:
    pbx.come("c-1", "1001", state="Up")
    pbx.room("b1", "c-1")
    alice = pbx.phone("1002")
    assert await joining(conferences, alice, "720", create=True) == "left"
    assert pbx.channels[alice.id].resource["dialplan"]["exten"] == "room-720"
    with pytest.raises(NotControlled):
        await joining(conferences, alice, "720", muted=True)


async def test_a_call_that_came_for_a_conference_ends_with_it(pbx: Pbx, conferences: Conferences) -> None:
    alice, bob = pbx.phone("1001"), pbx.phone("1002")
    await conferences.create(id="x")
    bringing = [asyncio.create_task(conferences.bring(phone, "x")) for phone in (alice, bob)]
    await settle()
    assert members(conferences, "x") == ["1001", "1002"]
    await conferences.kick("x", alice.id)
    await bringing[0]
    assert alice.gone.is_set()
    await conferences.delete("x")
    await bringing[1]
    assert bob.gone.is_set()
    carol = pbx.phone("1003")
    await conferences.bring(carol, "no/conference")
    assert carol.gone.is_set()


async def test_a_call_that_came_for_a_conference_and_is_moved_elsewhere_goes_on(
    pbx: Pbx, conferences: Conferences
) -> None:
    alice = pbx.phone("1001")
    await conferences.create(id="x")
    bringing = asyncio.create_task(conferences.bring(alice, "x"))
    await settle()
    await pbx.client.bridges.create(bridge_id="other")
    await alice.move_to("other")
    await bringing
    assert members(conferences, "x") == []
    assert not alice.gone.is_set()


async def test_without_a_way_in_rooms_are_only_seen(pbx: Pbx, tracker: CallTracker, hub: Events) -> None:
    conferences = Conferences(pbx.client, tracker, OwnIds("bridge"), hub)
    pbx.come("c-1", "1001", state="Up")
    pbx.room("b1", "c-1")
    assert members(conferences, "720") == ["1001"]
    with pytest.raises(NotControlled, match=r"calling\.context"):
        conferences.tap_point("720")
    with pytest.raises(NotControlled, match=r"calling\.context"):
        await joining(conferences, pbx.phone("1002"), "720")


async def test_an_id_of_ours_hides_the_room_of_that_name(pbx: Pbx, conferences: Conferences) -> None:
    await conferences.create(id="720")
    pbx.come("c-1", "1001", state="Up")
    pbx.room("b1", "c-1")
    assert [conference.kind for conference in conferences.list()] == ["bridge"]
    await conferences.delete("720")
    assert [conference.kind for conference in conferences.list()] == ["confbridge"]


async def test_nothing_is_made_once_it_stops(pbx: Pbx, conferences: Conferences) -> None:
    await conferences.create(id="x")
    alice = pbx.phone("1001")
    task = joining(conferences, alice, "x")
    await settle()
    await conferences.stop()
    assert await task == "deleted"
    assert (pbx.bridges, pbx.hung_up) == ({}, [])
    with pytest.raises(AriError, match="shutting down"):
        await conferences.create(id="y")


async def test_who_is_transferred_into_a_conference_takes_part_under_their_own_number(
    pbx: Pbx, conferences: Conferences, story: Story, caplog: pytest.LogCaptureFixture
) -> None:
    alice, bob = pbx.phone("1001"), pbx.phone("1002")
    brought = [asyncio.create_task(conferences.bring(phone, "room")) for phone in (alice, bob)]
    await settle()
    pbx.come("other", "1003", "1001", state="Up")
    new = pbx.transfer(alice.id, "other")
    await settle()
    assert alice.id == new
    assert members(conferences, "room") == ["1002", "1003"]
    assert not any(each.done() for each in brought)
    await conferences.mute("room", new)
    assert pbx.is_muted(alice)
    pbx.hang_up(new)
    pbx.hang_up(bob.id)
    await settle()
    assert all(each.done() for each in brought)
    assert story == [
        "created room", "joined room 1001", "joined room 1002", "left room 1001", "joined room 1003",
        "left room 1003", "left room 1002", "deleted room",
    ]  # fmt: skip
    assert caplog.text == ""


async def test_who_is_transferred_is_reported_when_it_is_known_who_it_is(
    pbx: Pbx, conferences: Conferences, story: Story
) -> None:
    alice = pbx.phone("1001")
    bringing = asyncio.create_task(conferences.bring(alice, "room"))
    await settle()
    pbx.come("other", "1003", "1001", state="Up")
    pbx.dialplan["from-internal", "750"] = ()
    half = {each: f"Local/_attended@transfer-1;{each}" for each in (1, 2)}
    for number, name in half.items():
        pbx.come(f"l{number}", "", "_attended", state="Up", linkedid="other", name=name)
    pbx.replace(alice.id, "l2")
    await settle()
    assert story == ["created room", "joined room 1001", "left room 1001"]
    for member in ("other", "l1"):
        pbx.enter_bridge("basic", member)
    await settle()
    assert story[3:] == ["joined room 1003"]
    pbx.hang_up("l2")
    await bringing


async def test_a_member_that_joins_the_bridge_again_stays(pbx: Pbx, conferences: Conferences, story: Story) -> None:
    """A feature code has put another party behind its Local channel, whose audio Asterisk must decode from scratch."""
    await conferences.create("Weekly", "weekly", auto_delete=True)
    alice = pbx.phone("1001")
    joined = joining(conferences, alice, "weekly", muted=True)
    await settle()
    story.clear()
    await pbx.stasis.rejoin(alice.id)
    await settle()
    assert (story, members(conferences, "weekly")) == (["left weekly 1001", "joined weekly 1001"], ["1001"])
    assert not joined.done()
    assert pbx.is_muted(alice)
    await conferences.kick("weekly", alice.id)
    assert await joined == "kicked"


async def test_a_member_that_cannot_join_the_bridge_again_has_left(pbx: Pbx, conferences: Conferences) -> None:
    await conferences.create("Weekly", "weekly")
    alice = pbx.phone("1001")
    joined = joining(conferences, alice, "weekly")
    await settle()
    pbx.failures["/addChannel"] = AriError(500, "POST", "/bridges", "refused")
    with pytest.raises(AriError):
        await pbx.stasis.rejoin(alice.id)
    pbx.failures.clear()
    assert await joined == "left"
    assert members(conferences, "weekly") == []
