"""Every subscriber receives events, whatever the others do."""

from __future__ import annotations

import json

import pytest

from bridge.events import Event, Events, as_json


def test_an_event_as_receivers_see_it() -> None:
    seen: list[Event] = []
    events = Events(lambda: 1767225600.1239)
    events.subscribe(seen.append)
    events.publish("call_created", {"id": "1.2", "source": {"name": "Zoë"}})
    (event,) = seen
    assert as_json(event) == {
        "id": event.id,
        "type": "call_created",
        "tm_create": "2026-01-01T00:00:00.123Z",
        "data": {"id": "1.2", "source": {"name": "Zoë"}},
    }
    assert json.loads(event.text) == as_json(event)
    assert event.text is event.text  # made once


def test_order_and_ids() -> None:
    seen: list[Event] = []
    events = Events()
    events.subscribe(seen.append)
    for number in range(100):
        events.publish("call_updated", {"n": number})
    assert [event.data["n"] for event in seen] == list(range(100))
    assert len({event.id for event in seen}) == 100


def test_later_changes_to_what_was_published_are_not_seen() -> None:
    seen: list[Event] = []
    events = Events()
    events.subscribe(seen.append)
    data = {"status": "ringing"}
    events.publish("call_ringing", data)
    data["status"] = "hangup"
    assert seen[0].data == {"status": "ringing"}


def test_a_receiver_that_fails_is_logged_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []
    events = Events()

    def fails(event: Event) -> None:
        raise RuntimeError(event.type)

    events.subscribe(fails)
    events.subscribe(lambda event: seen.append(event.type))
    events.publish("call_hangup", {})
    assert seen == ["call_hangup"]
    assert "subscriber failed with an internal error type=call_hangup" in caplog.text


def test_who_has_ended_its_subscription_is_told_nothing_even_from_within() -> None:
    seen: list[str] = []
    events = Events()
    ends = [events.subscribe(lambda event: seen.append(f"a {event.type}"))]
    ends.append(events.subscribe(lambda _: ends[0]()))
    events.publish("flow_started", {})
    events.publish("flow_ended", {})
    ends[0]()
    assert seen == ["a flow_started"]


def test_the_same_receiver_may_subscribe_twice() -> None:
    seen: list[Event] = []
    events = Events()
    first = events.subscribe(seen.append)
    events.subscribe(seen.append)
    first()
    events.publish("call_created", {})
    assert len(seen) == 1
