"""The fakes of voice models (``tests/agents/fakes``) are what the vendors' own SDKs expect."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.agents import environment
from tests.agents.fakes.deepgram import DeepgramAgent
from tests.agents.fakes.elevenlabs import ElevenLabsAgent
from tests.agents.fakes.gemini import GeminiLive
from tests.agents.fakes.model import FakeModel, running
from tests.agents.fakes.openai import OpenAiRealtime
from tests.loopback.servers import Authority

WIRE = Path(__file__).parents[1] / "wire"
FAKES: dict[str, type[FakeModel]] = {
    "deepgram_agent": DeepgramAgent,
    "elevenlabs": ElevenLabsAgent,
    "gemini_live": GeminiLive,
    "openai_realtime": OpenAiRealtime,
}


@pytest.mark.parametrize("name", FAKES)
async def test_the_vendors_sdk_holds_a_conversation_with_the_fake(name: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with running(FAKES[name], authority.server("DNS:localhost")) as models:
        environ = {"SSL_CERT_FILE": str(authority.file)}
        output = await environment.run("sdks", name, models.url, environ=environ)
    events: list[Any] = [json.loads(line) for line in output.splitlines() if line.startswith("[")]
    (model,) = models.conversations
    assert model.heard == ["Hello", "talk", "stop", 'tool lookup {"q": 1}', "bye"]
    assert [text for kind, *text in events if kind == "said"] == [
        ["Welcome"], ["You said: Hello"], ["You said: stop"], ["Result: 42"], ["Bye"]
    ]  # fmt: skip
    assert events[0] == ["ready"]
    assert events[-1] == ["ended"]
    assert ["interrupted"] in events
    assert ["tool", {"q": 1}] in events
    for role, spoken in (("user", "Hello"), ("assistant", "You said: Hello")):
        assert spoken in "".join(each[1] for each in events if each[0] == role)


@pytest.mark.parametrize("name", FAKES)
async def test_the_vendors_sdk_accepts_every_message_of_the_transcripts(name: str) -> None:
    """What dialects send in `tests/wire`, with other audio."""
    steps = "\n".join(path.read_text() for path in sorted((WIRE / name).glob("*.txt")))
    messages = [re.sub(r"\$[^$]*\$", "AAAA", text) for text in re.findall(r"^(?:>|= send) text (.*)$", steps, re.M)]
    assert len(messages) > 4
    valid = await environment.run("validate", name, given="\n".join(messages) + "\n")
    assert valid.count("valid: ") == len(messages)
