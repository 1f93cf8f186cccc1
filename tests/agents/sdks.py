"""The models' own SDKs, as they come from PyPI, hold a conversation; run in the agents' environment.

    python -m tests.agents.sdks NAME URL

The address begins with ``wss:``, as google-genai dials no other; ``SSL_CERT_FILE`` has the server's authority. It
prints what happens, one JSON list a line: the proof that a fake (`tests.agents.fakes`) is what the SDK expects.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from deepgram import AsyncDeepgramClient
from deepgram.agent.v1 import types as deepgram_types
from deepgram.environment import DeepgramClientEnvironment
from elevenlabs.client import ElevenLabs
from elevenlabs.conversational_ai.conversation import (
    AsyncAudioInterface,
    AsyncConversation,
    ClientTools,
    ConversationInitiationData,
)
from google import genai
from google.genai import types as gemini_types
from openai import AsyncOpenAI

from bridge.audio import g711
from bridge.testing import modem
from bridge.testing.judge import Samples, silence

GREETING = "Welcome"
SCRIPT = ("Hello", "talk", "stop", 'tool lookup {"q": 1}', "bye")
STEP_S = 10.0

Caller = Callable[[], Coroutine[Any, Any, None]]


class Conversation(ABC):
    """The caller's side of a conversation, by one SDK."""

    rate_in = 8000
    """Sampling rate in Hz of the caller's audio."""
    rate_out = 8000
    """Sampling rate in Hz of the model's audio."""

    def __init__(self, url: str) -> None:
        self.host = urlsplit(url).netloc
        self.url = url
        self._news = asyncio.Event()
        self._spoken: list[Samples] = []

    @abstractmethod
    async def hold(self, caller: Caller) -> None:
        """Connect with `GREETING` and a function ``lookup``, and receive until the server ends; run the caller."""

    @abstractmethod
    async def send(self, pcm: bytes) -> None:
        """Send the caller's audio."""

    def happened(self, *event: Any) -> None:
        """Print an event."""
        print(json.dumps(event), flush=True)

    def spoken(self, samples: Samples) -> None:
        """Take audio of the model."""
        self._spoken.append(samples)
        self._news.set()

    def interrupted(self) -> None:
        """Discard audio of the model, as a player does."""
        self.happened("interrupted")
        self._spoken.clear()

    def lookup(self, arguments: Mapping[str, Any]) -> str:
        """Run the function of the test."""
        self.happened("tool", dict(arguments))
        return "42"

    async def caller(self) -> None:
        """Speak, one line when the one before it was answered."""
        await self._says(GREETING)
        for text, answer in zip(SCRIPT, ("You said: Hello", "", "You said: stop", "Result: 42", "Bye"), strict=True):
            samples = np.concatenate([modem.modulate(text, self.rate_in), silence(0.5, self.rate_in)])
            for at in range(0, len(samples), self.rate_in // 10):
                await self.send(samples[at : at + self.rate_in // 10].astype("<i2").tobytes())
            if answer:
                await self._says(answer)
            else:
                await self._until(lambda: sum(map(len, self._spoken)) > self.rate_out)

    async def _says(self, text: str) -> None:
        """Wait until the model has spoken exactly this."""
        await self._until(
            lambda: bool(self._spoken) and modem.demodulate(np.concatenate(self._spoken), self.rate_out) == text
        )
        self.happened("said", text)
        self._spoken.clear()

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(STEP_S):
            while not condition():
                self._news.clear()
                await self._news.wait()


class Deepgram(Conversation):
    """deepgram-sdk."""

    async def hold(self, caller: Caller) -> None:
        """Connect."""
        base = f"wss://{self.host}"
        environment = DeepgramClientEnvironment(base=base, production=base, agent=base, agent_rest=base)
        client = AsyncDeepgramClient(api_key="a-key", environment=environment)
        async with client.agent.v1.connect() as self._socket:
            task = None
            async for message in self._socket:
                if isinstance(message, bytes):
                    self.spoken(np.frombuffer(g711.ulaw_decode(message), "<i2"))
                    continue
                match message:
                    case deepgram_types.AgentV1Welcome():
                        await self._socket.send_settings(self._settings())
                    case deepgram_types.AgentV1SettingsApplied():
                        self.happened("ready")
                        task = asyncio.create_task(caller())
                    case deepgram_types.AgentV1UserStartedSpeaking():
                        self.interrupted()
                    case deepgram_types.AgentV1ConversationText():
                        self.happened(message.role, message.content)
                    case deepgram_types.AgentV1FunctionCallRequest():
                        (call,) = message.functions
                        output = self.lookup(json.loads(call.arguments))
                        await self._socket.send_function_call_response(
                            deepgram_types.AgentV1SendFunctionCallResponse(id=call.id, name=call.name, content=output)
                        )
            assert task is not None
            await task

    async def send(self, pcm: bytes) -> None:
        """Send mu-law."""
        await self._socket.send_media(g711.ulaw_encode(pcm))

    def _settings(self) -> deepgram_types.AgentV1Settings:
        audio = {"encoding": "mulaw", "sample_rate": 8000}
        return deepgram_types.AgentV1Settings.model_validate(
            {
                "audio": {"input": audio, "output": {**audio, "container": "none"}},
                "agent": {
                    "greeting": GREETING,
                    "listen": {"provider": {"version": "v1", "type": "deepgram", "model": "nova-3"}},
                    "think": {
                        "provider": {"type": "open_ai", "model": "gpt-4o-mini"},
                        "functions": [{"name": "lookup", "description": "", "parameters": {"type": "object"}}],
                    },
                    "speak": {"provider": {"type": "deepgram", "model": "aura-2-thalia-en"}},
                },
            }
        )


class ElevenLabsConversation(Conversation, AsyncAudioInterface):
    """The package elevenlabs."""

    async def hold(self, caller: Caller) -> None:
        """Connect."""
        self._caller = caller
        tools = ClientTools(loop=asyncio.get_running_loop())
        tools.register("lookup", lambda given: self.lookup({"q": given["q"]}))

        async def said(text: str) -> None:
            self.happened("assistant", text)

        async def user(text: str) -> None:
            self.happened("user", text)

        async def latency(ping_ms: int) -> None:
            self.happened("ping", ping_ms)

        override = {"agent": {"first_message": GREETING}}
        conversation = AsyncConversation(
            ElevenLabs(api_key="a-key", base_url=f"https://{self.host}"),
            parse_qs(urlsplit(self.url).query)["agent_id"][0],
            requires_auth=False,
            audio_interface=self,
            config=ConversationInitiationData(conversation_config_override=override),
            client_tools=tools,
            callback_agent_response=said,
            callback_user_transcript=user,
            callback_latency_measurement=latency,
        )
        await conversation.start_session()
        await conversation.wait_for_session_end()
        await self._task

    async def start(self, input_callback: Callable[[bytes], Awaitable[None]]) -> None:
        """Begin to speak."""
        self._send = input_callback
        self.happened("ready")
        self._task = asyncio.create_task(self._caller())

    async def stop(self) -> None:
        """End."""

    async def output(self, audio: bytes) -> None:
        """Take audio of the agent."""
        self.spoken(np.frombuffer(g711.ulaw_decode(audio), "<i2"))

    async def interrupt(self) -> None:
        """Stop playing."""
        self.interrupted()

    async def send(self, pcm: bytes) -> None:
        """Send mu-law."""
        await self._send(g711.ulaw_encode(pcm))


class Gemini(Conversation):
    """google-genai."""

    rate_in = 16000
    rate_out = 24000

    async def hold(self, caller: Caller) -> None:
        """Connect."""
        client = genai.Client(api_key="a-key", http_options={"base_url": f"https://{self.host}"})
        declaration = {"name": "lookup", "parameters_json_schema": {"type": "object", "properties": {}}}
        config = {
            "response_modalities": ["AUDIO"],
            "system_instruction": "Be brief.",
            "tools": [{"function_declarations": [declaration]}],
            "input_audio_transcription": {},
            "output_audio_transcription": {},
        }
        async with client.aio.live.connect(model="gemini-live", config=config) as self._session:
            self.happened("ready")
            await self._session.send_realtime_input(text=f"Say exactly this and nothing else: {GREETING}")
            task = asyncio.create_task(caller())
            try:
                while True:
                    async for message in self._session.receive():
                        await self._received(message)
            except genai.errors.APIError as error:
                self.happened("closed", error.code)
            await task

    async def send(self, pcm: bytes) -> None:
        """Send s16le at 16 kHz."""
        await self._session.send_realtime_input(audio=gemini_types.Blob(data=pcm, mime_type="audio/pcm;rate=16000"))

    async def _received(self, message: gemini_types.LiveServerMessage) -> None:
        if message.data:
            self.spoken(np.frombuffer(message.data, "<i2"))
        if message.tool_call:
            (call,) = message.tool_call.function_calls
            output = self.lookup(call.args)
            response = gemini_types.FunctionResponse(id=call.id, name=call.name, response={"output": output})
            await self._session.send_tool_response(function_responses=response)
        content = message.server_content
        if content and content.interrupted:
            self.interrupted()
        if content and content.input_transcription:
            self.happened("user", content.input_transcription.text)
        if content and content.output_transcription:
            self.happened("assistant", content.output_transcription.text)


class OpenAi(Conversation):
    """The package openai."""

    async def hold(self, caller: Caller) -> None:
        """Connect."""
        client = AsyncOpenAI(api_key="a-key", base_url=f"https://{self.host}/v1")
        async with client.realtime.connect(model="gpt-realtime") as self._connection:
            task, response, call, output = None, None, "", ""
            async for event in self._connection:
                match event.type:
                    case "session.created":
                        await self._connection.session.update(session=self._settings())
                    case "session.updated":
                        self.happened("ready")
                        say = f"Say exactly this and nothing else: {GREETING}"
                        await self._connection.response.create(response={"instructions": say})
                        task = asyncio.create_task(caller())
                    case "response.created":
                        response = event.response.id
                    case "response.output_audio.delta" if event.response_id == response:
                        self.spoken(np.frombuffer(g711.ulaw_decode(base64.b64decode(event.delta)), "<i2"))
                        self._item = event.item_id
                    case "input_audio_buffer.speech_started":
                        response = None
                        self.interrupted()
                        await self._connection.conversation.item.truncate(
                            item_id=self._item, content_index=0, audio_end_ms=1
                        )
                    case "response.output_audio_transcript.done":
                        self.happened("assistant", event.transcript)
                    case "conversation.item.input_audio_transcription.completed":
                        self.happened("user", event.transcript)
                    case "response.function_call_arguments.done":
                        call, output = event.call_id, self.lookup(json.loads(event.arguments))
                    case "response.done" if call:
                        item = {"type": "function_call_output", "call_id": call, "output": output}
                        call = ""
                        await self._connection.conversation.item.create(item=item)
                        await self._connection.response.create()
            assert task is not None
            await task

    async def send(self, pcm: bytes) -> None:
        """Send mu-law."""
        audio = base64.b64encode(g711.ulaw_encode(pcm)).decode()
        await self._connection.input_audio_buffer.append(audio=audio)

    def _settings(self) -> dict[str, Any]:
        audio = {"format": {"type": "audio/pcmu"}}
        return {
            "type": "realtime",
            "audio": {"input": {**audio, "turn_detection": {"type": "server_vad"}}, "output": audio},
            "tools": [{"type": "function", "name": "lookup", "parameters": {"type": "object"}}],
        }


SDKS: dict[str, type[Conversation]] = {
    "deepgram_agent": Deepgram,
    "elevenlabs": ElevenLabsConversation,
    "gemini_live": Gemini,
    "openai_realtime": OpenAi,
}


async def main(name: str, url: str) -> None:
    """Hold the conversation until the server ends it."""
    conversation = SDKS[name](url)
    async with asyncio.timeout(6 * STEP_S):
        await conversation.hold(conversation.caller)
    conversation.happened("ended")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
