"""jambonz ``listen``: bare s16le in binary messages, control in JSON text, one track, one way or two ways.

Source: docs.jambonz.org, verb "listen" (2026), and jambonz-feature-server's ``lib/tasks/listen.js`` where the
documentation is silent. Choices: ``docs/decisions/jambonz.md``.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

import msgspec

from bridge.audio import wav
from bridge.audio.format import SLIN_RATES, slin
from bridge.audio.raw import RawAudio
from bridge.dialects.base import CallInfo, Command, Message, Play, Stop
from bridge.dialects.pcm import PcmDialect

DTMF_DURATION: Final = "800"
"""Duration of every DTMF digit, in RTP timestamp units (100 ms): Asterisk reports digits only."""
MAX_NAME: Final = 1024
"""Longest name of a mark and id of ``playAudio``, in characters: it is kept until the mark is reached."""

_DONE, _MARK = "done:", "mark:"


class Jambonz(PcmDialect):
    """One ``listen`` of a call, with ``bidirectionalAudio.streaming`` where it is two-way.

    Args:
        rate: sampling rate in Hz, both ways: 8000, 16000, 24000 or 48000.
        connect: the application may send audio.
        parameters: entries of the first message besides the facts about the call (the vendor's ``metadata``).

    Raises:
        ValueError: an option is invalid; the message is for the administrator.
    """

    name: ClassVar[str] = "jambonz"
    subprotocol: ClassVar[str] = "audio.jambonz.org"
    rates: ClassVar[tuple[int, ...]] = (8000, 16000, 24000, 48000)
    reserved: ClassVar[frozenset[str]] = frozenset({"sampleRate", "mixType", "callSid", "direction", "from", "to"})

    def __init__(self, rate: int = 8000, *, connect: bool = False, parameters: Mapping[str, str] | None = None) -> None:
        super().__init__(rate, connect=connect, parameters=parameters)
        self._forgotten = 0  # number of clearMarks: marks from before one are not reported

    @property
    def expected(self) -> str:
        """The messages that the application may send, as the log lists them when it sends another."""
        if not self.two_way:
            return super().expected
        return (
            f"binary messages with s16le at {self.rate} Hz, or text with the type killAudio, mark, clearMarks, "
            "disconnect or playAudio"
        )

    def first(self, call: CallInfo) -> Message:
        """Return the facts about the call, and the parameters beside them."""
        facts = {
            "sampleRate": self.rate,
            "mixType": "mono",
            "callSid": call.call_id,
            "direction": "outbound" if call.direction == "outbound" else "inbound",
            "from": call.caller,
            "to": call.did or call.callee,
        }
        return msgspec.json.encode({**facts, **call.variables, **call.filled(self._parameters), **facts}).decode()

    def dtmf(self, track: str, digit: str, now: float) -> Sequence[Message]:
        """Report a DTMF digit."""
        return (msgspec.json.encode({"event": "dtmf", "dtmf": digit, "duration": DTMF_DURATION}).decode(),)

    def reached(self, text: str, *, was_cleared: bool) -> Sequence[Message]:
        """Return ``mark``, played or cleared, or the ``playDone`` of a ``playAudio``; nothing after ``clearMarks``."""
        if text.startswith(_DONE):
            done = {"id": text.removeprefix(_DONE)} if text != _DONE else {}
            return (msgspec.json.encode({"type": "playDone", "data": done}).decode(),)
        forgotten, _, name = text.removeprefix(_MARK).partition(":")
        if int(forgotten) != self._forgotten:
            return ()
        data = {"name": name, "event": "cleared" if was_cleared else "playout"}
        return (msgspec.json.encode({"type": "mark", "data": data}).decode(),)

    def control(self, text: str) -> Sequence[Command] | None:
        """Decode ``killAudio``, ``mark``, ``clearMarks``, ``disconnect`` and ``playAudio``."""
        try:
            control = _DECODER.decode(text)
        except (msgspec.DecodeError, RecursionError):
            return None
        match control.type:
            case "killAudio":
                return self.clear()
            case "mark":
                name = control.data.name if control.data.name is not None else control.name
                if name is None or len(name) > MAX_NAME:
                    return None
                return (self.mark(f"{_MARK}{self._forgotten}:{name}"),)
            case "clearMarks":
                self._forgotten += 1
                return ()
            case "disconnect":
                return (Stop("disconnect"),)
            case "playAudio":
                return self._play_audio(control.data)
        return None

    def _play_audio(self, audio: _Data) -> Sequence[Command] | None:
        """Return the audio of a whole file, and a mark behind it."""
        rate = _rate(audio.sampleRate)
        if audio.audioContent is None or len(audio.id) > MAX_NAME:
            return None
        try:
            content = binascii.a2b_base64(audio.audioContent.encode(), strict_mode=True)
        except ValueError:
            return None
        is_file = audio.audioContentType in ("wav", "wave")
        if is_file != wav.is_wav(content) or not (is_file or rate in SLIN_RATES):
            return None
        pieces = RawAudio(slin(rate if rate in SLIN_RATES else self.rate), self.discard).receive(content)
        return [*(Play(pcm, at) for pcm, at in pieces), self.mark(_DONE + audio.id)]


def _rate(value: int | str) -> int:
    """Return a rate, which the vendor's example shows as a string; 0 if it is not one."""
    return int(value) if isinstance(value, int) or (value.isascii() and value.isdecimal() and len(value) < 7) else 0


class _Data(msgspec.Struct, frozen=True):
    """The object of a ``mark`` or a ``playAudio``."""

    name: str | None = None
    audioContent: str | None = None  # noqa: N815
    audioContentType: str = "raw"  # noqa: N815
    sampleRate: int | str = 8000  # noqa: N815
    id: str = ""


class _Control(msgspec.Struct, frozen=True):
    """Control in a message of type text; unknown fields are ignored."""

    type: str
    data: _Data = _Data()
    name: str | None = None  # of a mark, as the vendor's SDK for Python sends it


_DECODER = msgspec.json.Decoder(_Control)
