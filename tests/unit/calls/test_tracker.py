"""The tracker between a scripted PBX and its listeners: questions, and what happens while the state is fetched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from bridge.calls.call import CallAnswered, CallEnded, CallStarted, Change, PartyChanged, PartyJoined
from bridge.calls.tracker import LATE_S, CallTracker
from bridge.errors import AriError
from tests.fakes.ari_client import FakeAriClient
from tests.fakes.pbx import FakePbx
from tests.fakes.virtual_time import pass_time, settle


class TrackedPbx(FakePbx):
    """A PBX whose answers come when a test lets them."""

    def __init__(self) -> None:
        super().__init__()
        self.client = FakeAriClient(self)
        self.connect, self.disconnect = self.client.connect, self.client.disconnect
        self.answer_lists = self.gates["/channels$"] = asyncio.Event()
        self.answer_lists.set()
        self.answer_questions = self.gates["/variable$"] = asyncio.Event()
        self.answer_questions.set()

    @property
    def asked(self) -> list[str]:
        """Channels whose linkedid was requested."""
        return [each.split("/")[2] for each in self.questions if each.endswith("CHANNEL(linkedid)")]

    def add(self, channel_id: str, state: str = "Ring", linkedid: str = "") -> None:
        self.come(channel_id, channel_id, state=state, linkedid=linkedid)

    def add_unheard(self, channel_id: str) -> None:
        """Add a channel without an event."""
        self.clients.clear()
        self.add(channel_id)
        self.clients.append(self.client)


class Story(list[str]):
    """The tracker's changes, abbreviated."""

    def note(self, change: Change) -> None:
        who = getattr(change, "party", change.call).id
        self.append(f"{type(change).__name__} {who}")


@pytest.fixture
async def pbx() -> TrackedPbx:
    return TrackedPbx()


@pytest.fixture
async def tracker(pbx: TrackedPbx) -> AsyncIterator[CallTracker]:
    tracker = CallTracker(pbx.client, clock=lambda: 42.0)
    yield tracker
    await tracker.close()


@pytest.fixture
def story(tracker: CallTracker) -> Story:
    story = Story()
    tracker.subscribe(story.note)
    return story


async def test_a_call_from_beginning_to_end(pbx: TrackedPbx, tracker: CallTracker, story: Story) -> None:
    pbx.connect()
    await settle()
    assert tracker.synced
    pbx.add("a")
    await settle()
    pbx.run("a", "Answer")
    await settle()
    assert tracker.calls["a"].answered_at == 42.0
    pbx.hang_up("a")
    await settle()
    assert story == [
        "CallStarted a",
        "PartyJoined a",
        "PartyChanged a",
        "PartyChanged a",
        "CallAnswered a",
        "PartyLeft a",
        "CallEnded a",
    ]
    assert pbx.asked == ["a"]


async def test_calls_that_were_there_before_us(pbx: TrackedPbx, tracker: CallTracker, story: Story) -> None:
    pbx.add("a", "Up")
    pbx.add("b", "Up", linkedid="a")
    pbx.connect()
    await tracker.wait_synced(1)
    assert list(tracker.calls) == ["a"]
    found = tracker.find("b")
    assert found is not None
    assert found[0].id == "a"
    assert story[:1] == ["CallStarted a"]


async def test_nothing_that_happens_during_the_fetch_is_lost_or_told_twice(
    pbx: TrackedPbx, tracker: CallTracker, story: Story
) -> None:
    pbx.add("before", "Ring")
    pbx.answer_lists.clear()
    pbx.connect()
    await settle()
    pbx.add("during")
    pbx.state("before", "Up")
    pbx.add("short")
    pbx.hang_up("short")
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


async def test_an_event_between_the_list_and_its_linkedids(pbx: TrackedPbx, tracker: CallTracker, story: Story) -> None:
    pbx.add("a", "Up")
    answer = pbx.late["/variable$"] = asyncio.Event()
    pbx.connect()
    await settle()
    pbx.hang_up("a")
    await settle()
    answer.set()
    await tracker.wait_synced(1)
    assert story == ["CallStarted a", "PartyJoined a", "CallAnswered a", "PartyLeft a", "CallEnded a"]


async def test_what_vanished_while_we_were_away_has_ended(pbx: TrackedPbx, tracker: CallTracker, story: Story) -> None:
    pbx.connect()
    await settle()
    pbx.add("stays")
    pbx.add("vanishes")
    await settle()
    pbx.disconnect()
    assert not tracker.synced
    assert set(tracker.calls) == {"stays", "vanishes"}  # the last that is known
    pbx.hang_up("vanishes")
    pbx.add("new")
    story.clear()
    pbx.connect()
    await tracker.wait_synced(1)
    assert story == ["PartyLeft vanishes", "CallEnded vanishes", "CallStarted new", "PartyJoined new"]


