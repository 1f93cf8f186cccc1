"""Genesys AudioHook, version 2, as the Audio Connector speaks it: mu-law in binary messages, control in JSON text.

Source: developer.genesys.cloud, "AudioHook" (2026), and pipecat 1.14's serializer. Choices where these are silent or
disagree: ``docs/decisions/audiohook.md``.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

from bridge.audio import g711
from bridge.audio.format import Encoding
from bridge.dialects.base import Account, CallInfo, Command, Message, Play, Send, Setting, Stop
from bridge.dialects.pcm import PcmDialect

RATE: Final = 8000
PING_S: Final = 5.0
"""Time between two ``ping``, in seconds."""

TOO_MUCH: Final = 429
"""Code of an ``error`` about audio that does not fit into the queue."""

_PLAYED: Final = "played:"


def uuid_of(name: str) -> str:
    """Return the UUID of a name, always the same for the same name."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


class AudioHook(PcmDialect):
    """One session of a call.

    Args:
        rate: sampling rate in Hz: 8000.
        connect: the application may send audio.
        parameters: entries of ``inputVariables`` besides the facts about the call.
        language: the caller's language, for example ``en-US``; empty: not sent.
        organization_id: a UUID; by default derived from the installation's name.
        rng: source of the session's id, for tests.

    Raises:
        ValueError: an option is invalid; the message is for the administrator.
    """

    name: ClassVar[str] = "audiohook"
    rates: ClassVar[tuple[int, ...]] = (RATE,)
    reserved: ClassVar[frozenset[str]] = frozenset()
    shown_options: ClassVar[frozenset[str]] = frozenset({"language"})

    def __init__(
        self,
        rate: int = RATE,
        *,
        connect: bool = False,
        parameters: Mapping[str, str] | None = None,
        language: str = "",
        organization_id: str = "",
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(rate, connect=connect, parameters=parameters, encoding=Encoding.ULAW)
        for option, value in (("language", language), ("organization_id", organization_id)):
            if not isinstance(value, str):
                raise ValueError(f"{option} must be a string, not {value!r}")
        self._language = language
        self._organization_id = organization_id or _ORGANIZATION_ID
        rng = rng or random.SystemRandom()
        self._id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        self._begin()

    def _begin(self) -> None:
        self._seq = 0
        self._server_seq = 0
        self._open = False  # `opened` was received
        self._paused_at: int | None = None  # position of the pause; None: the audio is not paused
        self._position = 0  # of the next sample
        self._pinged: float | None = None
        self._playing = 0  # messages with audio so far, while one is played; otherwise 0
        self._refused = False  # a message with audio was, since all audio was last played

    @classmethod
    def arguments(cls, options: Mapping[str, Any], setting: Setting) -> Mapping[str, Any]:
        """Return the options, with direction and organization as defaults."""
        organization = setting.account.id or uuid_of(setting.account.installation)
        return super().arguments({"organization_id": organization, **options}, setting)

    def handshake_headers(self, url: str, account: Account) -> Mapping[str, str]:
        """Return the ids of the organization and the session."""
        return {
            "Audiohook-Organization-Id": self._organization_id,
            "Audiohook-Correlation-Id": self._id,
            "Audiohook-Session-Id": self._id,
        }

    @property
    def expected(self) -> str:
        """The messages that the application may send, as the log lists them when it sends another."""
        audio = "binary messages with mu-law at 8000 Hz, or " if self.two_way else ""
        return f"{audio}text messages of AudioHook 2: opened, event, pause, resume, disconnect, closed or pong"

    # To the application

    def first(self, call: CallInfo) -> Message:
        """Return ``open``."""
        self._begin()
        parameters: dict[str, Any] = {
            "organizationId": self._organization_id,
            "conversationId": uuid_of(call.call_id),
            "participant": {
                "id": uuid_of(f"{call.call_id} caller"),
                "ani": f"tel:{call.caller}" if call.caller else "",
                "aniName": "",
                "dnis": f"tel:{call.did or call.callee}" if call.did or call.callee else "",
            },
            "media": [{"type": "audio", "format": "PCMU", "channels": ["external"], "rate": RATE}],
        }
        if self._language:
            parameters["language"] = self._language
        return self._message("open", {**parameters, "inputVariables": call.parameters | call.filled(self._parameters)})

    def audio(self, track: str, pcm: bytes, now: float) -> Sequence[Message]:
        """Return a message for each 20 ms once the application is ready, and ``ping`` from time to time."""
        frames = super().audio(track, pcm, now)
        if not self._open:
            return ()
        messages: list[Message] = [g711.ulaw_encode(frame) for frame in frames if isinstance(frame, bytes)]
        self._position += sum(map(len, messages))
        if self._paused_at is not None:
            messages.clear()
        if self._pinged is None or now - self._pinged >= PING_S:
            self._pinged = now
            messages.append(self._message("ping", {}))
        return messages

    def track_stopped(self, track: str, now: float) -> Sequence[Message]:
        """Return the remaining whole frames."""
        frames = super().track_stopped(track, now)
        if not self._open or self._paused_at is not None:
            return ()
        return [g711.ulaw_encode(frame) for frame in frames if isinstance(frame, bytes)]

    def dtmf(self, track: str, digit: str, now: float) -> Sequence[Message]:
        """Report a DTMF digit."""
        return (self._message("dtmf", {"digit": digit}),) if self._open else ()

    def reached(self, text: str, *, was_cleared: bool) -> Sequence[Message]:
        """Return ``playback_completed`` when the last audio was played or discarded."""
        if text != f"{_PLAYED}{self._playing}":
            return ()
        self._playing = 0
        self._refused = False
        return (self._message("playback_completed", {}),)

    def audio_refused(self, duration_ms: float, now: float) -> Sequence[Message]:
        """Return ``error`` with the code for too much data, once until all audio was played."""
        if self._refused:
            return ()
        self._refused = True
        error = {
            "code": TOO_MUCH,
            "message": f"playout queue full, {round(duration_ms)} ms of audio rejected",
            "retryAfter": f"PT{round(self.queued_ms() / 2000, 1):g}S",
        }
        return (self._message("error", error),)

    def closed(self, reason: str, now: float, error: str | None = None) -> Sequence[Message]:
        """Return the remaining whole frames, and ``close``."""
        frames = self.track_stopped("", now)
        return (*frames, self._message("close", {"reason": "error" if error else "end"}))

    def _message(self, kind: str, parameters: Mapping[str, Any]) -> str:
        self._seq += 1
        message = {
            "version": "2",
            "id": self._id,
            "type": kind,
            "seq": self._seq,
            "serverseq": self._server_seq,
            "position": _duration(self._position),
            "parameters": parameters,
        }
        return msgspec.json.encode(message).decode()

    # From the application

    def receive(self, message: Message) -> Sequence[Command]:
        """Decode audio in a binary message, control in text; ignore and count anything else."""
        if isinstance(message, str):  # also without audio from the application: it has to open the session
            commands = self.control(message)
            if commands is None:
                self.discard(message)
            return commands or ()
        commands = super().receive(message)
        if not any(type(command) is Play for command in commands):
            return commands
        began = not self._playing
        self._playing += 1
        mark = self.mark(f"{_PLAYED}{self._playing}")
        return (*(Send(self._message("playback_started", {})) for _ in range(began)), *commands, mark)

    def control(self, text: str) -> Sequence[Command] | None:
        """Decode a message from the application."""
        try:
            control = _DECODER.decode(text)
        except (msgspec.DecodeError, RecursionError):
            return None
        self._server_seq = control.seq or self._server_seq
        match control.type:
            case "opened":
                self._open = True
                if control.parameters.startPaused:
                    self._paused_at = self._position
                return ()
            case "event":
                kinds = [entity.type for entity in control.parameters.entities]
                return self.clear() if "barge_in" in kinds else ()
            case "pause" | "resume":
                return self._pause(control.type)
            case "disconnect":  # answered by `closed`
                return (Send(self._message("close", {"reason": "disconnect"})),)
            case "closed":
                return (Stop("closed"),)
            case "pong" | "updated":
                return ()
        return None

    def _pause(self, kind: str) -> Sequence[Command]:
        if kind == "pause":
            if self._paused_at is None:
                self._paused_at = self._position
            return (Send(self._message("paused", {})),)
        since, self._paused_at = self._paused_at, None
        if since is None:
            since = self._position
        gap = {"start": _duration(since), "discarded": _duration(self._position - since)}
        return (Send(self._message("resumed", gap)),)


def _duration(samples: int) -> str:
    """Return a duration as in ISO 8601: ``PT1.5S``."""
    return f"PT{samples / RATE:.3f}".rstrip("0").rstrip(".") + "S"


class _Entity(msgspec.Struct, frozen=True):
    type: str = ""


class _Parameters(msgspec.Struct, frozen=True):
    startPaused: bool = False  # noqa: N815
    entities: tuple[_Entity, ...] = ()


class _Control(msgspec.Struct, frozen=True):
    """A message from the application; unknown fields are ignored."""

    type: str
    seq: int = 0
    parameters: _Parameters = _Parameters()


_DECODER = msgspec.json.Decoder(_Control)
_ORGANIZATION_ID: Final = uuid_of("asterisk-bridge")
