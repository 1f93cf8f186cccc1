"""A model in OpenAI's Realtime API answers an extension; the fake of its server is what the SDK expects.

Sentences are sent as the sound of a modem in both directions: each character must arrive (`tests/agents/fakes`).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.testing import judge
from bridge.testing.lab_engine import Lab
from bridge.testing.phone import RATE
from tests.agents import environment
from tests.agents.fakes.model import LONG_SPEECH_HZ, Models, running
from tests.agents.fakes.openai import OpenAiRealtime
from tests.lab.conftest import Phones, pushing
from tests.lab.passages import heard_passages, passages, read, spoken
from tests.lab.target import Target
from tests.lab.waiting import PATIENCE_S, until

GREETING = "Welcome"
QUIET_S = 8.0
"""Silence of the caller that is longer than the greeting and the pause behind it, in seconds."""
PROMPT_HZ = 1000
"""Of the tone that `"tone"` plays."""
TRUNCATION_TOLERANCE_MS = 40
"""Frames that Asterisk and the phone have, and the phone's recording has not, or the reverse."""


@contextlib.asynccontextmanager
async def answering(
    lab: Lab,
    tmp_path: Path,
    *,
    route: dict[str, Any] | None = None,
    sections: dict[str, Any] | None = None,
    **agent: Any,
) -> AsyncIterator[tuple[Models[OpenAiRealtime], Target]]:
    """Run a bridge that gives the calls to 750 to a model."""
    key = tmp_path / "key"
    key.write_text("a-key-for-the-tests\n")
    async with running(OpenAiRealtime) as models:
        table = {"instructions": "Be brief.", "greeting": GREETING, "model": "gpt-realtime", "key_file": str(key)}
        one = {"id": "agent", "match": "750", "url": models.url, "dialect": "openai_realtime", "then": "hangup"}
        dialplan = [one | (route or {}) | {"agent": table | agent}]
        async with pushing(lab, dialplan=dialplan, **(sections or {})) as target:
            yield models, target


async def test_the_model_receives_what_the_caller_heard(lab: Lab, phones: Phones, tmp_path: Path) -> None:
    async with answering(lab, tmp_path) as (models, target):
        (alice,) = await phones("1001")
        said = spoken(("Hello", 3.0), ("talk", 3.0), ("stop", 3.0), ('tool lookup {"q": 1}', 4.5), ("bye", 10.0))
        await alice.call("750", play=said)
        await alice.answered()
        model = await models.conversation()
        await alice.ended(PATIENCE_S)
        greeting, answer, speech, after, result, bye = passages(alice.recording())
        assert read([greeting, answer, after, bye]) == [GREETING, "You said: Hello", "You said: stop", "Bye"]
        assert read([result])[0].startswith("Result: ")
        assert "lookup" in read([result])[0]
        assert model.heard == ["Hello", "talk", "stop", 'tool lookup {"q": 1}', "bye"]
        # It has sent 20 s in one piece; the phone was silenced, and the model was notified when.
        assert not judge.dropouts(speech, RATE, LONG_SPEECH_HZ)
        ((_, played_ms),) = model.truncated
        heard_ms = 1000 * float((judge.block_levels(speech, RATE, LONG_SPEECH_HZ) > 3000).sum()) * judge.BLOCK_S
        print(f"heard {heard_ms:.0f} ms, truncated to {played_ms} ms")
        assert abs(heard_ms - played_ms) <= TRUNCATION_TOLERANCE_MS
        assert model.headers["Authorization"] == "Bearer a-key-for-the-tests"
        assert model.requested == "/v1/realtime?model=gpt-realtime"
        given = "".join(f"{json.dumps(message)}\n" for message in model.messages)
        valid = await environment.run("validate", "openai_realtime", given=given)
        assert valid.count("valid: ") == len(model.messages)
        await target.nothing_left()


