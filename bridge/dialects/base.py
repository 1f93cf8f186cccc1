"""What a dialect is: the wire format of a stream. It says HOW a stream speaks, never to whom or when.

A dialect is a pure object, one for each stream: bytes in, commands out. It owns no socket, no task and no clock
(``now`` is an argument, in seconds on a monotonic clock). A dialect is one module in this package that defines one
class with a ``name``; ``dialects.find(name)`` discovers it, so there is no list to edit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

Message = bytes | str
"""One WebSocket message: ``bytes`` is a binary one, ``str`` a text one."""


@dataclass(frozen=True, slots=True)
class Play:
    """Queue audio for the call. ``pcm`` is s16le mono at ``rate`` Hz, any even length."""

    pcm: bytes
    rate: int


@dataclass(frozen=True, slots=True)
class Clear:
    """Throw away what is queued and not yet played."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Say when everything queued before this point has been played."""

    name: str


@dataclass(frozen=True, slots=True)
class Dtmf:
    """Send key presses to the call. ``digits`` holds 0-9, A-D, * and #."""

    digits: str


@dataclass(frozen=True, slots=True)
class Stop:
    """The application asks to end the stream (never the call)."""

    reason: str


Command = Play | Clear | Mark | Dtmf | Stop


class Dialect(Protocol):
    """One stream's wire format, with the state of both directions."""

    name: ClassVar[str]
    rate: int
    """Sampling rate in Hz of the audio that the dialect wants to be given; the media leg is opened at this rate."""
    message_ms: float
    """How much audio one message of ``audio`` holds, in milliseconds."""
    discarded: int
    """Messages (or parts of one) from the application that could not be understood and were ignored."""

    def opened(self, now: float) -> Sequence[Message]:
        """The stream begins: what to say first."""

    def audio(self, track: str, pcm: bytes, now: float) -> Sequence[Message]:
        """Audio of one track arrived: s16le mono at ``rate``, usually but not always 20 ms."""

    def dtmf(self, track: str, digit: str, now: float) -> Sequence[Message]:
        """A party pressed a key."""

    def mark_reached(self, name: str, now: float) -> Sequence[Message]:
        """Everything before the application's mark has been played, or was cleared."""

    def closed(self, reason: str, now: float) -> Sequence[Message]:
        """The stream ends: what to say last."""

    def receive(self, message: Message) -> Sequence[Command]:
        """The application sent a message.

        Raises:
            ClientProtocolError: the message makes it impossible to go on. Anything less is counted in ``discarded``.
        """
