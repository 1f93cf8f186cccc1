"""ElevenLabs agents: JSON text messages; audio has numbers, and an interruption revokes those up to its own."""

from __future__ import annotations

import base64
import json
from typing import Any, ClassVar

import numpy as np

from bridge.audio import g711
from bridge.testing.judge import tone
from tests.agents.fakes.model import FakeModel

REVOKED_HZ = 1000
"""The tone in audio that the fake sends after it has revoked it."""


class ElevenLabsAgent(FakeModel):
    """One conversation in mu-law at 8 kHz."""

    path: ClassVar[str] = "/v1/convai/conversation?agent_id=agent_7101k5zvyjhmfg983brhmhkd98n6"
    audio_format: ClassVar[str] = "ulaw_8000"

    async def received(self, message: str | bytes) -> None:
        """Handle a message."""
        each = json.loads(message)
        if "user_audio_chunk" in each:
            assert self.messages, "audio before the first message"
            await self.hear(np.frombuffer(self.decoded(base64.b64decode(each["user_audio_chunk"])), "<i2"), each)
            return
        self.messages.append(each)
        if each["type"] == "conversation_initiation_client_data":
            event = {
                "conversation_id": "conv_7501k8m2a4t8e5v9d6q3",
                "agent_output_audio_format": self.audio_format,
                "user_input_audio_format": self.audio_format,
            }
            await self.send(type="conversation_initiation_metadata", conversation_initiation_metadata_event=event)
            await self.send(type="ping", ping_event={"event_id": 1, "ping_ms": 50})
            greeting = each.get("conversation_config_override", {}).get("agent", {}).get("first_message")
            if greeting:
                await self.say(greeting)
        elif each["type"] == "client_tool_result":
            await self.tool_result(each["result"])

    def decoded(self, data: bytes) -> bytes:
        """Return the caller's audio as s16le."""
        return g711.ulaw_decode(data)

    def encoded(self, pcm: bytes) -> bytes:
        """Return s16le in the format of the agent."""
        return g711.ulaw_encode(pcm)

    async def send_audio(self, pcm: bytes) -> None:
        """Send ``audio``, with the number of the turn."""
        audio = base64.b64encode(self.encoded(pcm)).decode()
        await self.send(type="audio", audio_event={"event_id": self.turn, "audio_base_64": audio})

    async def send_transcript(self, role: str, text: str) -> None:
        """Send ``user_transcript`` or ``agent_response``."""
        if role == "caller":
            await self.send(type="user_transcript", user_transcription_event={"user_transcript": text, "event_id": 1})
        else:
            await self.send(type="agent_response", agent_response_event={"agent_response": text, "event_id": 1})

    async def send_interruption(self) -> None:
        """Revoke everything so far, and send audio of the revoked turn that was on its way."""
        await self.send(type="interruption", interruption_event={"event_id": self.turn})
        await self.send_audio(tone(REVOKED_HZ, 1.0, self.rate_out).astype("<i2").tobytes())

    async def send_call(self, call_id: str, name: str, arguments: dict[str, Any]) -> None:
        """Send ``client_tool_call``."""
        call = {"tool_name": name, "tool_call_id": call_id, "parameters": arguments, "event_id": self.turn}
        await self.send(type="client_tool_call", client_tool_call=call)


class ElevenLabsWideAgent(ElevenLabsAgent):
    """One conversation in s16le at 16 kHz, the format that agents have unless they were made for telephones."""

    rate_in: ClassVar[int] = 16000
    rate_out: ClassVar[int] = 16000
    audio_format: ClassVar[str] = "pcm_16000"

    def decoded(self, data: bytes) -> bytes:
        """Return the audio as it is."""
        return data

    def encoded(self, pcm: bytes) -> bytes:
        """Return the audio as it is."""
        return pcm