async def test_a_lost_connection_is_replaced_after_a_prompt(lab: Lab, phones: Phones, tmp_path: Path) -> None:
    async with answering(lab, tmp_path, reconnect_prompt="tone") as (models, target):
        (alice,) = await phones("1001")
        await alice.call("750", play=spoken(("one", 30.0)))
        await alice.answered()
        await heard_passages(alice, 2, PATIENCE_S)
        models.refuse = True
        (await models.conversation()).socket.transport.abort()
        await until(lambda: len(passages(alice.heard_so_far())) == 3, 10)
        models.refuse = False
        second = await models.conversation(2)
        await heard_passages(alice, 3, PATIENCE_S)  # the prompt is over
        await second.say("two")
        heard = await heard_passages(alice, 4, PATIENCE_S)
        assert read([heard[0], heard[1], heard[3]]) == [GREETING, "You said: one", "two"]
        assert judge.level_of(heard[2], PROMPT_HZ, RATE) > 1000
        await alice.hangup()
        await target.nothing_left()


@pytest.mark.parametrize("on_failure", ["hangup", "continue", "extension:1002"])
async def test_a_model_that_remains_unavailable(lab: Lab, phones: Phones, tmp_path: Path, on_failure: str) -> None:
    """The caller hears the prompt, then what is configured follows."""
    route = {"give_up_s": 2.0, "then": "continue" if on_failure == "hangup" else "hangup"}
    async with answering(lab, tmp_path, route=route, on_failure=on_failure, failure_prompt="tone") as (models, target):
        alice, bob = await phones("1001", "1002")
        # Silence first: speech during the greeting interrupts it.
        speech = np.concatenate([judge.silence(QUIET_S, RATE), judge.tone(500, 60, RATE)])
        await alice.call("750", play=speech)
        await alice.answered()
        model = await models.conversation()
        await heard_passages(alice, 1, PATIENCE_S)
        models.refuse = True
        model.socket.transport.abort()
        await until(lambda: len(passages(alice.heard_so_far())) >= 2)
        prompt = passages(alice.heard_so_far())[1]
        assert judge.level_of(prompt[: RATE // 5], PROMPT_HZ, RATE) > 1000
        if on_failure == "extension:1002":
            await bob.answered()
            await bob.heard_until(lambda audio: judge.level_of(audio[-RATE:], 500, RATE) > 3000)
            await alice.hangup()
        else:
            await alice.ended(PATIENCE_S)
        await target.nothing_left()


async def test_a_silent_conversation_ends(lab: Lab, phones: Phones, tmp_path: Path) -> None:
    async with answering(lab, tmp_path, silence_s=2.0) as (models, target):
        (alice,) = await phones("1001")
        await alice.call("750", play=judge.silence(30, RATE))
        await alice.answered()
        await alice.ended(PATIENCE_S)
        assert read(passages(alice.recording())) == [GREETING]
        assert len(models.conversations) == 1
        await target.nothing_left()


async def test_a_flow_continues_after_the_conversation(lab: Lab, phones: Phones, tmp_path: Path) -> None:
    actions = [
        {"type": "ai_talk", "option": {"ai_id": "agent"}},
        {"type": "beep"},
        {"type": "hangup"},
    ]
    flows = {"flows": [{"id": "talk", "match": ["750"], "actions": actions}]}
    async with answering(lab, tmp_path, route={"match": "nobody"}, sections=flows) as (models, target):
        (alice,) = await phones("1001")
        await alice.call("750", play=spoken(("Hello", 3.0), ("bye", 10.0)))
        await alice.answered()
        await alice.ended(PATIENCE_S)
        *talk, beep = passages(alice.recording())
        assert read(talk) == [GREETING, "You said: Hello", "Bye"]
        assert judge.level_of(beep, PROMPT_HZ, RATE) > 1000
        assert len(models.conversations) == 1
        await target.nothing_left()


async def test_a_model_listens_to_a_call_between_people(lab: Lab, phones: Phones, tmp_path: Path) -> None:
    subscription = {"id": "listen", "extensions": ["1001"], "dialect": "openai_realtime", "tracks": "caller"}
    async with running(OpenAiRealtime) as models:
        key = tmp_path / "key"
        key.write_text("a-key-for-the-tests")
        table = {"instructions": "Listen.", "key_file": str(key)}
        one = {**subscription, "url": models.url, "agent": table}
        async with pushing(lab, subscriptions=[one]) as target:
            alice, bob = await phones("1001", "1002")
            await alice.call("1002", play=spoken(("Hello", 20.0)))
            await bob.answered()
            model = await models.conversation()
            await until(lambda: model.heard)
            assert model.heard == ["Hello"]
            assert model.messages[0]["session"]["output_modalities"] == ["text"]
            assert not passages(alice.heard_so_far())
            await alice.hangup()
            await target.nothing_left()
