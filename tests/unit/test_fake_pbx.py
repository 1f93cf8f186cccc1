"""The contract of the fake PBX: the transcripts of a real Asterisk (tests/wire/ari_requests).

The same requests and acts of phones lead to the same statuses and error messages, and to the same events in the same
order for each channel, bridge, playback and recording, with the same keys and types.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from bridge.ari.model import decode_event, subject_ids
from bridge.ari.rest import error_message
from tests.fakes.ari_client import FakeAriClient
from tests.fakes.pbx import FakePbx, Refused

FOLDER = Path(__file__).parents[1] / "wire" / "ari_requests"
FACTS = ("dialstatus", "dialstring", "dialplan_app", "cause", "cause_txt", "soft", "args", "digit")
TRANSCRIPTS = sorted(path.stem for path in FOLDER.glob("*.jsonl"))


def shape(value: Any) -> Any:
    """Return keys and types of a JSON value."""
    if isinstance(value, dict):
        return {key: "variables" if key == "channelvars" else shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value[:1]]
    return type(value).__name__


def without_cause(event: dict[str, Any]) -> dict[str, Any]:
    """Leave out why a phone's channel ends: whether Asterisk has the cause in time differs from run to run."""
    left_out = {
        "ChannelHangupRequest": () if "soft" in event else ("cause",),
        "ChannelDestroyed": ("cause", "cause_txt"),
    }
    return {key: value for key, value in event.items() if key not in left_out.get(event["type"], ())}


def by_subject(events: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return what each channel, bridge, playback and recording undergoes, in order, with the shape of the events.

    Channels' states and the members of bridges are part of the story; how often a list is empty is not of the shape.
    """
    stories: dict[str, list[Any]] = defaultdict(list)
    for event in map(without_cause, events):
        facts: dict[str, Any] = {key: event[key] for key in FACTS if key in event}
        channel = event.get("peer") or event.get("channel") or {}
        facts["state"] = channel.get("state")
        facts["members"] = sorted(event.get("bridge", {}).get("channels", []))
        for name in ("playback", "recording"):
            facts[name] = event.get(name, {}).get("state")
        shapes = {key: shape(value) for key, value in event.items() if key != "bridge"}
        if "bridge" in event:
            shapes["bridge"] = sorted(event["bridge"])
        for subject in subject_ids(decode_event(json.dumps(event))):
            stories[subject].append((event["type"], facts, shapes))
    return dict(stories)


class Replay:
    """A transcript, played to the fake."""

    def __init__(self) -> None:
        self.pbx = FakePbx(with_variables=True)
        FakeAriClient(self.pbx)

    def ask(self, method: str, path: str, params: dict[str, str], body: Any) -> tuple[int, str, Any]:
        """Return status, error message and shape of an answer."""
        try:
            answer = self.pbx.handle(method, path, params, body)
        except Refused as refused:
            return refused.status, refused.message, None
        status = 204 if answer is None else 201 if path.split("/")[3:4] in (["play"], ["record"]) else 200
        if path.endswith("/dial"):
            channel_id = path.split("/")[2]
            self.pbx.rings(channel_id)
            self.pbx.pick_up(channel_id)
        return status, "", shape(answer)

    def act(self, verb: str, phone: str, *more: str) -> None:
        """Have a phone do something."""
        match verb:
            case "call":
                self.pbx.call(phone, more[0], channel_id="party")
            case "press":
                self.pbx.press("party", more[0])
            case "hangup":
                self.pbx.hang_up("party" if phone == "1001" else "out1")


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_the_fake_does_what_asterisk_does(name: str) -> None:
    lines = [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text().splitlines()]
    expected: list[dict[str, Any]] = []
    replay = Replay()
    answer: tuple[int, str, Any] = (0, "", None)
    for line in lines:
        match line:
            case {"request": request}:
                answer = replay.ask(*request)
            case {"response": [status, content]}:
                message = error_message(json.dumps(content).encode()) if status >= 400 else ""
                assert answer == (status, message, shape(content) if status < 400 else None)
            case {"act": act}:
                replay.act(*act)
            case {"event": event}:
                expected.append(event)
    real, fake = by_subject(expected), by_subject([json.loads(event) for event in replay.pbx.events])
    for subject in real | fake:
        kinds = [[each[0] for each in story.get(subject, [])] for story in (real, fake)]
        assert kinds[1] == kinds[0], subject
        for theirs, ours in zip(real[subject], fake[subject], strict=True):
            assert ours == theirs, subject
