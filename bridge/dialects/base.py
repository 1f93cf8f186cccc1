"""What a dialect is: the wire format of a stream. It says HOW a stream speaks, never to whom or when.

A dialect is a pure object, one for each stream: bytes in, commands out. It owns no socket, no task and no clock
(``now`` is an argument, in seconds on a monotonic clock). A dialect is one module in this package that defines one
class with a ``name``; ``dialects.find(name)`` discovers it, so there is no list to edit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import msgspec

Message = bytes | str
"""One WebSocket message: ``bytes`` is a binary one, ``str`` a text one."""


class Play(msgspec.Struct, frozen=True, gc=False):  # not a dataclass: there is one for every frame, and it costs half
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


@dataclass(frozen=True, slots=True)
class CallInfo:
    """What a dialect may say about the call.

    Args:
        call_id: the linkedid.
        direction: ``inbound`` (it came by a trunk), ``outbound`` (it left by a trunk) or ``internal``.
        caller: number of who began the call.
        callee: number of who was called.
        did: the number that was dialled from outside, for inbound calls.
    """

    call_id: str
    direction: str = "internal"
    caller: str = ""
    callee: str = ""
    did: str = ""


@dataclass(frozen=True, slots=True)
class TrackInfo:
    """What a dialect may say about one track.

    Args:
        name: the track's name in this stream; every name occurs once at a time.
        channel_id: the party's channel.
        channel: that channel's name, for example ``PJSIP/1001-0000002a``.
        number: the party's own number: its extension, or the outside number on a trunk.
        near_number: the number on the PBX's side of this party: our DID or caller id.
        far_number: the number of the remote party.
        callflow: the scenario that the party is in: ``ivr``, ``queue``, ``ringgroup``, ``conference``,
            ``multicast_paging``, ``cfd`` or nothing.
    """

    name: str
    channel_id: str = ""
    channel: str = ""
    number: str = ""
    near_number: str = ""
    far_number: str = ""
    callflow: str = ""


class Dialect(Protocol):
    """One stream's wire format, with the state of both directions."""

    name: ClassVar[str]
    rate: int
    """Sampling rate in Hz of the audio that the dialect wants to be given; the media leg is opened at this rate."""
    message_ms: float
    """How much audio one message of ``audio`` holds, in milliseconds."""
    two_way: bool
    """The application may speak: a leg towards the call is opened."""
    replays: bool
    """What was made while the connection was away may be sent late on the next one, without ``opened`` again. If not,
    it is dropped, and the next connection begins with ``opened`` and ``track_started`` of every running track."""

    @property
    def discarded(self) -> int:
        """Messages (or parts of one) from the application that could not be understood and were ignored."""

    def opened(self, call: CallInfo, tracks: Sequence[str], now: float, wall: float) -> Sequence[Message]:
        """The stream begins, or begins anew on a fresh connection: what to say first.

        Args:
            tracks: names of the tracks that were asked for.
            now: seconds on a monotonic clock.
            wall: the same moment in seconds since 1970, UTC.
        """

    def track_started(self, track: TrackInfo, now: float) -> Sequence[Message]:
        """A party's track begins."""

    def track_changed(self, track: TrackInfo, now: float) -> Sequence[Message]:
        """Something about a running track is different: numbers or callflow."""

    def audio(self, track: str, pcm: bytes, now: float) -> Sequence[Message]:
        """Audio of one track arrived: s16le mono at ``rate``, usually but not always 20 ms."""

    def dtmf(self, track: str, digit: str, now: float) -> Sequence[Message]:
        """A party pressed a key."""

    def track_stopped(self, track: str, now: float) -> Sequence[Message]:
        """A party's track ends."""

    def mark_reached(self, name: str, now: float) -> Sequence[Message]:
        """Everything before the application's mark has been played, or was cleared."""

    def closed(self, reason: str, now: float, error: str | None = None) -> Sequence[Message]:
        """The stream ends: what to say last. Running tracks are stopped by this too.

        Args:
            reason: in words.
            error: what went wrong: ``connect_failed``, ``write_timeout``, ``audio_lost``, ``call_failed`` or
                ``internal``; None for a normal end.
        """

    def receive(self, message: Message) -> Sequence[Command]:
        """The application sent a message.

        Raises:
            ClientProtocolError: the message makes it impossible to go on. Anything less is counted in ``discarded``.
        """
