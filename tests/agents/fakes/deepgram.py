"""Deepgram's Voice Agent: JSON text messages, and audio of both parties in binary ones."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import numpy as np

from bridge.audio import g711
from tests.agents.fakes.model import FakeModel


class DeepgramAgent(FakeModel):
    """One conversation in mu-law at 8 kHz."""

    path: ClassVar[str] = "/v1/agent/converse"

    async def hello(self) -> None:
        """Ask for the settings."""
        await self.send(type="Welcome", request_id="fc553ec9-5874-49ca-a47c-b670d525a4b3")

    async def received(self, message: str | bytes) -> None:
        """Handle a message; audio is expected after the settings only."""
        if isinstance(message, bytes):
            assert self.messages, "audio before the settings"
            await self.hear(np.frombuffer(g711.ulaw_decode(message), "<i2"))
            return
        each = json.loads(message)
        self.messages.append(each)
        if each["type"] == "Settings":
            for direction in ("input", "output"):
                audio = each["audio"][direction]
                assert (audio["encoding"], audio["sample_rate"]) == ("mulaw", 8000), audio
            await self.send(type="SettingsApplied")
            if each["agent"].get("greeting"):
                await self.say(each["agent"]["greeting"])
        elif each["type"] == "FunctionCallResponse":
            await self.tool_result(each["content"])

    async def send_audio(self, pcm: bytes) -> None:
        """Send a binary message."""
        await self.socket.send(g711.ulaw_encode(pcm))

    async def send_done(self) -> None:
        """Send ``AgentAudioDone``."""
        await self.send(type="AgentAudioDone")

    async def send_transcript(self, role: str, text: str) -> None:
        """Send ``ConversationText``."""
        await self.send(type="ConversationText", role="user" if role == "caller" else "assistant", content=text)

    async def send_interruption(self) -> None:
        """Send ``UserStartedSpeaking``."""
        await self.send(type="UserStartedSpeaking")

    async def send_call(self, call_id: str, name: str, arguments: dict[str, Any]) -> None:
        """Send ``FunctionCallRequest``."""
        function = {"id": call_id, "name": name, "arguments": json.dumps(arguments), "client_side": True}
        await self.send(type="FunctionCallRequest", functions=[function])
