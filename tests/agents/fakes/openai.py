"""OpenAI's Realtime API: JSON text messages with base64 audio, mu-law at 8 kHz unless the session requests s16le."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any, ClassVar

import numpy as np

from bridge.audio import g711
from tests.agents.fakes.model import FakeModel

GREET = "nothing else: "
"""The instructions of a greeting end with this and the words."""


class OpenAiRealtime(FakeModel):
    """One session in mu-law at 8 kHz."""

    path: ClassVar[str] = "/v1/realtime"
    format: ClassVar[dict[str, Any]] = {"type": "audio/pcmu"}

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.truncated: list[tuple[str, int]] = []
        """Items that the client has truncated, and what was played of each, in milliseconds."""
        self._configured = False
        self._speaks = True
        self._items = 0
        self._response = ""
        self._item = ""
        self._calls: list[str] = []
        self._sent_ms: dict[str, float] = {}

    async def hello(self) -> None:
        """Report the session."""
        await self._event("session.created", session=_session({}))

    async def received(self, message: str | bytes) -> None:
        """Handle a client event; audio is expected after ``session.update`` only."""
        each = json.loads(message)
        if each["type"] == "input_audio_buffer.append":
            assert self._configured, "audio before session.update"
            data = base64.b64decode(each["audio"], validate=True)
            await self.hear(np.frombuffer(self.decoded(data), "<i2"), each)
            return
        self.messages.append(each)
        match each["type"]:
            case "session.update":
                # The default of the API.
                self._speaks = each["session"].get("output_modalities", ["audio"]) == ["audio"]
                for direction in each["session"]["audio"].values():
                    assert direction["format"] == self.format
                self._configured = True
                await self._event("session.updated", session=_session(each["session"]))
            case "response.create":
                assert not self._response, "a response is running"
                instructions = each.get("response", {}).get("instructions", "")
                if GREET in instructions:
                    await self.say(instructions.partition(GREET)[2])
                elif self._calls:
                    await self.tool_result(self._calls.pop(0))
            case "conversation.item.create":
                item = each["item"]
                if item["type"] == "function_call_output":
                    self._calls.append(item["output"])
                await self._event("conversation.item.added", previous_item_id=None, item={**item, "id": self._new("u")})
            case "conversation.item.truncate":
                item_id, played_ms = each["item_id"], each["audio_end_ms"]
                assert played_ms <= self._sent_ms[item_id], "longer than the audio"
                self.truncated.append((item_id, played_ms))
                await self._event(
                    "conversation.item.truncated", item_id=item_id, content_index=0, audio_end_ms=played_ms
                )

    def decoded(self, data: bytes) -> bytes:
        """Return the caller's audio as s16le."""
        return g711.ulaw_decode(data)

    def encoded(self, pcm: bytes) -> bytes:
        """Return s16le in the format of the session."""
        return g711.ulaw_encode(pcm)

    async def send_audio(self, pcm: bytes) -> None:
        """Send ``response.output_audio.delta``, of a new response if none runs."""
        if not self._speaks:
            return
        if not self._response:
            await self._begin()
        self._sent_ms[self._item] = self._sent_ms.get(self._item, 0.0) + 500 * len(pcm) / self.rate_out
        delta = base64.b64encode(self.encoded(pcm)).decode()
        await self._part("response.output_audio.delta", delta=delta)

    async def send_done(self) -> None:
        """End the response."""
        await self._part("response.output_audio.done")
        await self._end("completed")

    async def send_transcript(self, role: str, text: str) -> None:
        """Send the transcript of the caller, or of a response."""
        if role == "caller":
            await self._event(
                "conversation.item.input_audio_transcription.completed",
                item_id=self._new("u"),
                content_index=0,
                transcript=text,
                usage={"type": "duration", "seconds": 1},
            )
            return
        await self._begin()
        await self._part("response.output_audio_transcript.done", transcript=text)

    async def send_interruption(self) -> None:
        """Report speech; a running response is cancelled."""
        await self._event("input_audio_buffer.speech_started", audio_start_ms=0, item_id=self._new("u"))
        if self._response:
            await self._end("cancelled")

    async def send_call(self, call_id: str, name: str, arguments: dict[str, Any]) -> None:
        """Send a response with a function call."""
        await self._begin()
        await self._event(
            "response.function_call_arguments.done",
            response_id=self._response,
            item_id=self._item,
            output_index=0,
            call_id=call_id,
            name=name,
            arguments=json.dumps(arguments),
        )
        await asyncio.sleep(0.3)  # a quick tool is done before the response is
        await self._end("completed")

    async def _begin(self) -> None:
        self._response, self._item = self._new("resp"), self._new("item")
        await self._event("response.created", response=_response(self._response, "in_progress"))

    async def _end(self, status: str) -> None:
        response, self._response = self._response, ""
        await self._event("response.done", response=_response(response, status))

    async def _part(self, kind: str, **values: Any) -> None:
        ids = {"response_id": self._response, "item_id": self._item, "output_index": 0, "content_index": 0}
        await self._event(kind, **ids, **values)

    async def _event(self, kind: str, **values: Any) -> None:
        await self.send(type=kind, event_id=self._new("event"), **values)

    def _new(self, kind: str) -> str:
        self._items += 1
        return f"{kind}_{self._items:03}"


class OpenAiRealtimeWide(OpenAiRealtime):
    """One session in s16le at 24 kHz."""

    rate_in: ClassVar[int] = 24000
    rate_out: ClassVar[int] = 24000
    format: ClassVar[dict[str, Any]] = {"type": "audio/pcm", "rate": 24000}

    def decoded(self, data: bytes) -> bytes:
        """Return the caller's audio."""
        return data

    def encoded(self, pcm: bytes) -> bytes:
        """Return the audio."""
        return pcm


def _session(settings: dict[str, Any]) -> dict[str, Any]:
    return {"type": "realtime", "object": "realtime.session", "id": "sess_001", "model": "gpt-realtime", **settings}


def _response(identity: str, status: str) -> dict[str, Any]:
    return {"id": identity, "object": "realtime.response", "status": status, "output": []}
