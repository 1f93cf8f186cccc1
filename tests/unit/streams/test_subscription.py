"""Which calls a subscription matches, and what it refuses to be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bridge.calls.facts import CallFacts
from bridge.config import Config
from bridge.config.values import server_of
from bridge.dialects.base import Account, Setting
from bridge.errors import ConfigError
from bridge.streams.subscription import (
    DialplanRoute,
    Subscription,
    matches,
    routes_of,
    subscriptions_of,
    values_of,
)
from bridge.validation import explain, sentence

GROUPS = {"sales": ("1001", "20*"), "empty": ()}


def subscription(**values: Any) -> Subscription:
    return Subscription.model_validate({"id": "s", "url": "wss://app.example/x", "dialect": "yeastar"} | values)


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("wss://user:secret@app.example:8443/x?key=secret#y", "wss://app.example:8443/x"),
        ("wss://app.example/x", "wss://app.example/x"),
        ("wss://[2001:db8::1]/x", "wss://[2001:db8::1]/x"),
        ("wss://[2001:db8::1]:8443/x", "wss://[2001:db8::1]:8443/x"),
        ("x", ""),
    ],
)
def test_what_is_shown_of_a_url(url: str, server: str) -> None:
    assert server_of(url) == server


def call(extensions: str = "", trunks: str = "", dids: str = "") -> CallFacts:
    return CallFacts(
        extensions=frozenset(extensions.split()), trunks=frozenset(trunks.split()), dids=frozenset(dids.split())
    )


@pytest.mark.parametrize(
    ("objects", "facts", "expected"),
    [
        ({"extensions": ["1001"]}, call("1001 1002"), True),
        ({"extensions": ["1001"]}, call("10010 100"), False),
        ({"extensions": ["10*"]}, call("1002"), True),
        ({"extensions": ["10?[13]"]}, call("1003"), True),
        ({"extensions": ["10?[13]"]}, call("1002"), False),
        ({"extensions": ["alice"]}, call("Alice"), False),
        ({"extensions": ["@sales"]}, call("1001"), True),
        ({"extensions": ["@sales"]}, call("2044"), True),
        ({"extensions": ["@sales"]}, call("1002"), False),
        ({"extensions": ["@empty"]}, call("1002"), False),
        ({"extensions": ["@gone"]}, call("@gone 1002"), False),
        ({"extensions": ["@gone", "1002"]}, call("1002"), True),
        ({"extensions": ["*"]}, call("", "provider"), False),
        ({"trunks": ["provider-*"]}, call("1001", "provider-1"), True),
        ({"trunks": ["provider-*"]}, call("provider-1", "other"), False),
        ({"dids": ["+4930*"]}, call("1001", "provider", "+493012345"), True),
        ({"dids": ["+4930*"]}, call("1001", "provider", "493012345"), False),
        ({"extensions": ["9"], "trunks": ["t"], "dids": ["5"]}, call("1", "t", "6"), True),
        ({"extensions": ["9"], "trunks": ["t"], "dids": ["5"]}, call("1", "x", "6"), False),
        ({"extensions": ["1001"], "ignored": ["extensions"]}, call("1001"), False),
        ({"extensions": ["1001"], "dids": ["5"], "ignored": ["extensions"]}, call("1001", "", "5"), True),
        ({}, call("1001", "t", "5"), False),
    ],
)
def test_which_calls_match(objects: dict[str, Any], facts: CallFacts, expected: bool) -> None:
    one = subscription(**objects)
    assert matches(one, facts, GROUPS) is expected
    assert matches(one.resolved(GROUPS), facts) is expected


NAMES = st.frozensets(st.text("0123+a", min_size=1, max_size=4), max_size=4)


@given(
    extensions=NAMES, trunks=NAMES, dids=NAMES, facts=st.builds(CallFacts, extensions=NAMES, trunks=NAMES, dids=NAMES)
)
def test_names_without_patterns_match_themselves(
    extensions: frozenset[str], trunks: frozenset[str], dids: frozenset[str], facts: CallFacts
) -> None:
    one = subscription(extensions=tuple(extensions), trunks=tuple(trunks), dids=tuple(dids))
    expected = bool(extensions & facts.extensions or trunks & facts.trunks or dids & facts.dids)
    assert matches(one, facts) is expected


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"dialect": "klingon"}, ["dialect", "klingon", "yeastar"]),
        ({"options": {"rate": 11025}}, ["options", "16000"]),
        ({"sample_rate": 11025}, ["options", "16000"]),
        ({"options": {"color": "red"}}, ["options.color", "rate"]),
        ({"options": {"rate": 8000}, "sample_rate": 16000}, ["sample_rate", "options.rate"]),
        ({"dialect": "voxology", "sample_rate": 16000}, ["sample_rate", "fixed"]),
        ({"dialect": "voxology", "options": {"chunk_ms": 7}}, ["options", "chunk_ms"]),
        ({"dialect": "twilio", "tracks": "parties"}, ["tracks"]),
        ({"dialect": "twilio", "options": {"tracks": "both_tracks"}}, ["options.tracks", "its own key"]),
        ({"dialect": "twilio", "options": {"rng": 1}}, ["options.rng"]),
        ({"dialect": "twilio", "options": {"parameters": "text"}}, ["options"]),
        ({"dialect": "voipbin"}, ["options", "encapsulation", "rtp"]),
        ({"tracks": "all"}, ["tracks", "parties", '"all"']),
    ],
)
def test_what_a_dialect_refuses(values: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValidationError) as caught:
        subscription(**values)
    text = sentence(explain(caught.value, Subscription))
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    "values",
    [
        {"url": "http://app.example"},
        {"url": "wss://"},
        {"url": "wss://user:word@app.example/"},
        {"url": "wss://app.example/#part"},
        {"url": "wss://app.example:0/"},
        {"url": "wss://app.example:99999/"},
        {"url": "wss://app.example/a b"},
        {"url": "wss://app.example/" + "x" * 2048},
        {"auth_key": "x" * 64},
        {"auth_key": "No Spaces"},
        {"auth_key": "Host"},
        {"auth_key": "SEC-WEBSOCKET-KEY"},
        {"auth_value": "two\r\nlines"},
        {"auth_value": "sécret"},
        {"auth_value": "space "},
        {"id": "Capital"},
        {"id": "two--dashes"},
        {"id": ""},
        {"id": "x" * 64},
        {"extensions": "1001"},
        {"extensions": [1001]},
        {"extensions": [""]},
        {"tracks": "all"},
        {"multiparty": "many"},
        {"ignored": ["queues"]},
        {"window_ms": -1},
        {"color": "red"},
    ],
)
def test_what_no_subscription_can_have(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        subscription(**values)
    assert "word@" not in str(caught.value)
    assert "lines" not in str(caught.value)


def test_the_credential_is_a_header_and_shows_nowhere() -> None:
    one = subscription(auth_key="Authorization", auth_value="Bearer confidential")
    assert one.headers == {"Authorization": "Bearer confidential"}
    assert "confidential" not in repr(one) + str(one) + one.model_dump_json()
    assert subscription(auth_key="", auth_value="confidential").headers == {}
    assert subscription(auth_value="").headers == {}


def test_a_log_does_not_see_the_query() -> None:
    assert subscription(url="wss://app.example:8443/x/y?token=confidential").display_url == "wss://app.example:8443/x/y"


def test_what_is_kept_can_be_made_again() -> None:
    one = subscription(auth_value="confidential", options={"rate": 16000}, extensions=["1", "@sales"], window_ms=0)
    assert Subscription.model_validate(values_of(one)) == one


@pytest.mark.parametrize(
    ("values", "layout"),
    [
        ({}, "parties"),
        ({"dialect": "voxology"}, "both"),
        ({"dialect": "twilio"}, "inbound_track"),
        ({"dialect": "twilio", "tracks": "both_tracks"}, "both_tracks"),
        ({"dialect": "voipbin", "options": {"encapsulation": "sln"}}, "mix"),
        ({"tracks": "mix"}, "mix"),
        ({"dialect": "vonage"}, "caller"),
        ({"dialect": "jambonz", "tracks": "far"}, "far"),
    ],
)
def test_auto_is_what_the_dialect_is_used_to(values: dict[str, Any], layout: str) -> None:
    assert subscription(**values).layout == layout


def test_a_dialect_is_made_with_its_options_and_what_it_takes_of_the_call() -> None:
    assert subscription(sample_rate=16000).new_dialect().rate == 16000
    one = subscription(dialect="twilio", options={"parameters": {"a": "b"}})
    account = Account(id="AC" + 32 * "1")
    assert one.new_dialect(Setting(account=account)) is not one.new_dialect()
    with pytest.raises(ValueError, match="account_sid"):
        one.new_dialect(Setting(account=Account(id="nonsense")))


def test_routes_tell_numbers_from_uuids() -> None:
    values = {"id": "r", "url": "ws://app.example", "dialect": "yeastar"}
    number = DialplanRoute.model_validate(values | {"match": "7*"})
    every_number = DialplanRoute.model_validate(values | {"match": "*"})
    uuid = DialplanRoute.model_validate(values | {"match": "uuid:40325ec2-*"})
    some = "40325ec2-5efd-4bd3-805f-53576e581d13"
    assert number.matches_number("701")
    assert not number.matches_number("601")
    assert not every_number.matches_uuid(some)
    assert uuid.matches_uuid(some.upper())
    assert not uuid.matches_number(some)
    with pytest.raises(ValidationError):
        DialplanRoute.model_validate(values | {"match": "uuid:ABC"})


def test_a_mistake_in_the_configuration_is_named() -> None:
    good = {"id": "a", "url": "wss://app.example", "dialect": "yeastar", "extensions": ["1"]}
    config = Config.model_validate(
        {"subscriptions": [good, good | {"id": "b", "options": {"rate": 1}}], "dialplan": []}
    )
    with pytest.raises(ConfigError) as caught:
        subscriptions_of(config)
    assert caught.value.key == "subscriptions.1.options"
    route = {"id": "r", "url": "wss://app.example", "dialect": "klingon", "match": "*"}
    with pytest.raises(ConfigError) as caught:
        routes_of(Config.model_validate({"dialplan": [route]}))
    assert caught.value.key == "dialplan.0.dialect"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"url": "wss://{caller}/x"}, r"url: \{caller\} may not be part of the scheme, host or port"),
        ({"url": "wss://h/{number}"}, r"url: \{number\} is unknown; expected one of \{call_id\}, \{caller\}"),
        ({"extra_headers": {"X-Lang": "{LANG}"}}, r"extra_headers\.X-Lang: \{LANG\} is unknown"),
        (
            {"dialect": "vonage", "options": {"parameters": {"agent": "{AGENT}"}}, "channel_variables": ["LANG"]},
            r"options\.parameters\.agent: \{AGENT\} is unknown; expected one of .*\{LANG\}",
        ),
        ({"extra_headers": {"Secret": "x"}}, "extra_headers: two headers have one name; auth_key is one of them"),
        ({"extra_headers": {"X-A": "1", "x-a": "2"}}, "extra_headers: two headers have one name"),
        ({"extra_headers": {"Host": "x"}}, "'Host' is a header that the WebSocket handshake itself sets"),
        ({"extra_headers": {"X-A": "a\r\nb"}}, "may contain only printable ASCII"),
        ({"auth_value": "x", "auth_value_file": "/f"}, "auth_value_file: conflicts with auth_value"),
        ({"client_key": "/k"}, "client_key: requires client_certificate"),
        ({"channel_variables": ["SHELL(rm)"]}, "must be the name of a channel variable, without a function"),
        ({"channel_variables": ["caller"]}, "none of the names that templates have"),
        ({"subprotocols": ["a b"]}, "must be a subprotocol"),
    ],
)
def test_handshakes_that_no_target_can_have(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        subscription(**values)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("auth_value_file", "/f"),
        ("client_certificate", "/f"),
        ("channel_variables", ["LANG"]),
        ("extra_headers", {"X-A": "1"}),
        ("subprotocols", ["a"]),
    ],
)
def test_files_and_variables_are_for_the_configuration_only(key: str, value: object) -> None:
    subscription(**{key: value})
    with pytest.raises(ValidationError, match=f"{key}: only in the configuration file"):
        subscription(**{key: value}, source="api")
