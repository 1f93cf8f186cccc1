"""The call model survives any stream of ARI events: recorded ones, interleaved, lost, doubled, late and damaged.

Whatever arrives, only the decoder's own exceptions escape, the model's state is consistent, its changes lead from one
state to the next, and a resync restores what Asterisk has.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from typing import Any

import msgspec
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bridge.ari.model import Bridge, Channel, ChannelCreated, ChannelDestroyed, Event, StasisStart, decode_event
from bridge.calls.call import (
    CallAnswered,
    CallEnded,
    CallStarted,
    Change,
    PartyChanged,
    PartyJoined,
    PartyLeft,
    is_party,
)
from bridge.calls.facts import call_facts
from bridge.calls.model import CallModel
from bridge.calls.records import Records
from bridge.config import PbxConfig
from bridge.events.hub import Events
from tests.unit.calls.recordings import FOLDER, RECORDINGS

Json = dict[str, Any]

_LINES = {
    name: [raw for line in (FOLDER / f"{name}.jsonl").read_text().splitlines() if "type" in (raw := json.loads(line))]
    for name in RECORDINGS
}
_STRANGE: st.SearchStrategy[Any] = st.sampled_from(
    [None, "", "x" * 5000, "\u0000\ud83d\ude00", 0, -1, 1 << 70, 1.5, True, [], {}, ["a"]]
)


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every value inside a JSON document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from _paths(inner, (*path, key))


class EventStreams(RuleBasedStateMachine):
    """An Asterisk that replays several recordings simultaneously, not always in order, on a lossy connection."""

    def __init__(self) -> None:
        super().__init__()
        self.model = CallModel("bridge")
        self.records = Records(Events(lambda: 0.0), lambda: self.now)
        self.now = 0.0
        self.coming: list[list[Json]] = []
        self.channels: dict[str, Channel] = {}
        """As each was last seen in an event that could be read."""
        self.bridges: dict[str, Bridge] = {}
        self.joined: dict[str, str] = {}
        """Calls by party, according to the changes."""
        self.replaced: set[str] = set()
        """Channels whose place another one has taken: their ids find that one."""
        self.gone: set[str] = set()
        """Channels that were destroyed, and have not been seen since by a channel's creation or a resync."""
        self.started: set[str] = set()
        self.answered: set[str] = set()

    @initialize(names=st.lists(st.sampled_from(RECORDINGS), min_size=1, max_size=3, unique=True))
    def play(self, names: list[str]) -> None:
        self.coming = [copy.deepcopy(_LINES[name]) for name in names]

    @precondition(lambda self: any(self.coming))
    @rule(data=st.data(), count=st.integers(1, 12), fate=st.sampled_from(["in order", "in order", "lost", "twice"]))
    def events_come(self, data: st.DataObject, count: int, fate: str) -> None:
        story = self.story(data)
        for raw in story[:count]:
            for _ in range({"lost": 0, "twice": 2}.get(fate, 1)):
                self.take(raw)
        del story[:count]

    @precondition(lambda self: any(self.coming))
    @rule(data=st.data(), distance=st.integers(1, 10))
    def an_event_comes_early(self, data: st.DataObject, distance: int) -> None:
        story = self.story(data)
        self.take(story.pop(min(distance, len(story) - 1)))

    @precondition(lambda self: any(self.coming))
    @rule(data=st.data(), strange=_STRANGE, remove=st.booleans())
    def a_damaged_event_comes(self, data: st.DataObject, strange: Any, remove: bool) -> None:
        story = self.story(data)
        raw = copy.deepcopy(story[0])
        *outer, last = data.draw(st.sampled_from(list(_paths(raw))), label="path")
        inside: Any = raw
        for key in outer:
            inside = inside[key]
        if remove:
            del inside[last]
        else:
            inside[last] = strange
        self.take(raw)

    @precondition(lambda self: self.channels)
    @rule(data=st.data())
    def a_linkedid_is_answered(self, data: st.DataObject) -> None:
        known = st.sampled_from(sorted(self.channels))
        self.follow(self.model.learn_linkedid(data.draw(known), data.draw(known), self.now))

    @rule(data=st.data())
    def asterisk_is_asked_for_everything(self, data: st.DataObject) -> None:
        lasting = data.draw(st.sets(st.sampled_from(sorted(self.channels))) if self.channels else st.just(set()))
        listed = [channel for name, channel in self.channels.items() if name in lasting]
        self.resync(listed)
        assert {party.id for party in self.parties()} <= lasting
        assert {channel.id for channel in listed if is_party(channel) and channel.linkedid} <= set(self.joined)

    @invariant()
    def it_fits_together(self) -> None:
        for call_id, call in self.model.calls.items():
            assert call.id == call_id
            assert call.parties, "a call without parties has ended"
            assert [party.id for party in call.parties.values()] == list(call.parties)
            assert call.primary in call.parties.values()
            for party in call.parties.values():
                if party.id not in self.model.calls and party.id not in self.replaced:
                    assert self.model.find(party.id) == (call, party)
                assert self.model.member(party.id) == (call, party)
            assert call_facts(call, PbxConfig())
        assert self.joined == {
            party.id: call.id for call in self.model.calls.values() for party in call.parties.values()
        }
        assert self.started == set(self.model.calls)
        assert self.answered == {call.id for call in self.model.calls.values() if call.answered}

    def teardown(self) -> None:
        """Asterisk has nothing left, and neither has the model."""
        self.bridges.clear()
        self.resync([])
        assert not self.model.calls
        assert not self.model.bridges
        assert self.joined == {}
        assert self.started == set()
        assert self.records.live() == []

    # What comes in

    def story(self, data: st.DataObject) -> list[Json]:
        left = [story for story in self.coming if story]
        return left[data.draw(st.integers(0, len(left) - 1), label="story")]

    def parties(self) -> Iterator[Any]:
        for call in self.model.calls.values():
            yield from call.parties.values()

    def take(self, raw: Json) -> None:
        self.now += 0.02
        text = json.dumps(raw)
        try:
            event = decode_event(text)
        except (msgspec.DecodeError, UnicodeEncodeError):
            return
        note(f"{event.type} {text[:200]}")
        self.remember(event)
        self.follow(self.model.apply(event, self.now))
        self.records.on_event(event)
        if isinstance(event, ChannelDestroyed):
            self.gone.add(event.channel.id)
        elif isinstance(event, ChannelCreated):
            self.gone.discard(event.channel.id)
        assert not any(map(self.model.member, self.gone)), "a late event must not bring a channel back"

    def resync(self, channels: list[Channel]) -> None:
        self.gone -= {channel.id for channel in channels}
        self.follow(self.model.reconcile(channels, {}, self.bridges.values(), self.now))
        self.records.channels_there({channel.id for channel in channels}, self.records.channels)

    def remember(self, event: Event) -> None:
        for channel in (event.channel, getattr(event, "peer", None), getattr(event, "caller", None)):
            if channel is not None:
                self.channels[channel.id] = channel
        if isinstance(event, StasisStart) and event.replace_channel is not None:
            self.channels[event.replace_channel.id] = event.replace_channel
            self.replaced.add(event.replace_channel.id)
        if event.bridge is not None:
            self.bridges[event.bridge.id] = event.bridge

    def follow(self, changes: list[Change]) -> None:
        """Read the changes as a listener would: they must be possible one after the other."""
        for change in changes:
            self.records.on_change(change)
            match change:
                case CallStarted(call):
                    assert call.id not in self.started
                    self.started.add(call.id)
                case CallAnswered(call):
                    assert call.id in self.started
                    assert call.id not in self.answered
                    self.answered.add(call.id)
                case PartyJoined(call, party):
                    assert call.id in self.started
                    assert party.id not in self.joined
                    self.joined[party.id] = call.id
                case PartyLeft(call, party):
                    assert self.joined.pop(party.id) == call.id
                case CallEnded(call):
                    self.started.remove(call.id)
                    self.answered.discard(call.id)
                    assert call.id not in self.joined.values()
                case PartyChanged(_, _, fields):
                    assert fields


_EXAMPLES = int(os.environ.get("FUZZ", "0"))
EventStreams.TestCase.settings = settings(
    max_examples=_EXAMPLES or 100,
    derandomize=not _EXAMPLES,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestEventStreams = EventStreams.TestCase