async def test_a_restart_of_asterisk_is_reported_before_its_calls_end(
    pbx: TrackedPbx, tracker: CallTracker, story: Story, caplog: pytest.LogCaptureFixture
) -> None:
    tracker.on_lost = story.append
    pbx.connect()
    pbx.add("c1")
    await settle()
    for started_at, expected in ((pbx.started_at, []), ("2026-01-31T13:00:00.000+0000", ["Asterisk was restarted"])):
        pbx.disconnect()
        pbx.started_at = started_at
        if expected:
            pbx.channels.clear()
        story.clear()
        pbx.connect()
        await settle()
        assert story[:1] == expected
    assert story[1:] == ["PartyLeft c1", "CallEnded c1"]
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "Asterisk was restarted, its calls have ended started=2026-01-31T13:00:00.000+0000 calls=1"
    ]


async def test_a_stop_of_asterisk_is_reported_once_before_its_calls_end(
    pbx: TrackedPbx, tracker: CallTracker, story: Story, caplog: pytest.LogCaptureFixture
) -> None:
    tracker.on_lost = story.append
    for _ in range(2):
        pbx.connect()
        for channel_id in ("c1", "c2"):
            pbx.add(channel_id)
        await settle()
        pbx.emit("ChannelHangupRequest", pbx.channels["c1"], cause=16, soft=True)  # by the end of a bridge
        await settle()
        story.clear()
        for channel_id in ("c1", "c2"):
            pbx.emit("ChannelHangupRequest", pbx.channels[channel_id], cause=4, soft=True)
        for channel_id in ("c1", "c2"):
            pbx.hang_up(channel_id)
        await settle()
        assert story == ["Asterisk was stopped", "PartyLeft c1", "CallEnded c1", "PartyLeft c2", "CallEnded c2"]
        pbx.disconnect()
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 2


async def test_an_asterisk_that_does_not_say_when_it_was_started_is_served(
    pbx: TrackedPbx, tracker: CallTracker, story: Story
) -> None:
    tracker.on_lost = story.append
    pbx.failures["/asterisk/info"] = AriError(403, "GET", "/asterisk/info", "Forbidden")
    pbx.connect()
    await settle()
    assert tracker.synced
    assert not story


async def test_a_fetch_is_not_finished_by_a_connection_that_is_gone(
    pbx: TrackedPbx, tracker: CallTracker, story: Story
) -> None:
    pbx.add("a")
    pbx.answer_lists.clear()
    pbx.connect()
    await settle()
    pbx.disconnect()
    pbx.hang_up("a")
    pbx.add("b")
    pbx.connect()
    pbx.answer_lists.set()
    await tracker.wait_synced(1)
    assert list(tracker.calls) == ["b"]
    assert story == ["CallStarted b", "PartyJoined b"]


async def test_a_fetch_that_fails_is_tried_again(pbx: TrackedPbx, tracker: CallTracker) -> None:
    pbx.add("a")
    pbx.failures["/channels$"] = AriError(500, "GET", "/channels", "Internal Server Error")
    pbx.connect()
    await settle()
    pbx.failures.clear()
    await tracker.wait_synced(1)
    assert list(tracker.calls) == ["a"]


async def test_asking_for_a_resync_without_a_connection_says_so(pbx: TrackedPbx, tracker: CallTracker) -> None:
    pbx.failures["/channels$"] = AriError(0, "GET", "/channels", "cannot connect")
    with pytest.raises(AriError, match="cannot connect"):
        await tracker.resync()
    pbx.client.trouble = "wrong ARI user or password"
    with pytest.raises(AriError, match="wrong ARI user"):
        await tracker.wait_synced(0)


async def test_a_resync_on_demand(pbx: TrackedPbx, tracker: CallTracker, story: Story) -> None:
    pbx.connect()
    await settle()
    pbx.add_unheard("a")
    await asyncio.gather(tracker.resync(), tracker.resync())
    assert story == ["CallStarted a", "PartyJoined a"]
    assert pbx.questions.count("GET /channels") == 2  # at the connect, and once for both demands


async def test_a_thousand_channels_are_asked_for_a_few_at_a_time(pbx: TrackedPbx, tracker: CallTracker) -> None:
    for number in range(1000):
        pbx.add(f"c{number}")
    pbx.connect()
    await tracker.wait_synced(5)
    assert len(tracker.calls) == 1000
    assert 1 < pbx.most_at_once <= 16


