"""What a dialect may request: the commands in an application's messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

Message = bytes | str
"""One WebSocket message: ``bytes`` is a message of type binary, ``str`` of type text."""


class Play(msgspec.Struct, frozen=True, gc=False):  # one for every frame: half the cost of a dataclass
    """Queue audio for the call. ``pcm`` is s16le mono at ``rate`` Hz, any even length."""

    pcm: bytes
    rate: int


class Clear(msgspec.Struct, frozen=True):
    """Discard all queued audio that has not been played."""


class Mark(msgspec.Struct, frozen=True):
    """Report when everything queued before this point has been played."""

    name: str


class Dtmf(msgspec.Struct, frozen=True):
    """Send DTMF to the call. ``digits`` holds 0-9, A-D, * and #."""

    digits: str


class Stop(msgspec.Struct, frozen=True):
    """End the stream at the application's request (never the call)."""

    reason: str


class Reconnect(msgspec.Struct, frozen=True):
    """Replace the connection with a new one; queued audio is played meanwhile."""

    reason: str


class Send(msgspec.Struct, frozen=True):
    """Send a message to the application immediately: an answer to what it sent."""

    message: Message


class Pause(msgspec.Struct, frozen=True):
    """Play silence and keep queued audio while ``paused``; continue otherwise."""

    paused: bool


class CallTool(msgspec.Struct, frozen=True):
    """Run a tool for a model; `Dialect.tool_result` follows.

    Args:
        id: identifies the request, for `Dialect.tool_result`.
        name: of the tool.
        arguments: a JSON object as the model wrote it, perhaps invalid.
    """

    id: str
    name: str
    arguments: str


class Transcript(msgspec.Struct, frozen=True):
    """Publish words that a party has spoken.

    Args:
        party: ``caller``, or ``agent`` for the model.
        text: the words.
        final: whether the utterance is complete; otherwise a later transcript replaces this one.
    """

    party: Literal["caller", "agent"]
    text: str
    final: bool = True


class ReportedError(msgspec.Struct, frozen=True):
    """Log an error that the application reports; its text is the application's."""

    text: str


class CallRequest(msgspec.Struct, frozen=True):
    """Change the call, if the application may; `Dialect.request_answered` follows.

    Args:
        name: what to do with the party of the stream.
        after_playout: hang up only when the audio that is queued now was played.
        destination: of a transfer, as the application wrote it; not checked.
    """

    name: Literal["hangup", "transfer"]
    after_playout: bool = False
    destination: Mapping[str, Any] | None = None


AgentCommand = CallTool | Transcript | ReportedError
"""Commands that concern the conversation, not the audio."""
Command = Play | Clear | Mark | Dtmf | Stop | Reconnect | Send | Pause | CallRequest | AgentCommand
