"""ARI's events of real calls (tests/wire/ari), and how a call model is fed with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from bridge.ari.model import Event, decode_event
from bridge.calls.call import Change
from bridge.calls.model import CallModel

FOLDER = Path(__file__).parents[2] / "wire" / "ari"
RECORDINGS = sorted(path.stem for path in FOLDER.glob("*.jsonl"))

Step = Event | tuple[str, str]
"""An event, or a channel and the linkedid that Asterisk reported for it."""


def recorded(name: str) -> list[Step]:
    steps: list[Step] = []
    for line in (FOLDER / f"{name}.jsonl").read_text().splitlines():
        raw = json.loads(line)
        steps.append(tuple(raw["linkedid"]) if "linkedid" in raw else decode_event(line))
    return steps


def promptly(name: str) -> list[Step]:
    """Return a recording in which each channel's linkedid is known immediately, whatever the load was."""
    first: dict[str, Step] = {}
    rest: list[Step] = []
    for step in recorded(name):
        if isinstance(step, tuple) and step[0] not in first:
            first[step[0]] = step
        else:
            rest.append(step)
    steps: list[Step] = []
    for step in rest:
        steps.append(step)
        if not isinstance(step, tuple) and step.type == "ChannelCreated" and step.channel is not None:
            steps += [first[step.channel.id]] if step.channel.id in first else []
    return steps


def feed(model: CallModel, steps: list[Step]) -> Iterator[Change]:
    for number, step in enumerate(steps):
        if isinstance(step, tuple):
            yield from model.learn_linkedid(*step, now=float(number))
        else:
            yield from model.apply(step, float(number))