async def test_a_channel_without_a_response_does_not_delay_the_others(
    pbx: TrackedPbx, tracker: CallTracker, caplog: pytest.LogCaptureFixture
) -> None:
    for channel_id in ("new", "known", "responds"):
        pbx.add(channel_id, "Up")
    deadlocked = asyncio.Event()
    pbx.connect()
    await tracker.wait_synced(1)
    pbx.disconnect()
    del pbx.channels["new"]
    pbx.add("new", "Up")
    pbx.channels["known"].linkedid = "responds"
    pbx.gates["/(new|known)/variable$"] = deadlocked
    pbx.connect()
    await tracker.wait_synced(LATE_S + 1)
    assert set(tracker.calls) == {"known", "responds", "new"}
    assert "no response about some channels, requested again in the background count=2 channel=" in caplog.text
    deadlocked.set()
    await settle()
    assert set(tracker.calls) == {"new", "responds"}
    assert pbx.asked.count("known") == 3


async def test_a_new_channel_without_a_response_joins_its_call_later(pbx: TrackedPbx, tracker: CallTracker) -> None:
    for channel_id in ("deadlocked", "responds"):
        pbx.add(channel_id, "Up")
    deadlocked = pbx.gates["/deadlocked/variable$"] = asyncio.Event()
    pbx.connect()
    await tracker.wait_synced(LATE_S + 1)
    assert list(tracker.calls) == ["responds"]
    deadlocked.set()
    await settle()
    assert set(tracker.calls) == {"deadlocked", "responds"}


async def test_slow_responses_are_waited_for_while_some_arrive(pbx: TrackedPbx, tracker: CallTracker) -> None:
    """Also while none has arrived: then more than one channel is affected."""
    slow = [f"c{number}" for number in range(4)]
    for channel_id in slow:
        pbx.add(channel_id, "Up")
        pbx.gates[f"/{channel_id}/variable$"] = asyncio.Event()
    pbx.connect()
    await pass_time(3 * LATE_S)
    for channel_id in slow:
        assert not tracker.synced
        pbx.gates[f"/{channel_id}/variable$"].set()
        await pass_time(0.8 * LATE_S)
    assert tracker.synced
    assert pbx.asked == slow


async def test_an_old_answer_does_not_overtake_a_new_one(pbx: TrackedPbx, tracker: CallTracker, story: Story) -> None:
    pbx.connect()
    await settle()
    pbx.add("a")
    pbx.add("b")
    await settle()
    pbx.channels["b"].linkedid = "a"
    tracker.model._unplaced["b"] = None
    pbx.answer_questions.clear()
    pbx.state("a", "Ring")
    await settle()
    tracker.model._unplaced["b"] = None
    pbx.state("a", "Ring")
    await settle()
    assert pbx.asked == ["a", "b", "b"]  # the second question waits for the first answer
    pbx.answer_questions.set()
    await settle()
    assert pbx.asked == ["a", "b", "b", "b"]
    assert list(tracker.calls) == ["a"]
    assert "CallEnded b" in story


async def test_a_channel_that_is_gone_is_asked_for_once(pbx: TrackedPbx, story: Story) -> None:
    pbx.connect()
    await settle()
    pbx.add("a")
    pbx.failures["/variable$"] = AriError(404, "GET", "/variable", "Channel not found")
    await settle()
    pbx.hang_up("a")
    assert pbx.asked == ["a"]
    assert story == []


async def test_a_listener_that_raises_stops_nobody(
    pbx: TrackedPbx, tracker: CallTracker, caplog: pytest.LogCaptureFixture
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
    pbx.hang_up("a")
    assert not any(isinstance(change, PartyChanged | CallEnded) for change in told)


async def test_a_fault_of_ours_in_a_fetch_is_told_and_the_next_one_works(
    pbx: TrackedPbx, tracker: CallTracker, caplog: pytest.LogCaptureFixture
) -> None:
    pbx.failures["/channels$"] = RuntimeError("a fault of ours")
    pbx.connect()
    await settle()
    assert "a fault of ours" in caplog.text
    pbx.failures.clear()
    pbx.add("a")
    await settle()
    assert list(tracker.calls) == ["a"]  # events are not held for a fetch that is over
    await tracker.resync()
    assert tracker.synced


async def test_closing_leaves_no_task_and_hears_nothing_more(
    pbx: TrackedPbx, story: Story, tracker: CallTracker
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
