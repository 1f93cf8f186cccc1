"""Rejected requests: a flood of them is a few lines, and the numbers in these add up."""

from __future__ import annotations

from bridge.audit.rejections import MAX_KINDS, OTHERS, WINDOW_S, RejectionKind, Rejections

KIND = RejectionKind("", "192.0.2.7", "call.hangup", 401, "INVALID_CREDENTIALS")


def test_one_rejection_is_one_line() -> None:
    rejections = Rejections()
    assert rejections.add(KIND, 0)
    assert list(rejections.due(WINDOW_S)) == []
    assert len(rejections) == 0


def test_a_flood_is_one_line_at_once_and_one_for_each_window() -> None:
    rejections = Rejections()
    lines = []
    for step in range(3000):
        now = step / 100
        if rejections.add(KIND, now):
            lines.append(1)
        lines += [count for _, count, _ in rejections.due(now)]
    lines += [count for _, count, _ in rejections.due(30, all_of_them=True)]
    assert sum(lines) == 3000
    assert len(lines) <= 5


def test_kinds_are_told_apart() -> None:
    rejections = Rejections()
    assert rejections.add(KIND, 0)
    assert rejections.add(RejectionKind("", "192.0.2.8", "call.hangup", 401, "INVALID_CREDENTIALS"), 0)
    assert not rejections.add(KIND, 1)
    assert list(rejections.due(WINDOW_S)) == [(KIND, 1, 0)]


def test_many_addresses_are_counted_together_and_none_is_lost() -> None:
    rejections = Rejections()
    count = MAX_KINDS + 500
    lines = sum(rejections.add(RejectionKind(address=f"2001:db8::{number:x}"), 0) for number in range(count))
    assert len(rejections) == MAX_KINDS + 1
    ((kind, counted, _),) = rejections.due(WINDOW_S)
    assert kind is OTHERS
    assert lines + counted == count
