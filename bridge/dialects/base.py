"""What a dialect is: the wire format of a stream. It says HOW a stream speaks, never to whom or when.

A dialect is a pure object, one for each stream: bytes in, commands out. It owns no socket, no task and no clock
(``now`` is an argument, in seconds on a monotonic clock). It is one module in this package that defines one subclass of
`Dialect`, or a subclass anywhere else that is given to `bridge.dialects.register`; there is no list to edit. Whatever
the rest of the bridge must know of a vendor is a class attribute or a hook of its dialect.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Literal, Self

import msgspec

from bridge.audio.steady import Tally

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


Spy = Literal["in", "out", "both"]
"""What a track carries of its party: what it says, what it hears, or both mixed."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Which audio of a call a stream carries, and the names of the tracks.

    Args:
        name: the value of ``tracks`` in a subscription or route.
        of: ``parties``: one track per party, named like its channel, with what it says; ``trunk``: tracks of the party
            on the trunk, of the caller if there is none; ``caller``: tracks of the caller.
        tracks: the names of the tracks, and what each carries; empty for ``parties``.
    """

    name: str
    of: Literal["parties", "trunk", "caller"]
    tracks: Mapping[str, Spy] = field(default_factory=dict)


COMMON_LAYOUTS = (
    Layout("parties", "parties"),
    Layout("near", "trunk", {"near": "out"}),
    Layout("far", "trunk", {"far": "in"}),
    Layout("both", "trunk", {"far": "in", "near": "out"}),
    Layout("mix", "caller", {"mix": "both"}),
)
"""The layouts that belong to no dialect."""


@dataclass(frozen=True, slots=True)
class Account:
    """The identity of the bridge towards applications.

    Args:
        installation: the name of this installation.
        id: the configured account at the dialect's vendor; empty: none.
        secret: the account's secret.
    """

    installation: str = "asterisk-bridge"
    id: str = ""
    secret: str = field(default="", repr=False)

    @property
    def usable(self) -> bool:
        """Whether an account is configured."""
        return bool(self.id and self.secret)


@dataclass(frozen=True, slots=True)
class Setting:
    """What a dialect may know of the stream that it is created for.

    Args:
        layout: the name of the stream's layout; empty: unknown.
        two_way: the application may speak, if the dialect can carry that.
        account: the identity of the bridge.
    """

    layout: str = ""
    two_way: bool = False
    account: Account = Account()


class Dialect(ABC):
    """One stream's wire format, with the state of both directions.

    The arguments of the constructor are the dialect's options, which ``options`` in the configuration, in a
    subscription or in a flow's action and the URL of ``media_stream`` set. Wrong ones raise ValueError, in words for
    their author. Only ``name`` and ``audio`` must be defined; the defaults are those of a dialect that sends nothing
    but audio and receives nothing.
    """

    name: ClassVar[str]
    """The value of ``dialect`` everywhere."""
    layouts: ClassVar[tuple[Layout, ...]] = ()
    """The only layouts that the dialect can carry; empty: any. Their names are also track names of flows' actions."""
    default_layout: ClassVar[str] = "mix"
    """The layout of subscriptions and routes that name none."""
    caller_track: ClassVar[str] = ""
    """The name of the track where a stream is on one party only; empty: the channel's name or the direction."""
    flow_tracks: ClassVar[tuple[str, ...]] = ("mix",)
    """The tracks of a stream that a flow starts without naming any."""
    flow_keys: ClassVar[frozenset[str]] = frozenset()
    """Keys of a flow's action that are options of the dialect: ``stream_data``, ``stream_name``, ``parameters``."""
    flow_options: ClassVar[Mapping[str, Any]] = {}
    """Options of streams that flows start, where the flow sets none."""
    track_set: ClassVar[Literal["open", "fixed", "single"]] = "open"
    """``open``: tracks come and go; ``fixed``: the application learns of all tracks once, at the beginning; ``single``:
    one track, as no message names it."""
    default_of: ClassVar[frozenset[str]] = frozenset()
    """What speaks this dialect unless it names another: ``media_stream``, ``external_media_start``, ``stream``."""
    not_options: ClassVar[Mapping[str, str]] = {"tracks": "has a key of its own", "rng": "is not an option"}
    """Arguments of the constructor that are no options, and why."""
    shown_options: ClassVar[frozenset[str]] = frozenset()
    """Options whose strings are no secret, as they describe how audio is carried; all others are shown masked."""

    rate: int = 8000
    """Sampling rate in Hz of the audio that the dialect is given; the media leg is opened at this rate."""
    message_ms: float = 20.0
    """How much audio one message of ``audio`` holds, in milliseconds."""
    two_way: bool = False
    """The application may speak: a leg towards the call is opened."""
    replays: bool = False
    """What was made while the connection was away may be sent late on the next one, without ``opened`` again. If not,
    it is dropped, and the next connection begins with ``opened`` and ``track_started`` of every running track."""
    on_discarded: Callable[[Message, str], object] | None = None
    """Called with each message that was counted in ``discarded``, or the part of it, and what was expected instead."""
    _discarded: int = 0
    _tally: Tally | None = None

    # Creation

    @classmethod
    def create(cls, options: Mapping[str, Any], setting: Setting | None = None) -> Self:
        """Create the dialect of one stream.

        Args:
            options: as the administrator, the flow's author or the client has set them.
            setting: what is known of the stream.

        Raises:
            ValueError: ``key: reason``, in words for the author of the options.
        """
        known = cls.options()
        for name in options:
            if name not in known:
                why = cls.not_options.get(name, "is not an option")
                raise ValueError(f"options.{name[:40]}: {why} of {cls.name}; there are {', '.join(sorted(known))}")
        arguments = cls.arguments(options, setting or Setting())
        for name, each in _parameters(cls).items():
            if each.default is inspect.Parameter.empty and name not in arguments:
                raise ValueError(f"options.{name}: the dialect {cls.name} needs it")
        try:
            return cls(**arguments)
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"options: {error}") from None

    @classmethod
    def options(cls) -> Sequence[str]:
        """Return the names of the options, in the constructor's order."""
        return [name for name in _parameters(cls) if name not in cls.not_options]

    @classmethod
    def arguments(cls, options: Mapping[str, Any], setting: Setting) -> Mapping[str, Any]:  # noqa: ARG003
        """Return the constructor's arguments: the options, and what follows from the stream.

        Args:
            options: their names are known, their values are unchecked.
            setting: what is known of the stream.
        """
        return options

    # The stream's life

    @property
    def discarded(self) -> int:
        """Messages (or parts of one) from the application that could not be understood and were ignored."""
        return self._discarded

    @property
    def expected(self) -> str:
        """What the application may send, in words for its author."""
        return f"messages of the dialect {self.name}" if self.two_way else "nothing: the stream is one-way"

    def discard(self, message: Message, expected: str = "") -> None:
        """Count a message of the application, or a part of one, that cannot be understood, and report it.

        Args:
            expected: what stands in its place, in words for the application's author; empty: `expected`.
        """
        self._discarded += 1
        if self.on_discarded is not None:
            self.on_discarded(message, expected or self.expected)

    @property
    def tally(self) -> Tally:
        """What was added to and left out of the audio of all tracks, for applications that count samples."""
        if self._tally is None:  # no cached_property: its use of __dict__ makes every attribute of a dialect slower
            self._tally = Tally()
        return self._tally

    def handshake_headers(self, url: str, account: Account) -> Mapping[str, str]:
        """Return the HTTP headers that the WebSocket handshake carries beside the credential.

        Args:
            url: the application's URL.
            account: the identity of the bridge.
        """
        return {}

    def update(self, data: Mapping[str, Any]) -> None:  # noqa: B027 - most have nothing to update
        """Replace ``stream_data`` of the running stream; a flow's action brings new ones."""

    def opened(self, call: CallInfo, tracks: Sequence[str], now: float, wall: float) -> Sequence[Message]:
        """Begin the stream, or begin it again on a fresh connection; return the first messages.

        Args:
            tracks: names of the tracks that were asked for.
            now: seconds on a monotonic clock.
            wall: the same moment in seconds since 1970, UTC.
        """
        return ()

    def connected(self, now: float) -> None:  # noqa: B027 - most do the same with and without a connection
        """Note that there is a connection from now on, also one that replaces another."""

    def track_started(self, track: TrackInfo, now: float) -> Sequence[Message]:
        """Begin a party's track."""
        return ()

    def track_changed(self, track: TrackInfo, now: float) -> Sequence[Message]:
        """Take over what has changed about a running track: numbers or callflow."""
        return ()

    @abstractmethod
    def audio(self, track: str, pcm: bytes, now: float) -> Sequence[Message]:
        """Carry audio of one track.

        Args:
            track: its name; its first audio may come before ``track_started``.
            pcm: s16le mono at ``rate``, usually but not always 20 ms; empty when only time has passed.
            now: seconds on a monotonic clock.
        """

    def dtmf(self, track: str, digit: str, now: float) -> Sequence[Message]:
        """Report a DTMF digit that a party sent."""
        return ()

    def track_stopped(self, track: str, now: float) -> Sequence[Message]:
        """End a party's track."""
        return ()

    def mark_reached(self, name: str, now: float) -> Sequence[Message]:
        """Report that everything before the application's mark has been played, or was cleared."""
        return ()

    def audio_refused(self, duration_ms: float, now: float) -> Sequence[Message]:
        """Report that audio of the application is not played, as too much waits.

        Args:
            duration_ms: how long the audio is.
            now: seconds on a monotonic clock.
        """
        return ()

    def closed(self, reason: str, now: float, error: str | None = None) -> Sequence[Message]:
        """End the stream, and all running tracks with it; return the last messages.

        Args:
            reason: in words.
            error: what went wrong: ``connect_failed``, ``write_timeout``, ``audio_lost``, ``call_failed`` or
                ``internal``; None for a normal end.
        """
        return ()

    def receive(self, message: Message) -> Sequence[Command]:
        """Decode a message of the application; by default it is discarded.

        Raises:
            ClientProtocolError: the message makes it impossible to continue. Anything less is passed to `discard`.
        """
        self.discard(message)
        return ()


@cache
def _parameters(dialect: type[Dialect]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(dialect).parameters
