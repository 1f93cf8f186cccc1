"""The exchange between caller and application, line by line; consecutive messages with audio are one line."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from bridge.dialects.base import Message
from bridge.media.pump import MessageLink
from bridge.texts import cut, printable

MAX_CHARACTERS = 400
"""Characters of a message that are shown."""
SHOWN_BYTES = 16
SENT, RECEIVED = "->", "<-"


class Exchange:
    """Prints events and messages, with the time since the start.

    Args:
        out: where; None: nowhere.
    """

    def __init__(self, out: TextIO | None) -> None:
        self.began = time.monotonic()
        self.received = 0
        """Number of messages without audio from the application."""
        self.sent = 0
        """Number of messages without audio to the application."""
        self._out = out
        self._folded: dict[str, tuple[int, float]] = {}  # number of messages and milliseconds, by direction

    def note(self, text: str) -> None:
        """Print a line about an event."""
        self._unfold()
        self._print(text)

    def message(self, direction: str, message: Message, audio_ms: float) -> None:
        """Print a message, or count it if it has audio."""
        if audio_ms:
            count, total_ms = self._folded.get(direction, (0, 0.0))
            self._folded[direction] = (count + 1, total_ms + audio_ms)
            return
        self.received += direction == RECEIVED
        self.sent += direction == SENT
        shown = message if isinstance(message, str) else f"{len(message)} bytes {message[:SHOWN_BYTES].hex(' ')}"
        self.note(f"{direction} {cut(' '.join(shown.split()), MAX_CHARACTERS)}")

    def _unfold(self) -> None:
        folded, self._folded = self._folded, {}
        for direction, (count, audio_ms) in folded.items():
            self._print(f"{direction} {count} message{'s' * (count > 1)} with {audio_ms:.0f} ms of audio")

    def _print(self, text: str) -> None:
        if self._out is not None:
            shown = printable(text)  # control characters of the application are not for the terminal
            print(f"{time.monotonic() - self.began:8.3f} s  {shown}", file=self._out, flush=True)


class ObservedLink:
    """A link whose messages are printed.

    Args:
        link: the open WebSocket.
        exchange: prints.
        offered_ms: returns the audio that the application has sent so far, in milliseconds.
    """

    def __init__(self, link: MessageLink, exchange: Exchange, offered_ms: Callable[[], float]) -> None:
        self._link = link
        self._exchange = exchange
        self._offered_ms = offered_ms
        self._callback: Callable[[Message], None] = lambda _: None
        self._answers: list[tuple[Message, float]] | None = None  # sent while a message is handled

    @property
    def on_message(self) -> Callable[[Message], None]:
        """Called with every message."""
        return self._callback

    @on_message.setter
    def on_message(self, callback: Callable[[Message], None]) -> None:
        self._callback = callback
        self._link.on_message = self._received

    def send(self, message: Message, audio_ms: float = 0.0) -> None:
        """Send and print a message."""
        if self._answers is not None:
            self._answers.append((message, audio_ms))
        else:
            self._exchange.message(SENT, message, audio_ms)
        self._link.send(message, audio_ms)

    def close(self, code: int, reason: str) -> None:
        """Close the link."""
        self._exchange.note(f"{SENT} close {code} {reason}")
        self._link.close(code, reason)

    def _received(self, message: Message) -> None:
        before_ms, self._answers = self._offered_ms(), []
        self._callback(message)
        answers, self._answers = self._answers, None
        self._exchange.message(RECEIVED, message, self._offered_ms() - before_ms)
        for answer, audio_ms in answers:
            self._exchange.message(SENT, answer, audio_ms)
