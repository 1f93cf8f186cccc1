"""What dialects of models have in common: one track, audio as it comes, and exact knowledge of what was played.

A model is dialed like an application, but is configured with `AgentSettings` instead of being programmed.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal, TypeVar

import msgspec

from bridge.audio.clocked_track import ClockedTrack
from bridge.audio.format import FRAME_MS, slin
from bridge.audio.raw import WholeSamples
from bridge.dialects.agent import AgentSettings
from bridge.dialects.base import (
    Account,
    CallInfo,
    CallTool,
    Clear,
    Command,
    Dialect,
    Message,
    Play,
    Send,
    Setting,
    TrackInfo,
)
from bridge.templates import percent_encoded

MAX_EARLY_MS: Final = 5000
"""Limit of the caller's audio that is kept until the model is ready, in milliseconds; older audio is dropped."""
DIGITS_PAUSE_S: Final = 1.5
"""Pause after DTMF digits that completes an input, in seconds."""
MAX_DIGITS: Final = 64
MAX_ITEMS: Final = 64
"""Limit of items whose audio may be queued at the same time."""

Received = TypeVar("Received")


class ModelDialect(Dialect):
    """One conversation with a model.

    A subclass sends its first messages in `opened` or as `Send`, calls `begin` when the model accepts audio, returns
    the model's audio by `play` and its function calls by `call_tool`, and `clear` when the caller interrupts:
    `interrupted` follows for each item that was not played completely.

    Args:
        agent: how the model is configured.
        rate: sampling rate in Hz, both ways.
        connect: the model may speak.
    """

    key_header: ClassVar[str] = "Authorization: Bearer {key}"
    """Header with the credential, unless configured."""

    default_layout: ClassVar[str] = "caller"
    caller_track: ClassVar[str] = "caller"
    flow_tracks: ClassVar[tuple[str, ...]] = ("caller",)
    track_set: ClassVar[Literal["open", "fixed", "single"]] = "single"
    not_options: ClassVar[Mapping[str, str]] = {
        **Dialect.not_options,
        "agent": "has its own table beside options",
        "connect": "is not an option",
    }

    def __init__(self, agent: AgentSettings | None, *, rate: int, connect: bool = False) -> None:
        self.agent = agent or AgentSettings()
        """Settings of the next connection; the stream may replace them before it connects."""
        self.rate = rate
        self.message_ms = float(FRAME_MS)
        self.two_way = connect
        self.turns = 0
        """Counts what the caller and tools contribute, as signs of a living conversation."""
        self.ready = False
        """The model has accepted its settings and receives audio."""
        self.greeted = False
        """The greeting was requested, on this connection or before."""
        self.calls: dict[str, str] = {}
        """Names of the tools that run, by the id of the call."""
        self._whole = WholeSamples()
        self._track: ClockedTrack | None = None
        self._digits = ""
        self._digit_at = 0.0
        self._early: deque[bytes] = deque(maxlen=MAX_EARLY_MS // FRAME_MS)
        self._items: deque[tuple[str, float]] = deque(maxlen=MAX_ITEMS)  # queued audio in ms, in order

    @classmethod
    def arguments(cls, options: Mapping[str, Any], setting: Setting) -> Mapping[str, Any]:
        """Return the options, with the settings of the model and the direction."""
        return {"agent": setting.agent, "connect": setting.two_way, **options}

    # What a dialect adds

    @abstractmethod
    def append(self, pcm: bytes) -> Message:
        """Return the message with audio for the model; ``pcm`` is s16le, one frame of 20 ms."""

    @abstractmethod
    def user_text(self, text: str) -> Sequence[Message]:
        """Return the messages that carry text of the user, and request an answer."""

    @abstractmethod
    def tool_output(self, id: str, name: str, output: str) -> Sequence[Message]:
        """Return the messages with the result of a tool; its call is no longer in `calls`."""

    def interrupted(self, item: str, played_ms: int, now: float) -> Sequence[Message]:
        """Report that the caller heard only the beginning of an item, once for each such item.

        Args:
            item: as passed to `play`.
            played_ms: how much of its audio was played, in milliseconds; 0: nothing.
            now: seconds on a monotonic clock.
        """
        return ()

    # The stream's life

    def handshake_headers(self, url: str, account: Account) -> Mapping[str, str]:
        """Return the header with the credential."""
        name, _, value = (self.agent.key_header or self.key_header).partition(":")
        return {name.strip(): value.strip().replace("{key}", self.agent.key)} if self.agent.key else {}

    def opened(self, call: CallInfo, tracks: Sequence[str], now: float, wall: float) -> Sequence[Message]:
        """Discard the state of the previous connection; return the first messages."""
        self.ready = False
        self._early.clear()
        self._track = None
        self._items.clear()
        self._whole = WholeSamples()
        self.calls.clear()
        return ()

    def track_started(self, track: TrackInfo, now: float) -> Sequence[Message]:
        """Start the track's clock."""
        self._track = ClockedTrack(slin(self.rate), FRAME_MS, now, tally=self.tally)
        return ()

    def audio(self, track: str, pcm: bytes, now: float) -> Sequence[Message]:
        """Return a message for each 20 ms; keep the audio until the model is ready."""
        if self._track is None:
            return ()
        frames = self._track.push(pcm, now)
        if not self.ready:
            self._early.extend(frames)
            return ()
        messages = [self.append(frame) for frame in frames]
        if self._digits and now - self._digit_at >= DIGITS_PAUSE_S:
            digits, self._digits = self._digits, ""
            messages.extend(self.user_text(f"(The caller has entered {digits} on the keypad)"))
        return messages

    def dtmf(self, track: str, digit: str, now: float) -> Sequence[Message]:
        """Collect a DTMF digit; `user_text` reports them together after a pause."""
        if len(self._digits) < MAX_DIGITS:
            self._digits += digit
        self._digit_at = now
        self.turns += 1
        return ()

    def track_stopped(self, track: str, now: float) -> Sequence[Message]:
        """Stop the track's clock."""
        self._track = None
        return ()

    def audio_refused(self, duration_ms: float, now: float) -> Sequence[Message]:
        """Subtract audio that does not fit into the queue."""
        if self._items:
            item, queued_ms = self._items.pop()
            self._items.append((item, queued_ms - duration_ms))
        return ()

    def audio_added(self, duration_ms: float) -> None:
        """Count queued audio that is not the model's, such as a prompt."""
        self._count("", duration_ms)

    def playout_cleared(self, unplayed_ms: float, now: float) -> Sequence[Message]:
        """Return `interrupted` of every item that was not played completely, in order."""
        self.turns += 1
        cut: deque[tuple[str, float]] = deque()
        while self._items and unplayed_ms > 0:
            item, queued_ms = self._items.pop()
            cut.appendleft((item, max(queued_ms - unplayed_ms, 0.0)))
            unplayed_ms -= queued_ms
        self._items.clear()
        return [message for item, played_ms in cut if item for message in self.interrupted(item, int(played_ms), now)]

    def tool_result(self, id: str, output: str, now: float) -> Sequence[Message]:
        """Return `tool_output`, unless the call was cancelled or belongs to a former connection."""
        name = self.calls.pop(id, None)
        if name is None:
            return ()
        self.turns += 1
        return self.tool_output(id, name, output)

    # For dialects

    @property
    def greeting_request(self) -> str:
        """Text that requests the greeting, for models without a setting for it; empty: no greeting is due."""
        if not self.agent.greeting or not self.two_way or self.greeted:
            return ""
        return f"Greet the caller now. Say exactly this and nothing else: {self.agent.greeting}"

    def parsed(self, message: Message, decoder: msgspec.json.Decoder[Received]) -> Received | None:
        """Return the content of a message; None: it is invalid and was discarded."""
        try:
            return decoder.decode(message)
        except (msgspec.DecodeError, RecursionError):
            self.discard(message)
            return None

    def begin(self) -> Sequence[Command]:
        """Begin to send the caller's audio, as the model is ready; return the audio collected so far."""
        early, self.ready = list(self._early), True
        self._early.clear()
        return [Send(self.append(frame)) for frame in early]

    def play(self, item: str, pcm: bytes, rate: int = 0) -> Sequence[Command]:
        """Return the command for audio of the model.

        Args:
            item: the vendor's id of what the audio belongs to.
            pcm: s16le, also with half a sample at its end.
            rate: sampling rate in Hz; 0: that of the audio to the model.
        """
        pcm = self._whole.push(pcm)
        if not pcm:
            return ()
        rate = rate or self.rate
        self._count(item, len(pcm) / 2 / rate * 1000)
        return (Play(pcm, rate),)

    def clear(self) -> Sequence[Command]:
        """Discard the model's audio that was not played: the caller interrupts."""
        self._whole = WholeSamples()
        return (Clear(),) if self.two_way else ()

    def call_tool(self, id: str, name: str, arguments: str) -> Command:
        """Return the command that runs a tool; `tool_output` follows, unless the call is removed from `calls`."""
        self.calls[id] = name
        return CallTool(id, name, arguments)

    def _count(self, item: str, queued_ms: float) -> None:
        if self._items and self._items[-1][0] == item:
            queued_ms += self._items.pop()[1]
        self._items.append((item, queued_ms))

    @staticmethod
    def with_query(url: str, name: str, value: str) -> str:
        """Return ``url`` with a parameter in its query, unless it has one of this name or ``value`` is empty."""
        _, _, query = url.partition("?")
        if not value or any(part.split("=")[0] == name for part in query.split("&")):
            return url
        return f"{url}{'&' if query else '' if url.endswith('?') else '?'}{name}={percent_encoded(value)}"


def typed(kind: str, /, **fields: Any) -> Message:
    """Return a JSON message with its type and its other fields."""
    return msgspec.json.encode({"type": kind, **fields}).decode()


def merged(message: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message with the user's parameters: tables are merged, other values replaced, ``None`` removed."""
    result = dict(message)
    for name, value in parameters.items():
        before = result.get(name)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            result[name] = merged(before, value)
        elif value is None:
            result.pop(name, None)
        else:
            result[name] = value
    return result
