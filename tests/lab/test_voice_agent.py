"""A voice-agent framework as it comes from PyPI holds a conversation with a phone; see ``tests/agents``."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.testing import judge, modem
from bridge.testing.lab_engine import Lab
from tests.agents import environment
from tests.lab.conftest import Phones, pushing
from tests.lab.encapsulations import text_of
from tests.lab.passages import heard_passages, passages
from tests.lab.target import Target
from tests.lab.waiting import PATIENCE_S, sends

RATE = 8000
ACCOUNT = {"account_sid": "AC" + "7" * 32, "auth_token": "a-token-for-the-tests"}
TELNYX = {"api_key": "a-key-for-the-tests"}
PLIVO = {"auth_id": "MA0123456789ABCDEF01", "auth_token": "a-token-for-the-tests"}
LONG_SPEECH_HZ = 700


@dataclass(frozen=True)
class Agent:
    """An agent made with pipecat, in one dialect.

    Args:
        dialect: of the route, and the agent's path.
        options: of the dialect.
        greeting: the agent's first words.
        then: of the route; "continue" if the agent requests the hang-up, and does not just close its WebSocket.
        ended: in the agent's log after that request was accepted.
        module: below ``tests.agents``.
        requirements: the packages of its environment.
    """

    dialect: str
    options: Mapping[str, Any] = field(default_factory=dict)
    greeting: str = "Welcome 1001"
    then: str = "hangup"
    ended: str = ""
    module: str = "carriers"
    requirements: str = environment.REQUIREMENTS


AGENTS = (
    Agent(
        "twilio",
        {"parameters": {"greeting": "Welcome"}},
        then="continue",
        ended="Successfully terminated Twilio call CA",
    ),
    Agent("vonage", {"parameters": {"greeting": "Welcome"}}),
    Agent(
        "telnyx",
        greeting="Hello 1001",
        then="continue",
        ended="Successfully terminated Telnyx call v3:",
    ),
    Agent("jambonz", {"rate": 16000, "parameters": {"greeting": "Welcome"}}),
    Agent("plivo", greeting="Hello", then="continue", ended="Successfully terminated Plivo call "),
    Agent("exotel", {"parameters": {"greeting": "Welcome"}}),
    Agent("audiohook", {"parameters": {"greeting": "Welcome"}}),
    Agent(
        "chan_websocket",
        {"parameters": {"greeting": "Welcome"}},
        module="asterisk",
        requirements=environment.ASTERISK_REQUIREMENTS,
    ),
    Agent(
        "chan_websocket",
        {"parameters": {"greeting": "Welcome"}},
        module="galcy",
        requirements=environment.ASTERISK_REQUIREMENTS,
    ),
)
"""Frameworks that speak the dialects; each holds the same conversation."""

each_agent = pytest.mark.parametrize(
    "made", AGENTS, ids=lambda made: made.dialect if made.module == "carriers" else f"{made.dialect}-{made.module}"
)


@contextlib.asynccontextmanager
async def agent(lab: Lab, made: Agent) -> AsyncIterator[tuple[Target, Path]]:
    """Run an agent, and a bridge that routes calls to 750 to it."""
    port = environment.agent_port()
    url = f"ws://127.0.0.1:{port}/{made.dialect}"
    route = {"id": "agent", "match": "750", "url": url, "dialect": made.dialect, "then": made.then}
    routes = [route | {"options": made.options}]
    async with pushing(lab, dialplan=routes, twilio=ACCOUNT, telnyx=TELNYX, plivo=PLIVO) as target:
        environ = {
            "BRIDGE_URL": target.url,
            "TWILIO_ACCOUNT_SID": ACCOUNT["account_sid"],
            "TWILIO_AUTH_TOKEN": ACCOUNT["auth_token"],
            "TELNYX_API_KEY": TELNYX["api_key"],
            "PLIVO_AUTH_ID": PLIVO["auth_id"],
            "PLIVO_AUTH_TOKEN": PLIVO["auth_token"],
        }
        async with environment.running(made.module, environ, port=port, requirements=made.requirements) as log:
            yield target, log


@each_agent
async def test_an_unmodified_pipecat_agent_holds_a_conversation(lab: Lab, phones: Phones, made: Agent) -> None:
    first, second = text_of(2, 11), text_of(2, 12)
    answers = [f"You said: {text}" for text in (first, second)]
    said = np.concatenate(
        [
            judge.silence(2.0, RATE),
            modem.modulate(first, RATE),
            judge.silence(modem.seconds(answers[0]) + 2.5, RATE),
            modem.modulate(second, RATE),
        ]
    )
    async with agent(lab, made) as (target, log):
        (alice,) = await phones("1001")
        await alice.call("750", play=said)
        await alice.answered()
        # It has the caller and the route's parameters; audio arrives in both directions.
        greeting, *rest = await heard_passages(alice, 3, 25)
        assert modem.demodulate(greeting, RATE) == made.greeting
        assert [modem.demodulate(passage, RATE) for passage in rest] == answers
        # It would talk for 20 s, and is interrupted.
        await alice.dtmf("1")
        await sends(alice, 3)
        interrupted_at = time.monotonic()
        await alice.dtmf("#")
        await sends(alice, 1)
        # It ends the call itself, after the good-bye.
        await alice.dtmf("*")
        await alice.ended(10)
        ended_at = time.monotonic()
        heard = alice.recording()
        found = passages(heard)
        assert [modem.demodulate(passage, RATE) for passage in found[:3]] == [made.greeting, *answers]
        assert modem.demodulate(found[-1], RATE) == "Bye"
        assert len(found) == 5
        assert judge.level_of(found[3], LONG_SPEECH_HZ, RATE) > 3000
        assert not judge.dropouts(found[3], RATE, LONG_SPEECH_HZ)
        assert 2 < len(found[3]) / RATE < 4
        # The recording ends with the call, so the distance from its end is the time.
        blocks = np.flatnonzero(judge.block_levels(heard, RATE, LONG_SPEECH_HZ) > 3000)
        stopped_at = ended_at - (len(heard) / RATE - (blocks[-1] + 1) * judge.BLOCK_S)
        print(f"silent {1000 * (stopped_at - interrupted_at):.0f} ms after the key was pressed")
        assert stopped_at - interrupted_at < 0.4
        # Logged by pipecat when its request got 200; nothing else ended the call.
        assert made.ended in log.read_text()
        assert " ERROR " not in log.read_text()
        await target.nothing_left()


@pytest.mark.parametrize("rate", [8000, 24000])
@pytest.mark.parametrize("dialect", ["vonage"])
async def test_each_rate_is_exact_in_both_directions(lab: Lab, phones: Phones, dialect: str, rate: int) -> None:
    """The conversation above has the default rate."""
    made = Agent(dialect, {"rate": rate, "parameters": {"greeting": "Welcome"}})
    text = text_of(1, rate)
    async with agent(lab, made) as (target, log):
        (alice,) = await phones("1001")
        await alice.call("750", play=np.concatenate([judge.silence(2.0, RATE), modem.modulate(text, RATE)]))
        await alice.answered()
        greeting, answer = await heard_passages(alice, 2, 20)
        assert modem.demodulate(greeting, RATE) == made.greeting
        assert modem.demodulate(answer, RATE) == f"You said: {text}"
        await alice.hangup()
        await target.nothing_left()
        assert " ERROR " not in log.read_text()


@each_agent
async def test_an_agent_lets_go_when_the_caller_hangs_up(lab: Lab, phones: Phones, made: Agent) -> None:
    async with agent(lab, replace(made, then="hangup")) as (target, log):
        (alice,) = await phones("1001")
        await alice.call("750", play=judge.silence(1, RATE))
        await alice.answered()
        await heard_passages(alice, 1, 10)
        await alice.hangup()
        await target.nothing_left()
        async with asyncio.timeout(PATIENCE_S):
            while "finished running" not in log.read_text():
                await asyncio.sleep(0.1)
        assert " ERROR " not in log.read_text()


async def test_an_agent_in_the_shape_of_openais_sample_knows_what_was_heard(lab: Lab, phones: Phones) -> None:
    """Answers sent in one burst, marks of one name, and arithmetic on timestamps when the caller interrupts."""
    first, second = text_of(1, 21), text_of(1, 22)
    said = np.concatenate(
        [
            judge.silence(1.5, RATE),
            modem.modulate(first, RATE),
            judge.silence(2.5, RATE),  # the answer would take more than 4 s
            modem.modulate(second, RATE),
        ]
    )
    async with agent(lab, Agent("twilio", module="sample")) as (target, log):
        (alice,) = await phones("1001")
        await alice.call("750", play=said)
        await alice.answered()
        await alice.ended(25)  # then = hangup
        interrupted, whole = passages(alice.recording())
        assert modem.demodulate(whole, RATE) == second * 4
        lines = log.read_text()
        (interrupted_ms,) = map(int, re.findall(r"interrupted after (\d+) ms", lines))
        (heard_ms,) = map(int, re.findall(r"heard to its end after (\d+) ms", lines))
        print(f"interrupted after {interrupted_ms} ms, heard {len(interrupted) / 8:.0f}; at the end {heard_ms} ms")
        assert interrupted_ms == pytest.approx(len(interrupted) / 8, abs=250)
        assert heard_ms == pytest.approx(len(whole) / 8, abs=250)
        assert modem.demodulate(interrupted[: len(interrupted) - RATE // 5], RATE)[:40] == (first * 4)[:40]
        await target.nothing_left()


async def test_plivos_own_sdk_accepts_every_message(lab: Lab, phones: Phones) -> None:
    """Its types validate what it receives; checkpoints and the confirmation of a clear come back."""
    async with agent(lab, Agent("plivo", module="plivo_sdk")) as (target, log):
        (alice,) = await phones("1001")
        await alice.call("750", play=judge.silence(1, RATE))
        await alice.answered()
        async with asyncio.timeout(PATIENCE_S):
            while not (alice.heard_so_far()[-RATE // 2 :] > 2000).any() or "played greeting" not in log.read_text():
                await asyncio.sleep(0.1)
        await sends(alice, 1)
        await alice.dtmf("#")
        await sends(alice, 1)
        await alice.dtmf("*")
        await alice.ended(10)  # then = hangup
        greeting, speech = passages(alice.recording())
        assert modem.demodulate(greeting, RATE) == "Hello"
        assert judge.level_of(speech, LONG_SPEECH_HZ, RATE) > 3000
        assert len(speech) / RATE < 8
        lines = [line for line in log.read_text().splitlines() if not line.startswith("INFO")]
        assert [line for line in lines if line.startswith(("played", "pressed", "cleared"))] == [
            "played greeting", "pressed #", "cleared", "pressed *"
        ]  # fmt: skip
        assert any(line.startswith('started audio/x-mulaw {"from_number":') for line in lines), lines
        assert "invalid message" not in log.read_text()
        await target.nothing_left()


async def test_an_environment_that_cannot_be_made_fails_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not look like a test that does not apply here."""
    monkeypatch.setenv("LAB_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(environment.AgentError, match=r"need uv .* \./lab fetches it"):
        await environment.python()
