"""A bridge as a client of its HTTP API sees it: requests, the events WebSocket, and servers for flows."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import time
import wave
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any
from urllib.parse import urlencode

import aiohttp
import numpy as np
from aiohttp import web

from bridge.config.speech import SpeechConfig
from bridge.speech import Speech, Utterance
from bridge.testing import judge, peer
from bridge.testing.lab_engine import Lab
from bridge.testing.phone import Phone, Samples
from tests.lab.target import Target
from tests.lab.waiting import PATIENCE_S

RATE = 8000
LIKE = 0.7
"""How like a sentence must be to count: another one is below 0.4, and frames that a busy machine loses cost some."""
HALF = 4000
"""Half of the level of a tone (`judge.tone`)."""
QUIET = 1500
"""The level of a tone beside which a sentence is found again, even if lost frames have torn the tone."""


class Client:
    """An application's requests and the events that it receives, over HTTP, with the bridge's token if it has one."""

    def __init__(self, target: Target, listener: peer.Peer) -> None:
        self.target = target
        self._listener = listener

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        """Status and body: JSON, or bytes."""
        if self.target.token:
            headers["Authorization"] = f"Bearer {self.target.token}"
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request(method, f"{self.target.url}{path}", json=body) as answer,
        ):
            content = await answer.read()
            return answer.status, json.loads(content) if answer.content_type == "application/json" else content

    async def done(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """Return the response to a request that must succeed."""
        status, answer = await self.ask(method, path, body, **headers)
        assert status in (200, 204), (method, path, status, answer)
        return answer

    async def place(self, body: dict[str, Any]) -> list[str]:
        """Create calls, and return their ids in the order of their destinations."""
        return [call["id"] for call in (await self.done("POST", "/v1.0/calls", body))["calls"]]

    async def call(self, target: str, *actions: dict[str, Any], kind: str = "extension", **more: Any) -> str:
        """Has a phone called, and a flow run on it; the call's id."""
        destinations = [{"type": kind, "target": target}]
        (call_id,) = await self.place({"destinations": destinations, "actions": list(actions), **more})
        return call_id

    async def record(self, call_id: str) -> dict[str, Any]:
        """Return a call as the API shows it now."""
        shown: dict[str, Any] = await self.done("GET", f"/v1.0/calls/{call_id}")
        return shown

    @property
    def events(self) -> list[dict[str, Any]]:
        """All events, in order; ``at`` is when each arrived, by ``time.monotonic()``."""
        return [json.loads(message.data) | {"at": message.at} for message in self._listener.messages]

    def told(self, kind: str, call_id: str = "") -> list[dict[str, Any]]:
        """Return the data of the events of a type, with ``at``; of one call, if one is named."""
        found = [event["data"] | {"at": event["at"]} for event in self.events if event["type"] == kind]
        return [data for data in found if call_id in ("", data.get("call_id", data.get("id")))]

    async def until(
        self, kind: str, call_id: str = "", *, count: int = 1, timeout_s: float = PATIENCE_S, **data: Any
    ) -> Any:
        """Wait for an event, or for the count-th one, and return its data."""

        def found() -> list[dict[str, Any]]:
            every = self.told(kind, call_id)
            return [each for each in every if all(each.get(key) == value for key, value in data.items())]

        try:
            async with asyncio.timeout(timeout_s):
                while len(found()) < count:
                    await asyncio.sleep(0.02)
        except TimeoutError:
            lines = [
                f"{event['type']} { ({k: event['data'].get(k) for k in ('call_id', 'type', 'status', 'reason')}) }"
                for event in self.events[-30:]
            ]
            raise AssertionError(f"no {kind} {data} in {timeout_s} s; told were:\n" + "\n".join(lines)) from None
        return found()[count - 1]

    def actions(self, call_id: str) -> list[str]:
        """Return the types of the actions that a call's flow has begun, in order."""
        return [data["type"] for data in self.told("flow_action", call_id) if not data["reason"]]

    def failures(self, call_id: str = "") -> list[str]:
        """Return why actions failed."""
        return [data["reason"] for data in self.told("flow_action", call_id) if data["reason"]]

    def statuses(self, call_id: str) -> list[str]:
        """Return the statuses in a call's events, in order, each as often as it changed."""
        told = [event["data"]["status"] for event in self.events if event["data"].get("id") == call_id
                and event["type"].startswith("call_")]  # fmt: skip
        return [status for before, status in zip(["", *told], told, strict=False) if status != before]


@contextlib.asynccontextmanager
async def client_of(target: Target, types: str = "*,dtmf_received") -> AsyncIterator[Client]:
    """Yield a client that receives every event, digits included, or those of other types."""
    query = urlencode({"types": types} | ({"token": target.token} if target.token else {}))
    async with peer.open_peer(f"ws{target.url.removeprefix('http')}/v1.0/events?{query}") as listener:
        yield Client(target, listener)


