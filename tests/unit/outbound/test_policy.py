"""Which addresses may be connected to, whatever form they are written in."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bridge.outbound.policy import Denied, Policy, check_rule


def denied(policy: Policy, address: str, *, host: str = "", configured: bool = False) -> str:
    """Return why the policy denies an address; "" if it does not."""
    try:
        policy.check(host or address, address, configured=configured)
    except Denied as problem:
        return str(problem)
    return ""


FORMS = [
    lambda v4: v4,
    lambda v4: f"::ffff:{v4}",  # mapped
    lambda v4: f"::{v4}",  # compatible
    lambda v4: f"::ffff:0:{v4}",  # translated
    lambda v4: f"64:ff9b::{v4}",  # NAT64
    lambda v4: f"64:ff9b:1:ffff::{v4}",
    lambda v4: str(IPv6Address((0x2002 << 112) | (int(IPv4Address(v4)) << 80) | 1)),  # 6to4
    lambda v4: str(IPv6Address((0x20010000 << 96) | (int(IPv4Address(v4)) ^ 0xFFFFFFFF))),  # Teredo
    lambda v4: f"2001:db8::5efe:{v4}",  # ISATAP
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("169.254.169.254", "host metadata"),
        ("100.100.100.200", "host metadata"),
        ("169.254.1.1", "link-local"),
        ("224.0.0.1", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("0.1.2.3", "unspecified"),
        ("240.0.0.1", "reserved"),
    ],
)
def test_special_addresses_are_denied_in_every_form(form, address: str, kind: str) -> None:  # type: ignore[no-untyped-def]
    for configured in (False, True):
        assert f"({kind}) denied" in denied(Policy(), form(address), configured=configured)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("ff02::1", "multicast"),
        ("fd00:ec2::254", "host metadata"),
        ("::", "unspecified"),
        ("0.0.0.0", "unspecified"),
    ],
)
def test_special_ipv6_addresses(address: str, kind: str) -> None:
    assert f"({kind}) denied" in denied(Policy(), address, configured=True)


@given(
    form=st.sampled_from(FORMS),
    low=st.integers(0, 0xFFFFFF),
)
def test_loopback_is_for_configured_urls_only_in_every_form(form, low: int) -> None:  # type: ignore[no-untyped-def]
    address = form(str(IPv4Address((127 << 24) | low)))
    assert "(loopback) denied" in denied(Policy(), address)
    assert not denied(Policy(), address, configured=True)
    assert not denied(Policy(allow=["localhost"]), address)


@given(address=st.ip_addresses(), form=st.sampled_from(FORMS), bits=st.integers(1, 32))
def test_a_denied_network_is_denied_in_every_form_and_allow_wins(  # type: ignore[no-untyped-def]
    address, form, bits: int
) -> None:
    if isinstance(address, IPv4Address):
        network = str(IPv4Network(f"{address}/{bits}", strict=False))
        address = form(str(address))
        assume(int(IPv6Address(address)) > 1 if ":" in address else True)  # :: and ::1 are IPv6's own
    else:
        network = address = str(address)
    policy = Policy(deny=[network])
    assert denied(policy, address, configured=True)
    assert not denied(Policy(allow=[address], deny=[network, "*"]), address)


@given(address=st.ip_addresses(), configured=st.booleans())
def test_public_addresses_pass(address: IPv4Address | IPv6Address, configured: bool) -> None:
    if address.is_global and not address.is_multicast and isinstance(address, IPv4Address):
        assert str(address) == "168.63.129.16" or not denied(Policy(), str(address), configured=configured)


def test_private_networks_pass_unless_they_are_denied() -> None:
    for address in ("10.0.0.1", "192.168.1.1", "172.16.0.1", "fd12::1", "2001:db8::1"):
        assert not denied(Policy(), address)
    assert denied(Policy(deny=["10.0.0.0/8"]), "10.0.0.1") == (
        "outbound connection to 10.0.0.1 denied by outbound.deny (10.0.0.0/8)"
    )


def test_host_patterns() -> None:
    policy = Policy(allow=["App.example.org"], deny=["*.example.org", "10.0.0.0/8"])
    assert denied(policy, "192.0.2.1", host="db.EXAMPLE.org.") == (
        "outbound connection to db.EXAMPLE.org. denied by outbound.deny, by its name"
    )
    assert not denied(policy, "10.0.0.1", host="app.example.org")
    assert not denied(policy, "192.0.2.1", host="example.com")
    assert denied(policy, "10.0.0.1", host="example.com")
    only = Policy(allow=["192.0.2.0/24", "*.example.org"], deny=["*"])
    assert not denied(only, "192.0.2.7")
    assert not denied(only, "198.51.100.1", host="a.example.org")
    assert denied(only, "198.51.100.1", host="a.example.com")
    assert denied(only, "198.51.100.1")


def test_a_name_that_is_allowed_does_not_lead_to_special_addresses() -> None:
    policy = Policy(allow=["*.example.org"])
    for address in ("169.254.169.254", "127.0.0.1", "::1", "::ffff:127.0.0.1", "fe80::1"):
        assert denied(policy, address, host="rebinding.example.org")
    assert not denied(Policy(allow=["169.254.169.254"]), "169.254.169.254")
    assert not denied(Policy(allow=["169.254.169.254"]), "::ffff:169.254.169.254")


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("127.0.0.1", "(loopback)"),
        ("::1", "(loopback)"),
        ("localhost", "(loopback)"),
        ("LOCALHOST.", "(loopback)"),
        ("x.localhost", "(loopback)"),
        ("169.254.169.254", "(host metadata)"),
        ("db.internal", "denied by outbound.deny"),
        ("app.example", ""),
        ("10.1.1.1", ""),
    ],
)
def test_what_is_known_before_a_lookup(host: str, words: str) -> None:
    policy = Policy(deny=["*.internal"])
    if not words:
        policy.check_host(host, configured=False)
        return
    with pytest.raises(Denied) as refused:
        policy.check_host(host, configured=False)
    assert words in str(refused.value)


@pytest.mark.parametrize("rule", ["10.0.0.0/33", "10.0.0", "a b", "", "http://x", "[::1]", "x" * 300, "a/b"])
def test_wrong_rules(rule: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        check_rule(rule)


@pytest.mark.parametrize("rule", ["10.0.0.1", "10.0.0.1/8", "::/0", "localhost", "*.example.org", "*", "db-1"])
def test_right_rules(rule: str) -> None:
    assert check_rule(rule) == rule
