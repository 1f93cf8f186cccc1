"""Gemini Live: JSON in binary messages from the server; the caller at 16 kHz, the model at 24 kHz."""

from __future__ import annotations

import base64
import json
from typing import Any, ClassVar

import numpy as np

from tests.agents.fakes.model import FakeModel

GREET = "nothing else: "
"""The request to greet ends with this and the words."""


class GeminiLive(FakeModel):
    """One conversation."""

    rate_in: ClassVar[int] = 16000
    rate_out: ClassVar[int] = 24000
    path: ClassVar[str] = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"

    async def send(self, **message: Any) -> None:
        """Send JSON in a binary message, as the server does."""
        await self.socket.send(json.dumps(message).encode())

    async def received(self, message: str | bytes) -> None:
        """Handle a message; names may be written as in JSON or, as the SDK does, as in protocol buffers."""
        each = json.loads(message)
        (kind,) = each
        body = each[kind]
        if kind in ("realtimeInput", "realtime_input") and "audio" in body:
            audio = body["audio"]
            assert (audio.get("mimeType") or audio["mime_type"]) == f"audio/pcm;rate={self.rate_in}", audio
            # Audio and bytes are base64 of either alphabet.
            await self.hear(np.frombuffer(base64.urlsafe_b64decode(_url_safe(audio["data"])), "<i2"), each)
            return
        self.messages.append(each)
        if kind == "setup":
            assert body["model"].startswith("models/"), body
            await self.send(setupComplete={"sessionId": "a-session"})
            if body.get("sessionResumption") is not None:
                update = {"newHandle": f"handle-{len(self.messages)}", "resumable": True}
                await self.send(sessionResumptionUpdate=update)
        elif kind in ("realtimeInput", "realtime_input"):
            await self.say(body["text"].partition(GREET)[2] or body["text"])
        elif kind in ("toolResponse", "tool_response"):
            (response,) = body.get("functionResponses") or body["function_responses"]
            await self.tool_result(response["response"]["output"])

    async def send_audio(self, pcm: bytes) -> None:
        """Send a part of the model's turn."""
        data = {"mimeType": f"audio/pcm;rate={self.rate_out}", "data": base64.b64encode(pcm).decode()}
        await self.send(serverContent={"modelTurn": {"parts": [{"inlineData": data}]}})

    async def send_done(self) -> None:
        """Send ``generationComplete`` and ``turnComplete``."""
        await self.send(serverContent={"generationComplete": True})
        await self.send(serverContent={"turnComplete": True})

    async def send_transcript(self, role: str, text: str) -> None:
        """Send the transcript in two pieces, as the server does."""
        kind = "inputTranscription" if role == "caller" else "outputTranscription"
        for piece in (text[:3], text[3:]):
            if piece:
                await self.send(serverContent={kind: {"text": piece}})

    async def send_interruption(self) -> None:
        """Send ``interrupted``."""
        await self.send(serverContent={"interrupted": True})

    async def send_call(self, call_id: str, name: str, arguments: dict[str, Any]) -> None:
        """Send ``toolCall``."""
        await self.send(toolCall={"functionCalls": [{"id": call_id, "name": name, "args": arguments}]})

    async def go_away(self) -> None:
        """Announce the end of the connection."""
        await self.send(goAway={"timeLeft": "10s"})


def _url_safe(data: str) -> str:
    return data.replace("+", "-").replace("/", "_")
