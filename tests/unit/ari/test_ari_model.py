"""Events and resources are decoded as Asterisk 22.10 really sends them."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from bridge.ari import model
from bridge.ari.model import EVENT_TYPES, Event, channel_of, decode_event, subject_ids

RECORDINGS = sorted((Path(__file__).parents[2] / "wire" / "ari").glob("*.jsonl"))
MESSAGES = [line for path in RECORDINGS for line in path.read_text().splitlines() if '"linkedid"' not in line[:12]]


def test_every_recorded_message_becomes_the_event_of_its_type() -> None:
    for message in MESSAGES:
        raw = json.loads(message)
        event = decode_event(message.encode())
        assert event.type == raw["type"]
        assert type(event) is EVENT_TYPES.get(raw["type"], Event)
        assert event.timestamp == raw["timestamp"]
        assert event.application == "bridge"


def test_recorded_channels_and_bridges_lose_nothing_that_the_structs_describe() -> None:
    for message in MESSAGES:
        raw, event = json.loads(message), decode_event(message)
        for key in ("channel", "bridge", "peer", "caller"):
            if key in raw:
                assert_holds(getattr(event, key), raw[key])


def assert_holds(value: object, raw: dict[str, object]) -> None:
    for key, wanted in raw.items():
        if hasattr(value, key):
            found = getattr(value, key)
            if isinstance(wanted, dict) and not isinstance(found, dict):
                assert_holds(found, wanted)
            else:
                assert found == wanted


def test_the_recordings_hold_what_the_model_lives_on() -> None:
    recorded = {json.loads(message)["type"] for message in MESSAGES}
    assert recorded >= {
        "StasisStart",
        "StasisEnd",
        "ChannelCreated",
        "ChannelDestroyed",
        "ChannelStateChange",
        "ChannelDialplan",
        "ChannelVarset",
        "ChannelDtmfReceived",
        "ChannelEnteredBridge",
        "ChannelLeftBridge",
        "ChannelHangupRequest",
        "ChannelHold",
        "BridgeDestroyed",
        "Dial",
    }


def test_what_a_key_press_says() -> None:
    event = next(decode_event(m) for m in MESSAGES if '"ChannelDtmfReceived"' in m)
    assert isinstance(event, model.ChannelDtmfReceived)
    assert event.digit in "0123456789*#"
    assert event.duration_ms > 0
    assert event.channel.name.startswith("PJSIP/1001-")


def test_an_unknown_type_is_an_event_all_the_same() -> None:
    event = decode_event(b'{"type":"FromTheFuture","channel":{"id":"x","new":1},"payload":[1,{"a":2}]}')
    assert type(event) is Event
    assert event.channel is not None
    assert event.channel.id == "x"


@pytest.mark.parametrize("message", [b"", b"{", b"[]", b'{"channel":{"id":"x"}}', b'{"type":"StasisStart"}', b"\xff"])
def test_what_makes_no_sense_is_refused(message: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        decode_event(message)


def test_a_dial_is_about_the_dialed_leg() -> None:
    event = decode_event(b'{"type":"Dial","dialstatus":"RINGING","caller":{"id":"a"},"peer":{"id":"b"}}')
    channel = channel_of(event)
    assert channel is not None
    assert channel.id == "b"
    assert subject_ids(event) == ("b",)


def test_ids_under_which_an_event_may_be_awaited() -> None:
    joined = b'{"type":"ChannelEnteredBridge","channel":{"id":"c"},"bridge":{"id":"b"}}'
    recorded = b'{"type":"RecordingFinished","recording":{"name":"r"}}'
    assert subject_ids(decode_event(joined)) == ("c", "b")
    assert subject_ids(decode_event(recorded)) == ("r",)


def test_the_linkedid_is_read_from_the_variables_that_ari_conf_adds() -> None:
    channel = msgspec.json.decode(b'{"id":"x","channelvars":{"CHANNEL(linkedid)":"y"}}', type=model.Channel)
    assert channel.linkedid == "y"
    assert (
        msgspec.json.decode(b'{"id":"x","channelvars":{"CHANNEL(linkedid)":""}}', type=model.Channel).linkedid is None
    )
    assert model.Channel(id="x").linkedid is None
