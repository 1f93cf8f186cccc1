"""What actions may ask of streams: defaults, and what is refused in which words."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest
from pydantic import ValidationError

from bridge.dialects.base import Setting
from bridge.flows.actions.streams import ExternalMediaStartOptions, FlowStreamOptions
from bridge.flows.options import Options
from bridge.streams.flow_options import ExternalServer
from bridge.validation import explain, sentence
from tests.flow_requests import external_media, stream_start, stream_stop


def refused(model: type[Options], given: dict[str, Any]) -> NoReturn:
    """Raise what is wrong with options, in words."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate(given)
    raise ValueError(sentence(explain(caught.value, model)))


URL = "ws://app.example/x?secret=tell-nobody"


@pytest.mark.parametrize(
    ("given", "listen", "speak"),
    [
        ({"url": URL}, "", "both"),
        ({"url": URL, "encapsulation": "sln"}, "", "both"),
        ({"url": URL, "direction_listen": "in"}, "in", "both"),
        ({"url": URL, "direction_listen": "both", "direction_speak": "out"}, "both", "out"),
        ({"url": URL, "dialect": "twilio"}, "", "both"),
        ({"url": URL, "dialect": "voxology", "direction_listen": "out"}, "out", ""),
        ({"external_host": "192.0.2.1:4000"}, "both", "both"),
        ({"external_host": "[::1]:4000", "direction_listen": "in"}, "in", ""),
        ({"external_host": "media.example:4000", "direction_speak": "out"}, "", "out"),
    ],
)
def test_directions(given: dict[str, Any], listen: str, speak: str) -> None:
    options = external_media(**given)
    assert (options.listen, options.speak) == (listen, speak)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "url: give either url or external_host"),
        ({"url": URL, "external_host": "a:1"}, "url: give either url or external_host, not both"),
        ({"url": "http://app.example"}, "url: must start with ws:// or wss://"),
        ({"url": URL, "encapsulation": "g722"}, "options: encapsulation must be one of rtp, sln, audiosocket"),
        (
            {"url": URL, "encapsulation": "rtp", "dialect": "twilio"},
            "encapsulation: not an option of the dialect twilio",
        ),
        ({"url": URL, "encapsulation": "rtp", "options": {"encapsulation": "sln"}}, "options.encapsulation: "),
        ({"url": URL, "options": {"pitch": 1}}, "options.pitch: is not an option; the dialect voipbin has"),
        ({"url": URL, "dialect": "morse"}, "dialect: unknown dialect 'morse'"),
        ({"url": URL, "transport": "udp"}, "transport: requires external_host"),
        ({"url": URL, "dialect": "yeastar"}, "direction_listen: required, as the dialect yeastar is one-way"),
        (
            {"url": URL, "dialect": "yeastar", "direction_listen": "in", "direction_speak": "in"},
            "direction_speak: the dialect yeastar is one-way",
        ),
        ({"external_host": "a"}, "external_host: expected host:port"),
        ({"external_host": "a:70000"}, "external_host: expected host:port"),
        ({"external_host": "a b:70"}, "external_host: expected host:port"),
        ({"external_host": "a:1", "dialect": "twilio"}, "dialect: requires url"),
        ({"external_host": "a:1", "encapsulation": "sln"}, "encapsulation: expected rtp or audiosocket"),
        ({"external_host": "a:1", "encapsulation": "none", "transport": "websocket"}, "encapsulation: expected rtp"),
        ({"external_host": "a:1", "transport": "tcp"}, "transport: Asterisk carries rtp over udp only"),
        (
            {"external_host": "a:1", "encapsulation": "audiosocket", "transport": "udp"},
            "transport: Asterisk carries audiosocket over tcp only",
        ),
        ({"external_host": "a:1", "connection_type": "server"}, "connection_type: expected client"),
        ({"external_host": "a:1", "direction": "in"}, "direction: expected both"),
        ({"external_host": "a:1", "format": "µ-law"}, "format: expected Asterisk's name"),
        ({"external_host": "a:1", "encapsulation": "audiosocket", "data": "7"}, "data: expected a UUID"),
        (
            {"external_host": "a:1", "direction_listen": "inside"},
            "direction_listen: expected one of '', 'in', 'out' or 'both'",
        ),
        ({"external_host": "a:1", "directions": "in"}, "directions: unknown key"),
    ],
)
def test_external_media_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=r"^[a-z_.]+: ") as caught:
        refused(ExternalMediaStartOptions, given)
    assert str(caught.value).startswith(told)
    assert "tell-nobody" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "encapsulation", "codec"),
    [
        ({}, "rtp", "ulaw"),
        ({"format": "slin16"}, "rtp", "slin16"),
        ({"encapsulation": "audiosocket"}, "audiosocket", "slin"),
        ({"encapsulation": "audiosocket", "transport": "tcp", "connection_type": "client"}, "audiosocket", "slin"),
    ],
)
def test_what_asterisk_is_asked_for(given: dict[str, Any], encapsulation: str, codec: str) -> None:
    options = external_media(external_host="a:1", **given)
    assert isinstance(options, ExternalServer)
    assert (options.encapsulation, options.format) == (encapsulation, codec)


