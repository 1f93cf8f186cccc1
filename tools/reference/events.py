"""The payloads of events: events.json, which ``tests/lab/test_event_payloads.py`` captures from real calls."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("events.json")
WIDTH = 116
PARTS: Mapping[str, tuple[str, ...]] = {
    "calls": ("call_created", "call_ringing", "call_progressing", "call_updated", "call_hangup"),
    "parties": ("call_joined", "call_left"),
    "flows": ("flow_started", "flow_action", "flow_ended"),
    "streams": ("stream_started", "stream_connected", "stream_ended"),
    "transcripts": ("transcribe_speech_interim", "transcript_created"),
    "tools": ("tool_called", "tool_ended"),
    "conferences": ("conference_created", "conference_joined", "conference_left", "conference_deleted"),
    "recordings": ("recording_started", "recording_finished"),
    "sensitive mode": ("sensitive_started", "sensitive_ended"),
    "digits": ("dtmf_received",),
}
"""The types that each part of the page shows."""
ALWAYS = {"id", "status", "party", "cause", "moved_to"}
"""Keys that a shortened event of a call shows, beside those that changed."""


def payloads() -> dict[str, dict[str, Any]]:
    """Return a captured event of each type."""
    return {event["type"]: event for event in map(json.loads, FILE.read_text(encoding="utf-8").splitlines())}


def fragments() -> dict[str, Callable[[], str]]:
    """Return the writer of each part."""
    return {name: partial(_block, types) for name, types in PARTS.items()}


def _block(types: tuple[str, ...]) -> str:
    """Return events as a block of JSON; of a call, the first in full and of the later ones what changed."""
    found = payloads()
    lines = []
    before = found["call_created"]["data"]
    for name in types:
        event = found[name]
        data = event["data"]
        if name in PARTS["parties"]:
            lines.append(_text(event, _changed(data, data)))
        elif name in PARTS["calls"][1:]:
            lines.append(_text(event, _changed(data, before)))
            before = data
        else:
            lines.append(_text(event, data))
    return "\n".join(["```json", *lines, "```"])


def _changed(data: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that a shortened event of a call shows; ``…`` stands for the rest."""
    shown = {key: value for key, value in data.items() if key in ALWAYS or value != before.get(key)}
    return {key: value for key, value in shown.items() if key not in ("parties", "streams", "tm_update")} | {"…": ""}


def _text(event: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    text = json.dumps({**event, "data": data}, ensure_ascii=False).replace('"…": ""', "…")
    # Lines break between values, never within a string.
    whole = re.sub(r'"(?:[^"\\]|\\.)*"(?:: (?![{\[]))?', lambda found: found[0].replace(" ", "\0"), text)
    lines = textwrap.wrap(whole, WIDTH, subsequent_indent=" ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace("\0", " ")
