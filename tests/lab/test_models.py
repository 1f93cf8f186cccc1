"""A phone talks with each model, dialed by the bridge: fakes of their servers, which their SDKs accept.

Sentences are sent as the sound of a modem in both directions: each character must arrive (`tests/agents/fakes`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from bridge.testing import judge
from bridge.testing.lab_engine import Lab
from bridge.testing.phone import RATE, Phone
from tests.agents import environment
from tests.agents.fakes.deepgram import DeepgramAgent
from tests.agents.fakes.elevenlabs import REVOKED_HZ, ElevenLabsAgent, ElevenLabsWideAgent
from tests.agents.fakes.gemini import GeminiLive
from tests.agents.fakes.model import LONG_SPEECH_HZ, FakeModel, Models, running
from tests.agents.fakes.openai import OpenAiRealtime, OpenAiRealtimeWide
from tests.lab.conftest import Phones, configuration, pushing
from tests.lab.driving import Client, client_of, open_server
from tests.lab.passages import heard_passages, passages, read, spoken
from tests.lab.waiting import PATIENCE_S

GREETING = "Welcome"
KEY = "a-key-for-the-tests"


@dataclass(frozen=True)
class Made:
    """A model on an extension.

    Args:
        dialect: of the route.
        fake: its server.
        key: the header with the credential.
        agent: the route's table, besides what all have.
        options: of the dialect.
    """

    dialect: str
    fake: type[FakeModel]
    key: tuple[str, str]
    agent: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def table(self, url: str, **agent: Any) -> dict[str, Any]:
        """Return the keys of a route or subscription that concern the model."""
        common = {"instructions": "Be brief.", "key_env": "KEY_OF_THE_MODEL"}
        return {
            "url": url,
            "dialect": self.dialect,
            "options": dict(self.options),
            "agent": common | dict(self.agent) | agent,
        }


MODELS = {
    "openai_realtime": Made("openai_realtime", OpenAiRealtime, ("Authorization", f"Bearer {KEY}"), {"voice": "marin"}),
    "deepgram_agent": Made("deepgram_agent", DeepgramAgent, ("Authorization", f"Token {KEY}"), {"language": "de"}),
    "elevenlabs": Made("elevenlabs", ElevenLabsAgent, ("xi-api-key", KEY), {"parameters": {"user_id": "u1"}}),
    "elevenlabs-16k": Made("elevenlabs", ElevenLabsWideAgent, ("xi-api-key", KEY)),
    "gemini_live": Made("gemini_live", GeminiLive, ("x-goog-api-key", KEY), {"voice": "Puck"}),
}

WIDE = {
    "openai_realtime-24k": Made(
        "openai_realtime", OpenAiRealtimeWide, ("Authorization", f"Bearer {KEY}"), options={"format": "pcm"}
    )
}
"""Formats that differ in audio only."""

TALKING = ("deepgram_agent", "elevenlabs", "gemini_live")
"""Those of which tests/lab/test_openai_realtime.py has no flow and no subscription."""

each_model = pytest.mark.parametrize("made", MODELS.values(), ids=MODELS)
each_format = pytest.mark.parametrize("made", (MODELS | WIDE).values(), ids=MODELS | WIDE)


@contextlib.asynccontextmanager
async def answering(
    lab: Lab, made: Made, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Models[FakeModel], Client]]:
    """Run a bridge that gives the calls to 750 to a model."""
    monkeypatch.setenv("KEY_OF_THE_MODEL", KEY)
    async with running(made.fake) as models:
        route = {"id": "agent", "match": "750", "then": "hangup", **made.table(models.url, greeting=GREETING)}
        async with (
            pushing(lab, dialplan=[route]) as target,
            client_of(target, "transcript_created") as client,
        ):
            yield models, client


async def until_ended(phone: Phone, model: FakeModel) -> None:
    """Wait for the end of the call and of the conversation."""
    await phone.ended(PATIENCE_S)
    await asyncio.wait_for(model.socket.wait_closed(), PATIENCE_S)


async def validate(made: Made, model: FakeModel) -> None:
    """Have the vendor's SDK validate what the bridge sent."""
    given = "".join(f"{json.dumps(message)}\n" for message in model.messages)
    valid = await environment.run("validate", made.dialect, given=given)
    assert valid.count("valid: ") == len(model.messages)


@each_format
async def test_a_phone_holds_a_conversation(
    lab: Lab, phones: Phones, monkeypatch: pytest.MonkeyPatch, made: Made
) -> None:
    async with answering(lab, made, monkeypatch) as (models, client):
        (alice,) = await phones("1001")
        said = spoken(
            ("When are you open?", 3.0),
            ("talk", 3.0),
            ("stop", 2.5),
            ('tool weather {"city": "Bonn"}', 4.5),
            ("bye", 10.0),
        )
        await alice.call("750", play=said)
        await alice.answered()
        model = await models.conversation()
        await alice.ended(40)  # the model ends the conversation, and then = hangup
        found = passages(alice.recording())
        greeting, answer, speech, after, result, bye = found
        answers = ["You said: When are you open?", "You said: stop", "Bye"]
        assert read([greeting, answer, after, bye]) == [GREETING, *answers]
        assert read([result])[0].startswith("Result: ")
        assert judge.level_of(speech, LONG_SPEECH_HZ, RATE) > 3000
        assert not judge.dropouts(speech, RATE, LONG_SPEECH_HZ)
        # It would talk for 20 s; the caller interrupts after 3 s, and nothing revoked is heard.
        assert 1.5 < len(speech) / RATE < 3.5
        assert not (judge.block_levels(alice.recording(), RATE, REVOKED_HZ) > 2000).any()
        assert model.heard == ["When are you open?", "talk", "stop", 'tool weather {"city": "Bonn"}', "bye"]
        name, value = made.key
        assert model.headers[name] == value
        transcripts = [(each["party"], each["message"]) for each in client.told("transcript_created")]
        assert ("caller", "When are you open?") in transcripts
        assert ("agent", "You said: When are you open?") in transcripts
        assert len(models.conversations) == 1
        await validate(made, model)


