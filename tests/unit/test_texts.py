"""Text from outside is bounded before it is shown anywhere."""

from __future__ import annotations

from bridge.errors import AriError, BridgeError, ClientProtocolError, ConfigError, Overloaded
from bridge.events.hub import Event, Events
from bridge.flows.program import FlowError, InvalidFlow
from bridge.flows.web import WebFailed
from bridge.media.dial import LinkFailed
from bridge.texts import MAX_CHARACTERS, MAX_EVENT_CHARACTERS, cut, cut_all
from tests.fakes.garbage import uncollected

LONG = "\u00e9" * 400_000


def test_a_text_is_cut_and_shows_that_it_was() -> None:
    assert cut("x" * MAX_CHARACTERS) == "x" * MAX_CHARACTERS
    assert cut("x" * (MAX_CHARACTERS + 1)) == "x" * (MAX_CHARACTERS - 1) + "\u2026"


def test_all_of_an_event_is_cut() -> None:
    seen: list[Event] = []
    events = Events(lambda: 0.0)
    events.subscribe(seen.append)
    given = {"reason": LONG, "n": 1, "ok": True, "none": None, "list": [LONG, {"a": (LONG,)}], "names": {LONG: "v"}}
    events.publish("flow_action", given)
    short = cut(LONG)
    assert seen[0].data == {
        **{"reason": short, "n": 1, "ok": True, "none": None},
        **{"list": [short, {"a": [short]}], "names": {short: "v"}},
    }
    assert given["reason"] == LONG


def test_an_event_is_bounded_as_a_whole() -> None:
    data = cut_all({"id": "c", "variables": {f"name{number}": LONG for number in range(500)}, "status": "ringing"})
    assert data["id"] == "c"
    assert len("".join(data["variables"].values())) <= MAX_EVENT_CHARACTERS
    assert Event("e", "call_created", 0.0, data).text.isascii()


def test_errors_hold_no_more_than_that() -> None:
    for error in (
        *(BridgeError(LONG), ClientProtocolError(LONG), Overloaded(LONG), WebFailed(LONG), LinkFailed(LONG)),
        AriError(500, "GET", "channels", LONG),
    ):
        assert len(str(error)) <= MAX_CHARACTERS
    assert len(AriError(500, "GET", "channels", LONG).message) == MAX_CHARACTERS
    assert str(ConfigError("a.b", "x" * 600)) == "a.b: " + "x" * 600


def test_a_refused_flow_repeats_no_long_text() -> None:
    refused = InvalidFlow([FlowError(0, LONG, LONG), FlowError(None, "", "fine")])
    assert len(str(refused)) < 2 * MAX_CHARACTERS + 100
    assert str(refused.errors[1]) == "actions: fine"


def test_an_event_leaves_nothing_to_the_garbage_collector() -> None:
    with uncollected() as left:
        cut_all({"reason": LONG, "parties": [{"id": "1"}]})
    assert not left
