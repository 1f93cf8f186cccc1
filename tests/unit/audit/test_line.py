"""One line of the audit log: what is left out, and that it is never longer than one write may be."""

from __future__ import annotations

import json
import select

import pytest

from bridge.audit.line import MAX_CHARACTERS, MAX_ITEMS, MAX_LINE_BYTES, line_of
from bridge.times import utc


def test_a_line_is_one_json_object_without_empty_values() -> None:
    line = line_of({"action": "call.hangup", "call": "c1", "party": "", "calls": [], "status": 200, "speak": False})
    assert line == b'{"action":"call.hangup","call":"c1","status":200,"speak":false}\n'


def test_line_breaks_and_surrogates_stay_in_their_value() -> None:
    line = line_of({"call": 'a\n{"action":"forged"}\u2028\udcff"'})
    assert line.count(b"\n") == 1
    assert json.loads(line)["call"] == 'a\n{"action":"forged"}\u2028\udcff"'


def test_long_values_and_lists_are_cut_and_the_length_of_a_list_stays() -> None:
    line = json.loads(line_of({"call": "x" * 5000, "destinations": [f"tel {number}" for number in range(40)]}))
    assert line["call"] == "x" * MAX_CHARACTERS
    assert line["destinations"] == [f"tel {number}" for number in range(MAX_ITEMS)]
    assert line["destinations_count"] == 40


@pytest.mark.parametrize("character", ["x", "\u00e9", "\U0001f600", "\0", "\\"])
def test_no_line_is_longer_than_one_write(character: str) -> None:
    values = {f"value_{number}": character * 5000 for number in range(30)}
    lists = {f"list_{number}": [character * 5000] * 20 for number in range(4)}
    line = line_of({"action": "call.originate", **values, **lists})
    assert len(line) <= MAX_LINE_BYTES < select.PIPE_BUF
    assert json.loads(line)["value_19"][0] in (character, "?")


def test_times_are_utc_in_milliseconds() -> None:
    assert utc(1_767_225_600.1234) == "2026-01-01T00:00:00.123Z"
