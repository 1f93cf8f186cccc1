"""Applications of every dialect with audio from the application, without a connection: what they send, as messages."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge import dialects
from bridge.dialects.base import CallInfo, Command, Dialect, Message, Play, Setting
from bridge.testing.peer import Samples, ulaw_bytes
from tests.lab.applications import APPLICATIONS


def _pcm(samples: Samples) -> bytes:
    return samples.astype("<i2").tobytes()


def _delta(samples: Samples) -> str:
    delta = base64.b64encode(ulaw_bytes(samples)).decode()
    return json.dumps({"type": "response.output_audio.delta", "response_id": "r", "item_id": "i", "delta": delta})


def _event(samples: Samples) -> str:
    audio = base64.b64encode(ulaw_bytes(samples)).decode()
    return json.dumps({"type": "audio", "audio_event": {"audio_base_64": audio, "event_id": 1}})


def _turn(samples: Samples) -> str:
    data = {"data": base64.b64encode(_pcm(samples)).decode(), "mimeType": "audio/pcm;rate=8000"}
    return json.dumps({"serverContent": {"modelTurn": {"parts": [{"inlineData": data}]}}})


@dataclass(frozen=True)
class Speaker:
    """An application, at 8000 Hz.

    Args:
        speech: returns a message with audio.
        first: its first messages.
        options: of the dialect.
    """

    speech: Callable[[Samples], Message]
    first: Sequence[Message] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def dialect(self, name: str) -> Dialect:
        """Return a dialect that expects audio from the application."""
        dialect = dialects.find(name).create(self.options, Setting(two_way=True))
        dialect.opened(CallInfo("7.1"), ["caller"], 0.0, 0.0)
        for message in self.first:
            dialect.receive(message)
        return dialect


_ULAW = {"agent_output_audio_format": "ulaw_8000", "user_input_audio_format": "ulaw_8000"}
_MODELS = {
    "deepgram_agent": Speaker(ulaw_bytes, ['{"type":"Welcome"}', '{"type":"SettingsApplied"}'], {"format": "mulaw"}),
    "elevenlabs": Speaker(
        _event,
        [json.dumps({"type": "conversation_initiation_metadata", "conversation_initiation_metadata_event": _ULAW})],
    ),
    "gemini_live": Speaker(_turn, ['{"setupComplete":{}}'], {"rate": 8000}),
    "openai_realtime": Speaker(_delta, ['{"type":"session.created"}', '{"type":"session.updated"}']),
}

SPEAKERS: Mapping[str, Speaker] = {
    **{name: Speaker(each.speech, tuple(each.answers.values()), each.options) for name, each in APPLICATIONS.items()},
    **_MODELS,
    "voipbin": Speaker(APPLICATIONS["voipbin"].speech, options={"encapsulation": "sln", "control": True}),
}
"""By the name of the dialect."""


def played(commands: Sequence[Command]) -> bytes:
    """Return the audio in commands."""
    return b"".join(command.pcm for command in commands if isinstance(command, Play))
