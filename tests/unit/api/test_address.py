"""The client's address behind a reverse proxy, which only trusted proxies may name."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from bridge.api.address import address_behind, networks

PROXIES = networks(["10.0.0.0/24", "fd00::/8", "192.0.2.7"])
XFF = "X-Forwarded-For"


@pytest.mark.parametrize(
    ("peer", "headers", "expected"),
    [
        ("198.51.100.1", [], "198.51.100.1"),
        ("198.51.100.1", [(XFF, "203.0.113.9")], "198.51.100.1"),  # anyone can write that
        ("10.0.0.5", [], "10.0.0.5"),
        ("10.0.0.5", [(XFF, "203.0.113.9")], "203.0.113.9"),
        ("10.0.0.5", [(XFF, "1.1.1.1, 203.0.113.9")], "203.0.113.9"),  # what stands left of it the client wrote
        ("10.0.0.5", [(XFF, "203.0.113.9, 10.0.0.6, fd00::1")], "203.0.113.9"),  # three proxies
        ("10.0.0.5", [(XFF, "10.0.0.9, 10.0.0.6")], "10.0.0.9"),  # all of them are proxies
        ("10.0.0.5", [(XFF, "1.1.1.1"), (XFF, "203.0.113.9")], "203.0.113.9"),  # two lines are one list
        ("10.0.0.5", [(XFF, "203.0.113.9:4711")], "203.0.113.9"),
        ("10.0.0.5", [(XFF, "[2001:db8::1]:4711")], "2001:db8::1"),
        ("::ffff:10.0.0.5", [(XFF, "203.0.113.9")], "203.0.113.9"),
        ("192.0.2.7", [("Forwarded", "for=203.0.113.9;proto=https")], "203.0.113.9"),
        ("192.0.2.7", [("Forwarded", 'for=1.1.1.1, For="[2001:db8::1]:80";by=x')], "2001:db8::1"),
        ("10.0.0.5", [(XFF, "203.0.113.9"), ("Forwarded", "for=203.0.113.9")], "203.0.113.9"),
        # One of the two headers is the client's, and which one is unknown.
        ("10.0.0.5", [(XFF, "203.0.113.9"), ("Forwarded", "for=1.1.1.1")], "10.0.0.5"),
        ("10.0.0.5", [(XFF, "unknown")], "10.0.0.5"),
        ("10.0.0.5", [("Forwarded", "for=_hidden")], "10.0.0.5"),
        ("10.0.0.5", [(XFF, "203.0.113.9, unknown, 10.0.0.6")], "10.0.0.6"),
        ("10.0.0.5", [(XFF, "x" * 100_000)], "10.0.0.5"),
        ("", [(XFF, "203.0.113.9")], ""),
    ],
)
def test_the_rightmost_address_that_is_no_proxy(peer: str, headers: list[tuple[str, str]], expected: str) -> None:
    assert address_behind(peer, CIMultiDict(headers), PROXIES) == expected


def test_without_trusted_proxies_nobody_is_believed() -> None:
    assert address_behind("10.0.0.5", CIMultiDict({XFF: "203.0.113.9"}), ()) == "10.0.0.5"
