"""The comparison of messages with vendors' examples finds what differs (`tests.shapes`)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.shapes import differences

EXAMPLE: dict[str, Any] = {
    "stream_id": 117179172,
    "type": "end_stream",
    "call_id": "326065@3423993407",
    "caller_no": "+17145551212",
    "error": None,
    "data": {"any": 1},
    "tracks": [
        {"name": "caller", "start_time": "2020-12-02T17:39:32.588Z", "duration": 4920},
        {"name": "transfer", "start_time": "2020-12-02T17:39:32.588Z", "duration": 4928},
    ],
}


def compared(**changes: Any) -> list[str]:
    return differences(EXAMPLE, {**EXAMPLE, **changes}, same={"type"}, free={"data"})


def tracks(*names: str, **changes: Any) -> list[dict[str, Any]]:
    return [{**EXAMPLE["tracks"][0], "name": name, **changes} for name in names]


def test_what_is_alike() -> None:
    assert compared() == []
    assert compared(stream_id=999999999, call_id="lab-1.5", caller_no="1001", data="", tracks=tracks("transfer")) == []
    assert compared(tracks=tracks("caller", "transfer", duration=12_000)) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"direction": "inbound"}, "extra ['direction']"),
        ({"type": "stop"}, "'stop' instead of 'end_stream'"),
        ({"stream_id": 1764422973123456}, "another magnitude"),
        ({"stream_id": "117179172"}, "str instead of int"),
        ({"error": "none"}, "str instead of null"),
        ({"caller_no": None}, "null instead of str"),
        ({"caller_no": "Alice"}, "'Alice' is a string, not a number"),
        ({"tracks": tracks("transfer", "caller")}, "['transfer', 'caller'], not ['caller', 'transfer']"),
        ({"tracks": tracks("near")}, "['near']"),
        ({"tracks": tracks("caller", "caller")}, "['caller', 'caller']"),
        ({"tracks": tracks("caller", duration=5)}, "tracks[0].duration: 5 is of another magnitude than 4920"),
        ({"tracks": tracks("caller", duration=4.9)}, "float instead of int"),
        ({"tracks": tracks("caller", start_time="2020-12-02T17:39:32Z")}, "not a time"),
    ],
)
def test_what_differs(changes: dict[str, Any], said: str) -> None:
    (found,) = compared(**changes)
    assert said in found


def test_missing_keys_and_their_order() -> None:
    (missing,) = differences(EXAMPLE, {key: EXAMPLE[key] for key in EXAMPLE if key != "call_id"})
    assert "missing ['call_id']" in missing
    (order,) = differences(EXAMPLE, dict(reversed(EXAMPLE.items())))
    assert "in the order" in order
