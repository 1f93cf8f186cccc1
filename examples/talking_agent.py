"""A talking agent without any account: OpenAI Realtime's events, and this machine's own recognizer and voice.

    pip install -r examples/talking_agent.txt      beside asterisk-bridge; and the program espeak-ng
    python examples/talking_agent.py --port 8090

Route calls to it like to any model, with ``dialect = "openai_realtime"`` and ``url = "ws://127.0.0.1:8090"``. It
understands the sentences of `DIALOG` and nothing else: pocketsphinx recognizes what a small grammar allows. Replace
`DIALOG`, or `Agent.answer`, with a model of your own: the events stay the same.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import shlex
from collections.abc import Iterator
from typing import Any

import numpy as np
from aiohttp import web
from pocketsphinx import Decoder, Endpointer

from bridge.audio.g711 import ulaw_decode, ulaw_encode
from bridge.audio.resample import Resampler

DIALOG = {
    "help": "You can ask for our opening hours and our address, or say goodbye.",
    "what are your opening hours": "We are open from nine to five.",
    "when are you open": "We are open from nine to five.",
    "what is your address": "We are at ten main street.",
    "goodbye": "Goodbye.",
}
GREETING = "Hello. How can I help you?"
NOT_UNDERSTOOD = "I did not understand you."

VOICE = ["espeak-ng", "-v", "en-us+f3", "-s", "140", "--stdin", "--stdout"]

CALL_RATE = 8000  # "audio/pcmu", mu-law, in both directions
EAR_RATE = 16000  # what the recognizer's model was made for
VOICE_RATE = 22050  # what espeak-ng writes
WAV_HEADER_BYTES = 44
PAUSE = bytes(EAR_RATE // 2)  # around a sentence, for the recognizer: 0.25 s
PIECE_BYTES = 4000  # audio in one event: 0.5 s


class Ear:
    """Finds sentences in audio, and recognizes them.

    Args:
        sentences: what it understands, in lowercase words of English.
    """

    def __init__(self, sentences: list[str]) -> None:
        self._sentences = sentences
        self._endpointer = Endpointer(sample_rate=EAR_RATE)
        self._decoder = Decoder(samprate=EAR_RATE, lm=None, loglevel="FATAL")
        self._decoder.add_jsgf_string("dialog", f"#JSGF V1.0; grammar d; public <line> = {' | '.join(sentences)};")
        self._decoder.activate_search("dialog")
        self._waiting = self._speech = b""

    def hear(self, pcm: bytes) -> Iterator[str | None]:
        """Take s16le at 8 kHz; yield None when speech begins, and the sentence when it ends."""
        # Repeated samples have images above 4 kHz, where the recognizer expects what the telephone has cut off.
        self._waiting += np.repeat(np.frombuffer(pcm, "<i2"), EAR_RATE // CALL_RATE).tobytes()
        size = self._endpointer.frame_bytes
        while len(self._waiting) >= size:
            frame, self._waiting = self._waiting[:size], self._waiting[size:]
            spoke = self._endpointer.in_speech
            speech = self._endpointer.process(frame)
            if speech is None:
                continue
            if not spoke:
                self._speech = b""
                yield None
            self._speech += speech
            if not self._endpointer.in_speech:
                yield self._recognize(self._speech)

    def _recognize(self, pcm: bytes) -> str:
        self._decoder.start_utt()
        self._decoder.process_raw(PAUSE + pcm + PAUSE, full_utt=True)  # as a whole, to adapt to its level
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        heard = hypothesis.hypstr if hypothesis else ""
        possible = [sentence for sentence in self._sentences if heard and sentence.startswith(heard)]
        return possible[0] if len(possible) == 1 else heard  # the end of a sentence is often missed


class Agent:
    """One call.

    Args:
        socket: from asterisk-bridge.
        voice: command that reads text from its standard input and writes a WAV file of s16le at 22050 Hz.
    """

    def __init__(self, socket: web.WebSocketResponse, voice: list[str]) -> None:
        self._socket = socket
        self._voice = voice
        self._ear = Ear(list(DIALOG))
        self._tools: set[str] = set()
        self._events = self._items = 0

    async def converse(self) -> None:
        """Answer events until the call ends."""
        await self._send("session.created", session={"type": "realtime", "id": "session"})
        async for message in self._socket:
            event = json.loads(message.data)
            match event["type"]:
                case "session.update":
                    self._tools = {tool["name"] for tool in event["session"].get("tools", ())}
                    await self._send("session.updated", session=event["session"])
                case "input_audio_buffer.append":
                    for sentence in self._ear.hear(ulaw_decode(base64.b64decode(event["audio"]))):
                        await self._heard(sentence)
                case "response.create" if "instructions" in event.get("response", {}):
                    # What asterisk-bridge requests is a greeting, the words after the colon.
                    await self._say(event["response"]["instructions"].partition(": ")[2] or GREETING)
                case "error":
                    print(event, flush=True)

    async def answer(self, sentence: str) -> None:
        """Answer a sentence of the caller; this is where a model would think."""
        await self._say(DIALOG.get(sentence, NOT_UNDERSTOOD))
        if sentence == "goodbye" and "hang_up" in self._tools:
            await self._call("hang_up")

    async def _heard(self, sentence: str | None) -> None:
        if sentence is None:
            await self._send("input_audio_buffer.speech_started", item_id=f"item{self._items}", audio_start_ms=0)
            return
        print(f"caller: {sentence or '?'}", flush=True)
        transcribed = "conversation.item.input_audio_transcription.completed"
        await self._send(transcribed, item_id=f"item{self._items}", content_index=0, transcript=sentence)
        await self.answer(sentence)

    async def _say(self, text: str) -> None:
        print(f"agent: {text}", flush=True)
        ids = await self._begin_response()
        process = await asyncio.create_subprocess_exec(
            *self._voice, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        wav, _ = await process.communicate(text.encode())
        audio = ulaw_encode(Resampler(VOICE_RATE, CALL_RATE).convert(wav[WAV_HEADER_BYTES:]))
        for at in range(0, len(audio), PIECE_BYTES):
            delta = base64.b64encode(audio[at : at + PIECE_BYTES]).decode()
            await self._send("response.output_audio.delta", **ids, content_index=0, delta=delta)
        await self._send("response.output_audio_transcript.done", **ids, content_index=0, transcript=text)
        await self._send("response.done", response={"id": ids["response_id"], "status": "completed"})

    async def _call(self, name: str) -> None:
        ids = await self._begin_response()
        call = {"call_id": f"call{self._items}", "name": name, "arguments": "{}"}
        await self._send("response.function_call_arguments.done", **ids, **call)
        await self._send("response.done", response={"id": ids["response_id"], "status": "completed"})

    async def _begin_response(self) -> dict[str, Any]:
        self._items += 1
        response_id = f"response{self._items}"
        await self._send("response.created", response={"id": response_id, "status": "in_progress"})
        return {"response_id": response_id, "item_id": f"item{self._items}", "output_index": 0}

    async def _send(self, kind: str, **fields: Any) -> None:
        self._events += 1
        await self._socket.send_json({"type": kind, "event_id": f"event{self._events}", **fields})


def main() -> None:
    """Read the command line and serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--port", type=int, default=8090, help="of the WebSocket (default: %(default)s)")
    parser.add_argument("--voice", type=shlex.split, default=VOICE, help="a command")
    options = parser.parse_args()

    async def call(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await Agent(socket, options.voice).converse()
        return socket

    application = web.Application()
    application.add_routes([web.get("/{path:.*}", call)])
    web.run_app(application, host="127.0.0.1", port=options.port)


if __name__ == "__main__":
    main()