@each_model
async def test_the_conversation_ends_when_the_caller_hangs_up(
    lab: Lab, phones: Phones, monkeypatch: pytest.MonkeyPatch, made: Made
) -> None:
    async with answering(lab, made, monkeypatch) as (models, _):
        (alice,) = await phones("1001")
        await alice.call("750", play=spoken(("talk", 30.0)))
        await alice.answered()
        model = await models.conversation()
        await heard_passages(alice, 1, PATIENCE_S)
        await alice.heard_until(lambda audio: judge.level_of(audio[-RATE:], LONG_SPEECH_HZ, RATE) > 3000)
        await alice.hangup()
        await until_ended(alice, model)
        assert model.socket.close_code == 1000
        assert len(models.conversations) == 1


@each_model
async def test_the_model_hangs_up_with_a_tool(
    lab: Lab, phones: Phones, monkeypatch: pytest.MonkeyPatch, made: Made
) -> None:
    made = replace(made, agent={**made.agent, "tools": ["hang_up"]})
    async with answering(lab, made, monkeypatch) as (models, _):
        (alice,) = await phones("1001")
        await alice.call("750", play=spoken(("one", 3.0), ("tool hang_up {}", 30.0)))
        await alice.answered()
        model = await models.conversation()
        await alice.ended(20)
        await until_ended(alice, model)
        assert read(passages(alice.recording())) == [GREETING, "You said: one"]
        assert model.heard == ["one", "tool hang_up {}"]
        await validate(made, model)


@pytest.mark.parametrize("made", [MODELS[each] for each in TALKING], ids=TALKING)
async def test_a_flow_talks_while_a_subscription_listens(
    lab: Lab, phones: Phones, monkeypatch: pytest.MonkeyPatch, made: Made
) -> None:
    """Two conversations on one call; routes, flows and subscriptions come with a reload."""
    monkeypatch.setenv("KEY_OF_THE_MODEL", KEY)
    actions = [{"type": "ai_talk", "option": {"ai_id": "agent"}}, {"type": "hangup"}]
    async with (
        running(made.fake) as talking,
        running(made.fake) as listening,
        pushing(lab) as target,
        client_of(target, "transcript_created") as client,
    ):
        assert target.bridge is not None
        await target.bridge.reload(
            configuration(
                lab,
                dialplan=[{"id": "agent", "match": "nobody", **made.table(talking.url, greeting=GREETING)}],
                flows=[{"id": "talk", "match": ["750"], "actions": actions}],
                subscriptions=[
                    {"id": "listen", "extensions": ["1001"], "tracks": "caller", **made.table(listening.url)}
                ],
            )
        )
        (alice,) = await phones("1001")
        await alice.call("750", play=spoken(("Hello", 4.0), ("bye", 30.0)))
        await alice.answered()
        speaker, listener = await talking.conversation(), await listening.conversation()
        await alice.ended(40)
        assert read(passages(alice.recording())) == [GREETING, "You said: Hello", "Bye"]
        assert speaker.heard == ["Hello", "bye"]
        assert listener.heard[:1] == ["Hello"]
        words = [each["message"] for each in client.told("transcript_created") if each["party"] == "caller"]
        assert words.count("Hello") == 2, "one transcript of each model"
        for model in (speaker, listener):
            await validate(made, model)


async def test_a_server_chooses_the_settings_of_each_call(
    lab: Lab, phones: Phones, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_OF_THE_MODEL", KEY)
    made = MODELS["openai_realtime"]
    async with running(made.fake) as models, open_server() as server:
        url = server.answer("/settings", lambda body: {"greeting": f"Hi {body['from_number']}", "voice": "cedar"})
        agent = {"settings_url": url, "settings_secret": "a-secret-of-16-characters", "greeting": GREETING}
        route = {"id": "agent", "match": "750", "then": "hangup", **made.table(models.url, **agent)}
        async with pushing(lab, dialplan=[route]):
            (alice,) = await phones("1001")
            await alice.call("750", play=spoken(("bye", 30.0)))
            await alice.answered()
            model = await models.conversation()
            await alice.ended(PATIENCE_S)
            assert read(passages(alice.recording()))[0] == "Hi 1001"
            assert model.messages[0]["session"]["audio"]["output"]["voice"] == "cedar"
            (asked,) = server.asked
            assert (asked["body"]["agent"], asked["body"]["to_number"]) == ("dialplan:agent", "750")
            assert asked["headers"]["webhook-signature"].startswith("v1,")


async def test_a_connection_that_ends_soon_is_replaced_and_resumed(
    lab: Lab, phones: Phones, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = MODELS["gemini_live"]
    async with answering(lab, made, monkeypatch) as (models, _):
        (alice,) = await phones("1001")
        await alice.call("750", play=spoken(("one", 6.0), ("two", 3.0), ("bye", 10.0)))
        await alice.answered()
        first = await models.conversation()
        assert isinstance(first, GeminiLive)
        await heard_passages(alice, 1, PATIENCE_S)
        async with asyncio.timeout(PATIENCE_S):
            while not first.heard:
                await asyncio.sleep(0.02)
        await first.go_away()  # while the answer waits to be played
        second = await models.conversation(2)
        await alice.ended(30)
        assert read(passages(alice.recording())) == [GREETING, "You said: one", "You said: two", "Bye"]
        assert second.messages[0]["setup"]["sessionResumption"] == {"handle": "handle-1"}
        await validate(made, second)