@pytest.mark.parametrize(
    ("given", "tracks", "speaks"),
    [
        ({}, ("caller",), False),
        ({"tracks": ["caller", "transfer"], "stream_data": {"a": [1]}}, ("caller", "transfer"), False),
        ({"tracks": "transfer"}, ("transfer",), False),
        ({"dialect": "yeastar"}, ("caller", "transfer"), False),
        ({"dialect": "twilio"}, ("inbound",), False),
        ({"dialect": "twilio", "tracks": "both_tracks"}, ("inbound", "outbound"), False),
        ({"dialect": "twilio", "tracks": ["outbound_track"]}, ("outbound",), False),
        ({"dialect": "twilio", "connect": True, "parameters": {"a": "b"}}, ("inbound",), True),
        ({"dialect": "telnyx", "connect": True, "parameters": {"a": "b"}}, ("inbound",), True),
        ({"dialect": "vonage", "connect": True, "parameters": {"a": "b"}}, ("caller",), True),
        ({"dialect": "jambonz", "tracks": "transfer"}, ("transfer",), False),
        ({"dialect": "plivo", "connect": True, "parameters": {"a": "b"}}, ("inbound",), True),
        ({"dialect": "exotel", "connect": True, "parameters": {"a": "b"}}, ("inbound",), True),
        ({"dialect": "voipbin"}, ("mix",), True),
        ({"dialect": "voipbin", "options": {"encapsulation": "sln"}, "connect": True}, ("mix",), True),
    ],
)
def test_stream(given: dict[str, Any], tracks: tuple[str, ...], speaks: bool) -> None:
    options = stream_start(url=URL, **given)
    assert tuple(options.tracks) == tracks
    assert options.target.sends_audio is speaks
    dialect = options.target.new_dialect(Setting(options.target.layout, options.target.two_way))
    assert dialect.name == given.get("dialect", "voxology")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"url": ""}, "url: is missing"),
        ({"tracks": ["callee"]}, "tracks: 'callee' is not one of caller, transfer"),
        ({"tracks": "both_tracks"}, "tracks: 'both_tracks' is not one of"),
        ({"dialect": "twilio", "tracks": "caller"}, "tracks: the dialect twilio has inbound_track"),
        (
            {"dialect": "twilio", "tracks": "both_tracks", "connect": True},
            "options: tracks=both_tracks conflicts with connect",
        ),
        ({"dialect": "voipbin", "tracks": ["caller", "transfer"]}, "tracks: expected one"),
        (
            {"dialect": "twilio", "stream_data": {}},
            "stream_data: not supported by the dialect twilio; expected voxology",
        ),
        ({"stream_data": "text"}, "stream_data: "),
        ({"parameters": {"a": "b"}}, "parameters: not supported by the dialect voxology; expected "),
        ({"connect": True}, "connect: the dialect voxology is one-way"),
        ({"action": "pause"}, "action: expected one of 'start' or 'stop'"),
        ({"options": {"chunk_ms": 33}}, "options: chunk_ms must be"),
    ],
)
def test_stream_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=r"^[a-z_.]+: ") as caught:
        refused(FlowStreamOptions, {"url": URL, **given})
    assert str(caught.value).startswith(told)


def test_stop_needs_little() -> None:
    assert not stream_stop().tracks
    assert stream_stop(url=URL, tracks=["inbound_track"]).tracks == {"inbound"}
