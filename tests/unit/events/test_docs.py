"""The examples in docs/reference/events.md have the keys that the code publishes, and it lists all types."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import asdict

from bridge.calls.addresses import Address
from bridge.calls.call import Party
from bridge.calls.call_json import full_call_json, party_json
from bridge.calls.call_record import CallRecord
from bridge.conferences.model import Conference, Participant, conference_data, participant_data
from bridge.config.webhooks import EVENT_TYPES
from bridge.streams.events import stream_event, transcript_event
from tools.reference.events import PARTS, payloads

ROOT = Path(__file__).parents[3]


def examples() -> dict[str, dict[str, Any]]:
    """Return the whole examples by type; those with an ellipsis are left out."""
    found = {}
    for block in re.findall(r"```json\n(.*?)```", (ROOT / "docs/reference/events.md").read_text(), re.S):
        for text in re.split(r"\n(?=\{)", block):
            if "…" not in text:
                event = json.loads(text)
                found[event["type"]] = event
    return found


def test_examples_have_the_keys_of_every_event() -> None:
    found = examples()
    assert len(found) == len(EVENT_TYPES) - 6  # six of the call's seven are shortened
    for event in found.values():
        assert set(event) == {"id", "type", "tm_create", "data"}


@pytest.mark.parametrize("kind", ["stream_started", "stream_connected", "stream_ended"])
def test_streams(kind: str) -> None:
    assert set(examples()[kind]["data"]) == set(stream_event("p1", "c", "client", "twilio", "crm"))


def test_every_type_is_shown_as_it_was_captured() -> None:
    shown = {name for names in PARTS.values() for name in names}
    assert shown == set(payloads()) == set(EVENT_TYPES)


def test_transcripts() -> None:
    for kind in PARTS["transcripts"]:
        assert set(examples()[kind]["data"]) == set(transcript_event("p1", "c", "caller", ""))


def test_every_published_type_is_known_and_every_known_type_is_published() -> None:
    source = "\n".join(
        path.read_text()
        for path in sorted((ROOT / "bridge").rglob("*.py"))
        if path.relative_to(ROOT).parts[1] not in ("config", "testing")
    )
    published = set(re.findall(r'publish\(\s*"(\w+)"', source))
    assert published
    assert published <= set(EVENT_TYPES)
    for name in EVENT_TYPES:
        assert f'"{name}"' in source, f"nobody publishes {name}"


def test_calls() -> None:
    record = CallRecord("1", tm_create=1.0, tm_update=1.0)
    example = examples()["call_created"]["data"]
    assert set(example) == set(full_call_json(record, None, 0))
    assert set(example["parties"][0]) == set(party_json(Party("1", 1)))
    empty = asdict(Address())
    assert example["source"] == {**empty, "target": "1001", "target_name": "Alice"}


def test_conferences() -> None:
    conference = Conference("c", "", "bridge", False, 0.0, ())
    assert set(examples()["conference_created"]["data"]) == set(conference_data(conference))
    assert set(examples()["conference_joined"]["data"]) == set(participant_data("c", Participant("1")))
