"""Failures to authenticate, counted by address."""

from __future__ import annotations

import pytest

from bridge.api.refusals import Refusals


def test_an_address_may_fail_so_often_and_again_after_a_while() -> None:
    refusals = Refusals(per_minute=30)
    assert [refusals.add("192.0.2.1", 0.0) for _ in range(30)] == [0] * 30
    assert refusals.add("192.0.2.1", 0.0) == 2
    assert refusals.add("192.0.2.2", 0.0) == 0
    # Half a minute drains half of it, and what was tried while it was full does not make it fuller.
    for _ in range(1000):
        refusals.add("192.0.2.1", 0.0)
    assert [refusals.add("192.0.2.1", 30.0) for _ in range(15)].count(0) == 14
    assert refusals.add("192.0.2.1", 30.0) == 2
    assert refusals.add("192.0.2.1", 300.0) == 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("", "", True),
        ("nonsense", "nonsense", True),
    ],
)
def test_what_counts_as_one_address(one: str, other: str, same: bool) -> None:
    refusals = Refusals(per_minute=1)
    assert refusals.add(one, 0.0) == 0
    assert bool(refusals.add(other, 0.0)) == same


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_this_machine_may_fail_more_often(address: str) -> None:
    refusals = Refusals(per_minute=1, loopback_per_minute=5)
    assert [bool(refusals.add(address, 0.0)) for _ in range(6)] == [False] * 5 + [True]


def test_only_so_many_addresses_are_remembered() -> None:
    refusals = Refusals(per_minute=1, max_addresses=100)
    for number in range(10_000):
        refusals.add(f"10.0.{number // 256}.{number % 256}", 0.0)
    assert len(refusals) == 100
    assert refusals.add("10.0.0.0", 0.0) == 0  # discarded long ago
    assert refusals.add("10.0.39.15", 0.0) > 0
