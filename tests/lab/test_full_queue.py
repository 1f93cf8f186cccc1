"""A full queue on a real call: what a phone receives of messages that are accepted, and of those that are rejected."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from bridge.config import MediaConfig
from bridge.testing import judge
from bridge.testing.lab_engine import Lab
from bridge.testing.peer import Peer
from tests.lab.conftest import Phones, pushing
from tests.lab.exact import FRAME_SAMPLES, RATE, assert_exact, noise, runs
from tests.lab.waiting import PATIENCE_S, sends

MAX_QUEUED_MS = 2000
CONTROL = {"encapsulation": "sln", "control": "true"}


async def event(application: Peer, name: str, seen: int = 0) -> dict[str, Any]:
    """Wait for an event that is not among the first ``seen`` messages; return its body."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            texts = [json.loads(each.data) for each in application.messages[seen:] if isinstance(each.data, str)]
            for each in texts:
                if each["event"] == name:
                    body: dict[str, Any] = each[name]
                    return body
            await asyncio.sleep(0.02)


async def drained_to(application: Peer, most_ms: float) -> None:
    """Wait until at most this much audio is queued."""
    while True:
        seen = len(application.messages)
        await application.send('{"event": "queue"}')
        if (await event(application, "queue", seen))["buffered_ms"] <= most_ms:
            return
        await asyncio.sleep(0.1)


async def test_a_message_is_heard_to_its_last_sample_or_not_at_all(lab: Lab, phones: Phones) -> None:
    """The first is six times as long as the limit of the queue, which has room again for the last."""
    (alice,) = await phones("1001")
    first, rejected, last = (noise(seconds, RATE, seed=seed) for seconds, seed in ((12, 1), (4, 2), (3, 3)))
    media = MediaConfig(max_queued_ms=MAX_QUEUED_MS, refuse_late_ms=0)
    async with pushing(lab, media=media) as target:
        await alice.call("750", play=judge.silence(60, RATE))
        await alice.answered()
        call = await target.call_from("1001")
        async with target.stream(call["id"], **CONTROL) as application:
            await event(application, "start")
            for samples in (first, rejected):
                await application.send(samples.astype("<i2").tobytes())
            assert await event(application, "refused") == {"duration_ms": 4000}
            await drained_to(application, MAX_QUEUED_MS / 2 - 100)
            await application.send(last.astype("<i2").tobytes())
            await application.send('{"event": "mark", "mark": {"name": "end"}}')
            assert await event(application, "mark") == {"name": "end"}
            (stream,) = (await target.get("/v1.0/streams"))[1]["result"]
            await sends(alice, 0.5)  # what was handed to Asterisk reaches the phone
            await alice.hangup()
        assert stream["dropped_from_application_ms"] == 4000
        await target.nothing_left()
    heard = alice.recording()
    assert runs(rejected, heard) == []
    latest = runs(first, heard)[-1]
    assert latest.at + latest.offset + latest.samples >= len(first) - FRAME_SAMPLES
    end_of_first = latest.at + latest.samples
    assert_exact(first, heard[:end_of_first], 12)
    assert_exact(last, heard[end_of_first:], 3)