# Words of flows


def action(kind: str, **option: Any) -> dict[str, Any]:
    """Return an action in VoIPBIN's syntax."""
    return {"type": kind, "option": option}


def talk(text: str, **option: Any) -> dict[str, Any]:
    """Return an action for text-to-speech."""
    return action("talk", text=text, **option)


def sleep(ms: int) -> dict[str, Any]:
    """Wait."""
    return action("sleep", duration=ms)


# What is heard


async def said(lab: Lab, *texts: str) -> list[Samples]:
    """Return how the lab's bridge speaks texts, at the phones' rate."""
    speech = Speech(SpeechConfig(command=lab.speech_command))
    sounds = [await speech.say(Utterance(text)) for text in texts]
    return [np.frombuffer(sound.at(RATE).pcm, "<i2") for sound in sounds]


def begin_of(reference: Samples, heard: Samples) -> float:
    """Return when a sound begins that is heard exactly once, in seconds; negative if its beginning is missing."""
    found = judge.find(reference, heard, RATE, least=LIKE)
    assert len(found) == 1, found
    return found[0].offset_s


def seconds_of(heard: Samples, hz: float, level: float = 2000) -> float:
    """Return for how many seconds a tone is heard above a level, in tenths."""
    return float(np.count_nonzero(judge.block_levels(heard, RATE, hz, block_s=0.1) > level)) / 10


def without(samples: Samples, hz: float) -> Samples:
    """Return a recording with one tone removed."""
    spectrum = np.fft.rfft(samples)
    spectrum[abs(np.fft.rfftfreq(len(samples), 1 / RATE) - hz) < 40] = 0
    return np.fft.irfft(spectrum, len(samples)).astype(np.int16)


def wav(samples: Samples) -> bytes:
    """Return a WAV file at the phones' rate."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(np.asarray(samples, "<i2").tobytes())
    return file.getvalue()


def samples_of_wav(data: bytes) -> tuple[Samples, int]:
    """Return the samples of a mono WAV file, and their rate."""
    with wave.open(io.BytesIO(data), "rb") as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2"), file.getframerate()


# Phones that do not answer by themselves


@contextlib.asynccontextmanager
async def by_hand(*phones: Phone, mode: str = "manual") -> AsyncIterator[None]:
    """Phones do not answer by themselves meanwhile."""
    for phone in phones:
        await phone.command("answermode", mode)
    try:
        yield
    finally:
        for phone in phones:
            await phone.command("answermode", "auto")


def caller_of(phone: Phone) -> str:
    """Return the SIP address of a phone's first caller."""
    return next(event.peer for event in phone.events if event.type.startswith("CALL_"))


# A server of the application


class Server:
    """An HTTP server: its response for each path, and the requests that it received."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[dict[str, Any]] = []
        """Path, method, headers, and JSON body of each request, and when it came."""
        self._answers: dict[str, Callable[[Any], Any]] = {}

    def answer(self, path: str, with_: Any) -> str:
        """Answer a path with JSON, with bytes (a WAV file), or with what a function makes of the body; its URL."""
        self._answers[path] = with_ if callable(with_) else lambda _: with_
        return self.url + path

    def bodies(self, path: str) -> list[Any]:
        """Return what was posted to a path."""
        return [request["body"] for request in self.asked if request["path"] == path]

    async def handle(self, request: web.Request) -> web.Response:
        """Answers."""
        content = await request.read()
        body = json.loads(content) if content.startswith((b"{", b"[")) else content.decode()
        self.asked.append(
            {"path": request.path, "method": request.method, "headers": dict(request.headers), "body": body}
            | {"raw": content, "at": time.monotonic()}
        )
        given = self._answers[request.path](body) if request.path in self._answers else None
        answer = web.Response(status=404)
        if isinstance(given, bytes):
            answer = web.Response(body=given, content_type="audio/wav")
        elif given is not None:
            answer = web.json_response(given)
        answer.force_close()  # a connection that is kept is none of the bridge's that has been left behind
        return answer


@contextlib.asynccontextmanager
async def open_server() -> AsyncIterator[Server]:
    """Run a server."""
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


def in_order(heard: Samples, *references: Samples) -> Sequence[float]:
    """Return when sounds begin that are heard once each, one after the other, none before the one before it is over."""
    begins = [begin_of(reference, heard) for reference in references]
    over = 0.0
    for begin, reference in zip(begins, references, strict=True):
        assert begin > over - 0.1, begins
        over = begin + len(reference) / RATE
    return begins
