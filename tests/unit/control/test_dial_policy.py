"""What a destination becomes in a dial string, what never gets into one, and which calls are allowed."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.calls.addresses import Address
from bridge.config import PbxConfig
from bridge.config.calling import CallingConfig
from bridge.control.dial_policy import DialPolicy, NotAllowed
from bridge.control.originate import _caller_id
from bridge.errors import Overloaded
from bridge.patterns import Patterns


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def policy(naming: PbxConfig | None = None, clock: Clock | None = None, **keys: Any) -> DialPolicy:
    return DialPolicy(CallingConfig.model_validate(keys), naming or PbxConfig(), clock or Clock())


ALL = policy(
    tel_endpoint="PJSIP/{number}@trunk-a", sip_endpoint="PJSIP/sip-out/{uri}", sip_hosts=["*"], context="media-tap"
)


@pytest.mark.parametrize(
    ("kind", "target", "endpoint"),
    [
        ("tel", "+4930123", "PJSIP/+4930123@trunk-a"),
        ("tel", "(030) 12-34.5/6", "PJSIP/030123456@trunk-a"),
        ("tel", "*43#", "PJSIP/*43#@trunk-a"),
        ("sip", "sip:alice@example.org", "PJSIP/sip-out/sip:alice@example.org"),
        ("sip", "alice@example.org:5070;transport=tcp", "PJSIP/sip-out/sip:alice@example.org:5070;transport=tcp"),
        ("sip", "sips:1@[2001:db8::1]", "PJSIP/sip-out/sips:1@[2001:db8::1]"),
        ("extension", "1001", "PJSIP/1001"),
        ("extension", "10.b-1_2", "PJSIP/10.b-1_2"),
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
        ("sip", "sip:a@b;maddr=192.0.2.1"),
        ("sip", "sip:a@b;transport=tcp;maddr=192.0.2.1"),
        ("sip", "sip:a@b;lr"),
        ("sip", "sip:a@b?Route=c"),
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
        ALL.endpoint_of(Address(kind, target))


def test_what_is_not_configured_is_refused_by_the_name_of_its_key() -> None:
    bare = policy(max_calls=1)
    for kind, key in (("tel", "tel_endpoint"), ("sip", "sip_endpoint"), ("conference", "context")):
        with pytest.raises(ValueError, match=f"calling.{key}"):
            bare.endpoint_of(Address(kind, "123"))  # type: ignore[arg-type]
    bare.endpoint_of(Address("extension", "123"))


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


@pytest.mark.parametrize("host", ["example.org", "a.example.org", "EXAMPLE.org:5070", "[2001:db8::1]"])
def test_a_sip_host_that_is_listed_may_be_called(host: str) -> None:
    listed = policy(sip_endpoint="PJSIP/sip-out/{uri}", sip_hosts=["example.org", "*.example.org", "2001:db8::1"])
    assert listed.endpoint_of(Address("sip", f"sip:x@{host}")) == f"PJSIP/sip-out/sip:x@{host}"


@pytest.mark.parametrize("hosts", [[], ["example.org"], ["*.example.org"]])
@pytest.mark.parametrize("host", ["attacker.example", "192.0.2.1:5060", "xexample.org", "example.org.attacker.example"])
def test_another_sip_host_may_not(hosts: list[str], host: str) -> None:
    with pytest.raises(NotAllowed, match="sip_hosts"):
        policy(sip_endpoint="PJSIP/sip-out/{uri}", sip_hosts=hosts).endpoint_of(Address("sip", f"sip:x@{host}"))


@pytest.mark.parametrize(
    ("allowed", "denied", "number", "key"),
    [
        ([], [], "0900123", None),
        ([], ["0900"], "0900123", "denied_numbers"),
        ([], ["0900"], "+49 (0900) 1", None),
        (["+49"], [], "+49 30 1", None),
        (["+49"], [], "+4", "allowed_numbers"),
        (["+49"], [], "0049301", "allowed_numbers"),
        (["+49"], ["+49900"], "+49900 1", "denied_numbers"),
        (["+49", "+499001"], ["+49900"], "+49900 1", None),
        (["+49"], ["+49"], "+4930", None),
    ],
)
def test_the_longest_prefix_decides(allowed: list[str], denied: list[str], number: str, key: str | None) -> None:
    it = policy(tel_endpoint="PJSIP/{number}@t", allowed_numbers=allowed, denied_numbers=denied)
    if key is None:
        assert it.endpoint_of(Address("tel", number)).startswith("PJSIP/")
        return
    with pytest.raises(NotAllowed, match=f"calling.{key}"):
        it.endpoint_of(Address("tel", number))


@pytest.mark.parametrize(
    ("naming", "endpoint", "may"),
    [
        (PbxConfig(), "1001", True),
        (PbxConfig(), "trunk-a", False),
        (PbxConfig(trunks=Patterns(("trunk-*",))), "alice", True),
        (PbxConfig(trunks=Patterns(("trunk-*",))), "trunk-a", False),
        (PbxConfig(extensions=Patterns(("alice",))), "alice", True),
        (PbxConfig(extensions=Patterns(("alice",))), "1001", False),
        (PbxConfig(trunks=Patterns(("99*",)), extensions=Patterns(("al*",))), "1001", False),
    ],
)
def test_an_extension_is_never_a_trunk(naming: PbxConfig, endpoint: str, may: bool) -> None:
    if may:
        assert policy(naming).endpoint_of(Address("extension", endpoint)) == f"PJSIP/{endpoint}"
        return
    with pytest.raises(NotAllowed, match=r"pbx\.extensions"):
        policy(naming).endpoint_of(Address("extension", endpoint))


def test_an_extension_that_the_dialplan_looks_up_may_not_have_a_denied_prefix() -> None:
    local = policy(extension_endpoint="Local/{extension}@from-internal", denied_numbers=["00"])
    assert local.endpoint_of(Address("extension", "*72")) == "Local/*72@from-internal"
    with pytest.raises(NotAllowed, match="denied_numbers"):
        local.endpoint_of(Address("extension", "0049900"))


@pytest.mark.parametrize(
    ("source", "may"),
    [
        (None, True),
        (Address(), True),
        (Address("tel", "4711"), True),
        (Address("tel", "+49 30 555-12"), True),
        (Address("tel", "+4930556"), False),
        (Address("sip", "sip:boss@example.org"), False),
    ],
)
def test_a_caller_id_must_be_listed_where_there_is_a_list(source: Address | None, may: bool) -> None:
    policy().check_source(source)
    it = policy(caller_id="4711", caller_ids=["+4930555*"])
    if may:
        it.check_source(source)
        return
    with pytest.raises(NotAllowed, match="caller_ids"):
        it.check_source(source)


def test_calls_within_a_minute_are_counted_for_all_and_for_each_token() -> None:
    clock = Clock()
    it = policy(clock=clock, max_calls_per_minute=3, max_calls_per_minute_per_token=2)
    it.count("a")
    it.count("a")
    with pytest.raises(Overloaded, match="max_calls_per_minute_per_token"):
        it.count("a")
    clock.now += 30
    it.count("b")
    with pytest.raises(Overloaded, match=r"max_calls_per_minute$"):
        it.count("b")
    clock.now += 30  # the first two are a minute old
    it.count("b")
    it.count("a")
    with pytest.raises(Overloaded):
        it.count("c")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("allowed_numbers", ["abc"]),
        ("denied_numbers", [""]),
        ("sip_hosts", [""]),
        ("caller_ids", [" 1"]),
        ("max_calls_per_minute", 0),
    ],
)
def test_wrong_limits_in_the_configuration(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=key):
        CallingConfig.model_validate({key: value})
