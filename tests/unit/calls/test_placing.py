"""What a destination becomes in a dial string, and what never gets into one."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.calls.addresses import Address
from bridge.calls.placing import Placer, _caller_id
from bridge.config.calling import CallingConfig


def placer(**keys: Any) -> Placer:
    nothing: Any = None
    return Placer(nothing, nothing, nothing, nothing, CallingConfig(**keys))


ALL = placer(tel_endpoint="PJSIP/{number}@trunk-a", sip_endpoint="PJSIP/trunk-a/{uri}", context="media-tap")


@pytest.mark.parametrize(
    ("kind", "target", "endpoint"),
    [
        ("tel", "+4930123", "PJSIP/+4930123@trunk-a"),
        ("tel", "(030) 12-34.5/6", "PJSIP/030123456@trunk-a"),
        ("tel", "*43#", "PJSIP/*43#@trunk-a"),
        ("sip", "sip:alice@example.org", "PJSIP/trunk-a/sip:alice@example.org"),
        ("sip", "alice@example.org:5070;transport=tcp", "PJSIP/trunk-a/sip:alice@example.org:5070;transport=tcp"),
        ("sip", "sips:1@[2001:db8::1]", "PJSIP/trunk-a/sips:1@[2001:db8::1]"),
        ("extension", "1001", "PJSIP/1001"),
        ("extension", "alice.b-1_2", "PJSIP/alice.b-1_2"),
        ("conference", "sales", "Local/conference-sales@media-tap/n"),
    ],
)
def test_endpoints(kind: Any, target: str, endpoint: str) -> None:
    assert ALL.endpoint_of(Address(kind, target)) == endpoint


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("tel", ""),
        ("tel", "1001&PJSIP/1002"),
        ("tel", "abc"),
        ("tel", "1\n2&3"),
        ("tel", "1" * 41),
        ("sip", "sip:a&PJSIP/1@b"),
        ("sip", "sip:a/b@c"),
        ("sip", "sip:nobody"),
        ("sip", "sip:a@b,1"),
        ("extension", "1001@other"),
        ("extension", "1001/n"),
        ("extension", "10 01"),
        ("extension", "1001\n"),
        ("conference", "a/b"),
        ("conference", "a@b"),
        ("", "1001"),
    ],
)
def test_what_is_special_in_a_dial_string_is_refused(kind: Any, target: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        ALL.check(Address(kind, target))


def test_what_is_not_configured_is_refused_by_the_name_of_its_key() -> None:
    bare = placer(max_calls=1)
    for kind, key in (("tel", "tel_endpoint"), ("sip", "sip_endpoint"), ("conference", "context")):
        with pytest.raises(ValueError, match=f"calling.{key}"):
            bare.check(Address(kind, "123"))  # type: ignore[arg-type]
    bare.check(Address("extension", "123"))


def test_whom_the_called_phone_sees() -> None:
    alice = Address("sip", "sip:alice@example.org;x=y", 'A "bad"\r\n<name>')
    seen = _caller_id(alice, Address("tel", "123"), anonymous=True)
    assert seen == {
        "CONNECTEDLINE(num,i)": "alice",
        "CONNECTEDLINE(name,i)": "A badname",
        "CONNECTEDLINE(pres,i)": "prohib",
        "CALLERID(num)": "123",
    }
    assert _caller_id(Address(), Address("extension", "1001"), anonymous=False) == {}


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("tel_endpoint", "PJSIP/trunk-a", "{number}"),
        ("tel_endpoint", "{number}", "TECHNOLOGY/"),
        ("sip_endpoint", "PJSIP/{number}@x", "{uri}"),
        ("extension_endpoint", "PJSIP/{extension}{x}", "{x}"),
    ],
)
def test_wrong_endpoints_in_the_configuration(key: str, value: str, word: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the words follow
        CallingConfig.model_validate({key: value})
    assert word in str(refused.value)
