"""A call in the API has only the fields whose values are known."""

from __future__ import annotations

import pytest

from bridge.api.errors import ApiError
from bridge.api.models.streams import StreamQuery
from bridge.api.routing import read_query
from bridge.api.views import call_json, call_status, dialed_number
from bridge.calls.call_json import utc_time

from .samples import make_call


def test_a_call_in_json() -> None:
    assert call_json(make_call("c1"), streams=2) == {
        "id": "c1",
        "status": "progressing",
        "tm_create": "2026-01-31T11:00:00.123Z",
        "source": {"type": "", "target": "1001", "target_name": "Alice", "name": "", "detail": ""},
        "destination": {"type": "", "target": "1002", "target_name": "", "name": "", "detail": ""},
        "parties": [
            {
                "id": "c1",
                "name": "PJSIP/1001-c1",
                "endpoint": "1001",
                "state": "Up",
                "caller_number": "1001",
                "caller_name": "Alice",
                "connected_number": "1002",
                "context": "",
                "exten": "1002",
                "app_name": "",
                "in_stasis": False,
                "tm_create": "2026-01-31T11:00:00.123Z",
            },
            {
                "id": "c1.peer",
                "name": "PJSIP/1002-c1",
                "endpoint": "1002",
                "state": "Up",
                "caller_number": "1002",
                "caller_name": "Bob",
                "connected_number": "",
                "context": "",
                "exten": "",
                "app_name": "",
                "in_stasis": False,
                "tm_create": "2026-01-31T11:00:00.123Z",
            },
        ],
        "streams": 2,
    }


def test_how_far_a_call_is() -> None:
    assert call_status(make_call("c", answered=False, peer="Down")) == "dialing"
    assert call_status(make_call("c", answered=False, peer="Ringing")) == "ringing"
    assert call_status(make_call("c")) == "progressing"


@pytest.mark.parametrize(
    ("connected", "exten", "number"), [("1002", "s", "1002"), ("", "600", "600"), ("", "7", "7"), ("", "s", "")]
)
def test_whom_the_caller_reached(connected: str, exten: str, number: str) -> None:
    call = make_call("c")
    assert call.primary is not None
    call.primary.connected_number, call.primary.exten = connected, exten
    assert dialed_number(call) == number


def test_a_call_whose_last_party_just_left() -> None:
    call = make_call("c")
    call.parties.clear()
    body = call_json(call, 0)
    assert body["parties"] == []
    assert "source" not in body


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01T00:00:00.000+0000"])
def test_what_is_no_time_is_left_empty(text: str) -> None:
    assert utc_time(text) == ""


def test_stream_options_never_see_the_token() -> None:
    options = read_query(
        StreamQuery, {"encapsulation": "sln", "token": "secret", "accesskey": "secret", "rate": "16000"}
    ).options
    assert options.options == {"encapsulation": "sln", "rate": 16000}
    assert "secret" not in repr(options)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({}, ["encapsulation", "rtp", "sln", "audiosocket"]),
        ({"encapsulation": "opus"}, ["rtp", "sln", "audiosocket"]),
        ({"encapsulation": "sln", "rate": "fast"}, ["rate"]),
        ({"encapsulation": "sln", "rate": "1"}, ["rate"]),
        ({"encapsulation": "sln", "codec": "mp3"}, ["codec"]),
        ({"encapsulation": "sln", "direction_listen": "left"}, ["direction_listen", "in", "out", "both"]),
    ],
)
def test_wrong_stream_options(query: dict[str, str], words: list[str]) -> None:
    with pytest.raises(ApiError) as caught:
        read_query(StreamQuery, query)
    assert caught.value.status == 400
    for word in words:
        assert word in caught.value.message
