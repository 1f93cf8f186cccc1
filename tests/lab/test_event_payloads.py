"""The payloads in docs/reference/events.md are those of real calls: tools/reference/events.json, captured here.

    WRITE_EVENTS=1 ./lab test --engine embedded tests/lab/test_event_payloads.py
    .venv/bin/python -m tools.reference

writes them again, after a change of what events contain.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from bridge import dialects
from bridge.config.webhooks import EVENT_TYPES, OPT_IN
from bridge.dialects.base import Command, Message, Transcript
from bridge.dialects.openai_realtime import OpenAiRealtime
from bridge.testing.lab_engine import Lab
from tests.lab.conftest import Phones, pushing
from tests.lab.driving import Client, action, client_of, talk
from tests.lab.moving import tone
from tests.lab.scripted_model import Models, served
from tests.lab.sink import open_sink
from tests.shapes import differences

FILE = Path(__file__).parents[2] / "tools/reference/events.json"
TYPES = ",".join(("*", *sorted(OPT_IN)))
DELTA = "conversation.item.input_audio_transcription.delta"


class Interim(OpenAiRealtime):
    """A dialect that reports transcripts while the caller speaks, as none of asterisk-bridge's own does."""

    name: ClassVar[str] = "interim"

    def receive(self, message: Message) -> Sequence[Command]:
        """Return a transcript for each piece; leave all other messages to the dialect of the model."""
        event = json.loads(message)
        if event["type"] == DELTA:
            return (Transcript("caller", event["delta"], final=False),)
        return super().receive(message)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """Register the dialect."""
    unregister = dialects.register(Interim)
    yield
    unregister()


async def ordinary_call(client: Client, phones: Phones) -> None:
    """Observe, record and hide a call of one phone to another."""
    alice, bob = await phones("1001", "1002")
    await alice.call(bob.name)
    await alice.answered()
    call_id = (await client.target.call_from(alice.name))["id"]
    await client.until("call_joined", call_id, count=2)
    await client.until("stream_connected", call_id)
    path = f"/v1.0/calls/{call_id}"
    await client.done("POST", f"{path}/recording_start")
    await client.until("recording_started", call_id)
    await alice.dtmf("5")
    await client.until("dtmf_received", call_id)
    await client.done("POST", f"{path}/sensitive", {"timeout_s": 300})
    await client.done("DELETE", f"{path}/sensitive")
    await client.done("POST", f"{path}/recording_stop")
    await client.until("recording_finished", call_id)
    await alice.hangup()
    await client.until("call_hangup", call_id)
    await client.until("stream_ended", call_id)


async def flow_in_a_conference(client: Client) -> None:
    """Call a phone whose flow brings it into a conference."""
    conference = "/v1.0/conferences/standup"
    await client.done("POST", "/v1.0/conferences", {"id": "standup", "name": "Stand-up"})
    joins = action("conference_join", conference_id="standup")
    call_id = await client.call("1001", talk("Hello."), action("variable_set", key="answer", value="confirmed"), joins)
    await client.until("conference_joined")
    await client.done("POST", f"/v1.0/calls/{call_id}/hangup")
    await client.until("conference_left")
    await client.until("flow_ended", call_id)
    status, _ = await client.ask("DELETE", conference)
    assert status in (204, 200, 404)
    await client.until("conference_deleted")
    await client.until("call_hangup", call_id)


async def conversation_with_a_model(client: Client, phones: Phones, models: Models) -> None:
    """Let a phone talk with a model, which uses a tool."""
    alice, bob = await phones("1001", "1002")
    await alice.call("750", play=tone(alice.name))
    await alice.answered()
    model = await models.answering()
    await model.connection.send(type=DELTA, delta="I have a question")
    question = "I have a question about my order."
    await model.connection.send(type="conversation.item.input_audio_transcription.completed", transcript=question)
    await client.until("transcript_created")
    transfer = await model.begin("transfer", extension=bob.name, announcement="Ms. Meier asks about the order.")
    await bob.answered()
    await bob.dtmf("2")
    await model.result(transfer)
    await client.until("tool_ended")
    await alice.hangup()
    await alice.ended()


async def test_the_documented_payloads_are_those_of_real_events(lab: Lab, phones: Phones) -> None:
    agent = {"tools": ["transfer"], "transfer_to": ["100*"], "transfer_mode": "attended"}
    async with open_sink() as sink, served(agent) as (route, models):
        subscription = {"id": "speech", "url": sink.url, "dialect": "twilio", "extensions": ["1001"]}
        route["dialect"] = Interim.name
        async with (
            pushing(lab, subscriptions=[subscription], dialplan=[route]) as target,
            client_of(target, TYPES) as client,
        ):
            await ordinary_call(client, phones)
            await flow_in_a_conference(client)
            await conversation_with_a_model(client, phones, models)
            captured: dict[str, dict[str, Any]] = {}
            for event in client.events:
                del event["at"]
                captured.setdefault(event["type"], event)
            name = lab.ari_app
    assert set(captured) == set(EVENT_TYPES)
    if os.environ.get("WRITE_EVENTS"):
        ordered = [captured[kind] for kind in EVENT_TYPES if kind in captured]
        FILE.write_text("\n".join(map(json.dumps, ordered)).replace(name, "bridge") + "\n")
    for line in FILE.read_text().splitlines():
        example = json.loads(line)
        found = differences(example, captured[example["type"]], free={"variables", "parties", "arguments"})
        assert found == [], example["type"]
