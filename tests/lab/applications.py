"""Applications of every two-way dialect in its simplest form: they receive audio, and send some."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge import dialects
from bridge.dialects.base import Setting
from bridge.dialects.model import ModelDialect
from bridge.testing.peer import Samples, samples_of, ulaw_bytes, ulaw_samples
from tests.lab.sink import Received

RATE = 8000


def _payloads(received: Received) -> bytes:
    media = [message["media"] for message in received.messages if message.get("event") == "media"]
    return b"".join(base64.b64decode(each["payload"]) for each in media)


def _pcm(samples: Samples) -> bytes:
    return samples.astype("<i2").tobytes()


def _media(audio: bytes) -> str:
    return json.dumps({"event": "media", "media": {"payload": base64.b64encode(audio).decode()}})


def _play_audio(samples: Samples) -> str:
    media = {"contentType": "audio/x-mulaw", "payload": base64.b64encode(ulaw_bytes(samples)).decode()}
    return json.dumps({"event": "playAudio", "media": media})


@dataclass(frozen=True)
class TwoWay:
    """An application of one dialect, at 8000 Hz.

    Args:
        heard: returns the audio that it has received.
        speech: returns a message with audio.
        options: of the dialect.
        answers: its messages for certain ones from the bridge, by their type.
    """

    heard: Callable[[Received], Samples] = lambda received: received.samples
    speech: Callable[[Samples], bytes | str] = _pcm
    options: Mapping[str, Any] = field(default_factory=lambda: {"rate": RATE})
    answers: Mapping[str, str] = field(default_factory=dict)

    async def answer(self, received: Received, message: Mapping[str, Any]) -> None:
        """Answer a message."""
        if answer := self.answers.get(message.get("type", "")):
            await received.socket.send(answer)


_ULAW = TwoWay(lambda received: ulaw_samples(_payloads(received)), lambda samples: _media(ulaw_bytes(samples)), {})

APPLICATIONS: Mapping[str, TwoWay] = {
    "audiohook": TwoWay(
        lambda received: ulaw_samples(b"".join(received.binary)), ulaw_bytes, {}, {"open": '{"type":"opened","seq":1}'}
    ),
    "chan_websocket": TwoWay(),
    "exotel": TwoWay(lambda received: samples_of(_payloads(received)), lambda samples: _media(_pcm(samples)), {}),
    "jambonz": TwoWay(),
    "plivo": TwoWay(_ULAW.heard, _play_audio, {}),
    "telnyx": _ULAW,
    "twilio": _ULAW,
    "voipbin": TwoWay(options={"encapsulation": "sln"}),
    "vonage": TwoWay(),
}


def two_way_dialects() -> set[str]:
    """Return the names of the dialects whose applications may send audio, without those of models."""

    def is_two_way(name: str) -> bool:
        options = APPLICATIONS[name].options if name in APPLICATIONS else {}
        return dialects.find(name).create(options, Setting(two_way=True)).two_way

    return {name for name, each in dialects.known().items() if not issubclass(each, ModelDialect) and is_two_way(name)}
