"""The tracker between a scripted PBX and its listeners: questions, and what happens while the state is fetched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import cast

import msgspec
import pytest

from bridge.ari.client import AriClient
from bridge.ari.dispatch import Dispatcher, subscribe
from bridge.ari.model import Bridge, Channel, decode_event
from bridge.calls.model import CallAnswered, CallEnded, CallStarted, Change, PartyChanged, PartyJoined
from bridge.calls.tracker import CallTracker
from bridge.errors import AriError


class Bridgeless:
    """The bridges of a PBX that has none."""

    async def list(self) -> list[Bridge]:
        return []


class ScriptedPbx:
    """What the tracker uses of an ARI client, without a network: tests say when each answer comes."""

    app = "bridge"
    trouble: str | None = None

    def __init__(self) -> None:
        self.connected = False
        self.present: dict[str, Channel] = {}
        self.linkedids: dict[str, str] = {}
        self.asked: list[str] = []
        self.asking = self.asking_most = 0
        self.failures: list[AriError] = []
        self.answer_lists = asyncio.Event()
        self.answer_lists.set()
        self.answer_questions = asyncio.Event()
        self.answer_questions.set()
        self.listings = 0
        self._dispatcher = Dispatcher()
        self._up: list[Callable[[], object]] = []
        self._down: list[Callable[[], object]] = []
        self.on_event = self._dispatcher.on_event
        self.channels = self
        self.bridges = Bridgeless()

    def on_connected(self, callback: Callable[[], object]) -> Callable[[], None]:
        return subscribe(self._up, callback)

    def on_disconnected(self, callback: Callable[[], object]) -> Callable[[], None]:
        return subscribe(self._down, callback)

    def connect(self) -> None:
        self.connected = True
        for callback in self._up:
            callback()

    def disconnect(self) -> None:
        self.connected = False
        for callback in self._down:
            callback()

    async def list(self) -> list[Channel]:
        self.listings += 1
        await self.answer_lists.wait()
        if self.failures:
            raise self.failures.pop()
        return list(self.present.values())

    async def get_variable(self, channel_id: str, name: str) -> str:
        assert name == "CHANNEL(linkedid)"
        self.asked.append(channel_id)
        self.asking += 1
        self.asking_most = max(self.asking_most, self.asking)
        try:
            await self.answer_questions.wait()
            await asyncio.sleep(0)
        finally:
            self.asking -= 1
        if channel_id not in self.linkedids:
            raise AriError(404, "GET", "/channels", "Channel not found")
        return self.linkedids[channel_id]

    def add(self, channel_id: str, state: str = "Ring", linkedid: str = "", tell: bool = True) -> None:
        self.present[channel_id] = Channel(id=channel_id, name=f"PJSIP/{channel_id}-01", state=state)
        self.linkedids[channel_id] = linkedid or channel_id
        if tell:
            self.tell("ChannelCreated", channel_id)

    def remove(self, channel_id: str, tell: bool = True) -> None:
        if tell:
            self.tell("ChannelDestroyed", channel_id)
        del self.present[channel_id]

    def up(self, channel_id: str) -> None:
        self.present[channel_id] = msgspec.structs.replace(self.present[channel_id], state="Up")
        self.tell("ChannelStateChange", channel_id)

    def tell(self, kind: str, channel_id: str) -> None:
        raw = msgspec.json.encode({"type": kind, "channel": self.present[channel_id]})
        self._dispatcher.dispatch(decode_event(raw))


class Story(list[str]):
    """What the tracker told, in short."""

    def note(self, change: Change) -> None:
        who = getattr(change, "party", change.call).id
        self.append(f"{type(change).__name__} {who}")


@pytest.fixture
async def pbx() -> ScriptedPbx:
    return ScriptedPbx()


@pytest.fixture
async def tracker(pbx: ScriptedPbx) -> AsyncIterator[CallTracker]:
    tracker = CallTracker(cast(AriClient, pbx), clock=lambda: 42.0)
    yield tracker
    await tracker.close()


@pytest.fixture
def story(tracker: CallTracker) -> Story:
    story = Story()
    tracker.subscribe(story.note)
    return story


async def settle() -> None:
    """Let everything run that can run without time passing."""
    for _ in range(40):
        await asyncio.sleep(0)


async def test_a_call_from_beginning_to_end(pbx: ScriptedPbx, tracker: CallTracker, story: Story) -> None:
    pbx.connect()
    await settle()
    assert tracker.synced
    pbx.add("a")
    await settle()
    pbx.up("a")
    assert tracker.calls["a"].answered_at == 42.0
    pbx.remove("a")
    assert story == [
        "CallStarted a",
        "PartyJoined a",
        "PartyChanged a",
        "CallAnswered a",
        "PartyLeft a",
        "CallEnded a",
    ]
    assert pbx.asked == ["a"]


async def test_calls_that_were_there_before_us(pbx: ScriptedPbx, tracker: CallTracker, story: Story) -> None:
    pbx.add("a", "Up", tell=False)
    pbx.add("b", "Up", linkedid="a", tell=False)
    pbx.connect()
    await tracker.wait_synced(1)
    assert list(tracker.calls) == ["a"]
    found = tracker.find("b")
    assert found is not None
    assert found[0].id == "a"
    assert story[:1] == ["CallStarted a"]


async def test_nothing_that_happens_during_the_fetch_is_lost_or_told_twice(
    pbx: ScriptedPbx, tracker: CallTracker, story: Story
) -> None:
    pbx.add("before", "Ring", tell=False)
    pbx.answer_lists.clear()
    pbx.connect()
    await settle()
    pbx.add("during")
    pbx.up("before")
    pbx.add("short")
    pbx.remove("short")
    assert story == []
    pbx.answer_lists.set()
    await tracker.wait_synced(1)
    await settle()
    assert sorted(story) == sorted(
        [
            "CallStarted before",
            "PartyJoined before",
            "CallAnswered before",
            "CallStarted during",
            "PartyJoined during",
        ]
    )


async def test_an_event_between_the_list_and_its_linkedids(
    pbx: ScriptedPbx, tracker: CallTracker, story: Story
) -> None:
    pbx.add("a", "Up", tell=False)
    pbx.answer_questions.clear()
    pbx.connect()
    await settle()
    pbx.remove("a")
    pbx.answer_questions.set()
    await tracker.wait_synced(1)
    assert story == ["CallStarted a", "PartyJoined a", "CallAnswered a", "PartyLeft a", "CallEnded a"]


async def test_what_vanished_while_we_were_away_has_ended(pbx: ScriptedPbx, tracker: CallTracker, story: Story) -> None:
    pbx.connect()
    await settle()
    pbx.add("stays")
    pbx.add("vanishes")
    await settle()
    pbx.disconnect()
    assert not tracker.synced
    assert set(tracker.calls) == {"stays", "vanishes"}  # the last that is known
    pbx.remove("vanishes", tell=False)
    pbx.add("new", tell=False)
    story.clear()
    pbx.connect()
    await tracker.wait_synced(1)
    assert story == ["PartyLeft vanishes", "CallEnded vanishes", "CallStarted new", "PartyJoined new"]


async def test_a_fetch_is_not_finished_by_a_connection_that_is_gone(
    pbx: ScriptedPbx, tracker: CallTracker, story: Story
) -> None:
    pbx.add("a", tell=False)
    pbx.answer_lists.clear()
    pbx.connect()
    await settle()
    pbx.disconnect()
    pbx.remove("a", tell=False)
    pbx.add("b", tell=False)
    pbx.connect()
    pbx.answer_lists.set()
    await tracker.wait_synced(1)
    assert list(tracker.calls) == ["b"]
    assert story == ["CallStarted b", "PartyJoined b"]


async def test_a_fetch_that_fails_is_tried_again(
    pbx: ScriptedPbx, tracker: CallTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.calls.tracker.RETRY_S", 0)
    pbx.add("a", tell=False)
    pbx.failures.append(AriError(500, "GET", "/channels", "Internal Server Error"))
    pbx.connect()
    await tracker.wait_synced(1)
    assert list(tracker.calls) == ["a"]


async def test_asking_for_a_resync_without_a_connection_says_so(pbx: ScriptedPbx, tracker: CallTracker) -> None:
    pbx.failures += [AriError(0, "GET", "/channels", "cannot connect")]
    with pytest.raises(AriError, match="cannot connect"):
        await tracker.resync()
    pbx.trouble = "wrong ARI user or password"
    with pytest.raises(AriError, match="wrong ARI user"):
        await tracker.wait_synced(0)


async def test_a_resync_on_demand(pbx: ScriptedPbx, tracker: CallTracker, story: Story) -> None:
    pbx.connect()
    await settle()
    pbx.add("a", tell=False)  # its event was lost
    await asyncio.gather(tracker.resync(), tracker.resync())
    assert story == ["CallStarted a", "PartyJoined a"]
    assert pbx.listings == 2  # at the connect, and once for both demands


async def test_a_thousand_channels_are_asked_for_a_few_at_a_time(pbx: ScriptedPbx, tracker: CallTracker) -> None:
    for number in range(1000):
        pbx.add(f"c{number}", tell=False)
    pbx.connect()
    await tracker.wait_synced(5)
    assert len(tracker.calls) == 1000
    assert 1 < pbx.asking_most <= 16


async def test_an_old_answer_does_not_overtake_a_new_one(pbx: ScriptedPbx, tracker: CallTracker, story: Story) -> None:
    pbx.connect()
    await settle()
    pbx.add("a")
    pbx.add("b")
    await settle()
    pbx.linkedids["b"] = "a"
    tracker.model._unplaced["b"] = None
    pbx.answer_questions.clear()
    pbx.tell("ChannelStateChange", "a")
    await settle()
    tracker.model._unplaced["b"] = None
    pbx.tell("ChannelStateChange", "a")
    await settle()
    assert pbx.asked == ["a", "b", "b"]  # the second question waits for the first answer
    pbx.answer_questions.set()
    await settle()
    assert pbx.asked == ["a", "b", "b", "b"]
    assert list(tracker.calls) == ["a"]
    assert "CallEnded b" in story


async def test_a_channel_that_is_gone_is_asked_for_once(pbx: ScriptedPbx, story: Story) -> None:
    pbx.connect()
    await settle()
    pbx.add("a")
    del pbx.linkedids["a"]
    await settle()
    pbx.remove("a")
    assert pbx.asked == ["a"]
    assert story == []


async def test_a_listener_that_raises_stops_nobody(
    pbx: ScriptedPbx, tracker: CallTracker, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Change) -> None:
        raise RuntimeError("broken")

    told: list[Change] = []
    tracker.subscribe(fail)
    unsubscribe = tracker.subscribe(told.append)
    pbx.connect()
    pbx.add("a", "Up")
    await settle()
    assert [type(change) for change in told] == [CallStarted, PartyJoined, CallAnswered]
    assert "broken" in caplog.text
    unsubscribe()
    pbx.remove("a")
    assert not any(isinstance(change, PartyChanged | CallEnded) for change in told)


async def test_a_fault_of_ours_in_a_fetch_is_told_and_the_next_one_works(
    pbx: ScriptedPbx, tracker: CallTracker, caplog: pytest.LogCaptureFixture
) -> None:
    pbx.failures.append(cast(AriError, RuntimeError("a fault of ours")))
    pbx.connect()
    await settle()
    assert "a fault of ours" in caplog.text
    pbx.add("a")
    await settle()
    assert list(tracker.calls) == ["a"]  # events are not held for a fetch that is over
    await tracker.resync()
    assert tracker.synced


async def test_closing_leaves_no_task_and_hears_nothing_more(
    pbx: ScriptedPbx, story: Story, tracker: CallTracker
) -> None:
    before = asyncio.all_tasks()
    pbx.answer_lists.clear()
    pbx.connect()
    pbx.answer_questions.clear()
    await settle()
    assert asyncio.all_tasks() > before
    await tracker.close()
    await tracker.close()
    assert asyncio.all_tasks() == before
    pbx.add("a")
    await settle()
    assert story == []
