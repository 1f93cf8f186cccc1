"""The interface of a dialect, the wire format of a stream, without its receivers and its timing.

A dialect is a pure object, one for each stream: bytes in, commands out. It owns no socket, no task and no clock
(``now`` is an argument, in seconds on a monotonic clock). It is one module in this package that defines one subclass of
`Dialect`, or a subclass anywhere else that is passed to `bridge.dialects.register`; there is no list to edit. Whatever
other packages need from a vendor is a class attribute or a hook of its dialect.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Final, Literal, Self

import msgspec

from bridge.audio.clocked_track import FillCounters
from bridge.dialects.agent import AgentSettings
from bridge.dialects.call_info import CallInfo, TrackInfo
from bridge.dialects.commands import (
    AgentCommand,
    CallRequest,
    CallTool,
    Clear,
    Command,
    Dtmf,
    Mark,
    Message,
    Pause,
    Play,
    Reconnect,
    ReportedError,
    Send,
    Stop,
    Transcript,
)

__all__ = [
    "COMMON_LAYOUTS",
    "Account",
    "AgentCommand",
    "AgentSettings",
    "CallInfo",
    "CallRequest",
    "CallTool",
    "Clear",
    "Command",
    "Dialect",
    "Dtmf",
    "Layout",
    "Mark",
    "Message",
    "Pause",
    "Play",
    "Reconnect",
    "ReportedError",
    "Send",
    "Setting",
    "Spy",
    "Stop",
    "TrackInfo",
    "Transcript",
]


Spy = Literal["in", "out", "both"]
"""Audio that a track carries: sent by its party (``in``), sent to its party (``out``), or both mixed."""


class Layout(msgspec.Struct, frozen=True):
    """The audio of a call that a stream carries, and the names of its tracks.

    Args:
        name: the value of ``tracks`` in a subscription or route.
        of: ``parties``: one track for each party, named after its channel, with the audio that the party sends;
            ``trunk``: tracks of the party on the trunk, or of the caller if no party is on a trunk; ``caller``: tracks
            of the caller.
        tracks: the names of the tracks, and the audio of each; empty for ``parties``.
    """

    name: str
    of: Literal["parties", "trunk", "caller"]
    tracks: Mapping[str, Spy] = {}


COMMON_LAYOUTS = (
    Layout("parties", "parties"),
    Layout("near", "trunk", {"near": "out"}),
    Layout("far", "trunk", {"far": "in"}),
    Layout("both", "trunk", {"far": "in", "near": "out"}),
    Layout("mix", "caller", {"mix": "both"}),
    Layout("caller", "caller", {"caller": "in"}),
)
"""The layouts that every dialect can use."""


@dataclass(frozen=True, slots=True)
class Account:
    """The product's identity toward applications.

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


class Setting(msgspec.Struct, frozen=True):
    """Facts about the stream that a dialect is created for.

    Args:
        layout: the name of the stream's layout; empty: unknown.
        two_way: the application may send audio, if the dialect supports it.
        account: the product's identity toward applications.
        agent: how a model is configured, for dialects of models.
    """

    layout: str = ""
    two_way: bool = False
    account: Account = Account()
    agent: AgentSettings = msgspec.field(default_factory=AgentSettings)


def no_queue() -> float:
    """Return 0: the duration of the queue of a dialect without a call."""
    return 0.0


class Dialect(ABC):
    """The wire format of one stream, with the state of both directions.

    The arguments of the constructor are the dialect's options: ``options`` in the configuration, a subscription or a
    flow's action, and parameters of the ``media_stream`` URL. Wrong ones raise ValueError with a message for their
    author. Only ``name`` and ``audio`` must be defined; the defaults describe a dialect that sends audio only and
    receives nothing.
    """

    name: ClassVar[str]
    """The value of ``dialect`` everywhere."""
    layouts: ClassVar[tuple[Layout, ...]] = ()
    """The only layouts that the dialect can carry; empty: any. Their names are also track names of flow actions."""
    default_layout: ClassVar[str] = "mix"
    """The layout of subscriptions and routes that set none."""
    caller_track: ClassVar[str] = ""
    """The name of the track of a stream on a single party; empty: the channel's name or the direction."""
    flow_tracks: ClassVar[tuple[str, ...]] = ("mix",)
    """The tracks of a stream that a flow starts without naming tracks."""
    flow_keys: ClassVar[frozenset[str]] = frozenset()
    """Keys of a flow's action that are options of the dialect: ``stream_data``, ``stream_name``, ``parameters``."""
    flow_options: ClassVar[Mapping[str, Any]] = {}
    """Options of streams that flows start, unless the flow sets them."""
    track_set: ClassVar[Literal["open", "fixed", "single"]] = "open"
    """``open``: tracks may start and stop at any time; ``fixed``: the first message lists all tracks; ``single``:
    exactly one track, as messages do not name it.
    """
    default_of: ClassVar[frozenset[str]] = frozenset()
    """Starts of streams that use this dialect by default: ``media_stream``, ``external_media_start``, ``stream``."""
    subprotocol: ClassVar[str] = ""
    """The WebSocket subprotocol that is offered to applications, and accepted from those that offer it; empty: none."""
    not_options: ClassVar[Mapping[str, str]] = {"tracks": "has its own key beside options", "rng": "is not an option"}
    """Arguments of the constructor that are not options, and why."""
    shown_options: ClassVar[frozenset[str]] = frozenset()
    """Options whose strings describe how audio is carried; the strings of all others may be secrets and are masked."""

    rate: int = 8000
    """Sampling rate in Hz of the audio that the dialect receives; the media leg is opened at this rate."""
    message_ms: float = 20.0
    """Audio in one message of ``audio``, in milliseconds."""
    two_way: bool = False
    """The application may send audio: a media leg toward the call is opened."""
    replays: bool = False
    """Messages that were created during a disconnection may be sent late on the next connection, without ``opened``
    again. If false, they are discarded, and the next connection begins with ``opened`` and ``track_started`` of every
    running track.
    """
    on_discarded: Callable[[Message, str], object] | None = None
    """Called with each message, or part of one, that is counted in ``discarded``, and a description of valid messages.
    """
    queued_ms: Callable[[], float] = staticmethod(no_queue)
    """Returns how much of the application's audio waits to be played, in milliseconds. During `receive`, the audio of
    that message is not counted.
    """
    _discarded: int = 0
    _tally: FillCounters | None = None

    # Creation

    @classmethod
    def create(cls, options: Mapping[str, Any], setting: Setting | None = None) -> Self:
        """Create the dialect of one stream.

        Args:
            options: values set by the administrator, the flow's author or the client.
            setting: facts about the stream.

        Raises:
            ValueError: an option is unknown, missing or invalid; the message is ``key: reason``.
        """
        known = cls.options()
        for name in options:
            if name not in known:
                why = cls.not_options.get(name, "is not an option")
                raise ValueError(f"options.{name[:40]}: {why}; the dialect {cls.name} has {', '.join(sorted(known))}")
        arguments = cls.arguments(options, setting or Setting())
        for name, each in _parameters(cls).items():
            if each.default is inspect.Parameter.empty and name not in arguments:
                raise ValueError(f"options.{name}: required by the dialect {cls.name}")
        try:
            return cls(**arguments)
        except ValueError as error:
            raise ValueError(f"options: {error}") from None
        except (TypeError, AttributeError) as error:
            raise ValueError(_wrong_type(cls, options) or f"options: {error}") from None

    @classmethod
    def options(cls) -> Sequence[str]:
        """Return the names of the options, in the constructor's order."""
        return [name for name in _parameters(cls) if name not in cls.not_options]

    @classmethod
    def arguments(cls, options: Mapping[str, Any], setting: Setting) -> Mapping[str, Any]:  # noqa: ARG003
        """Return the constructor's arguments: the options, and values derived from the stream.

        Args:
            options: known names with unchecked values.
            setting: facts about the stream.
        """
        return options

    # The stream's life

    @property
    def discarded(self) -> int:
        """Number of messages (or parts of one) from the application that were ignored because they are invalid."""
        return self._discarded

    @property
    def expected(self) -> str:
        """The messages that the application may send, as the log lists them when it sends another."""
        return f"messages of the dialect {self.name}" if self.two_way else "nothing: the stream is one-way"

    def discard(self, message: Message, expected: str = "") -> None:
        """Count and report a message from the application, or a part of one, that is invalid.

        Args:
            message: the message, or the part.
            expected: a valid message, described for the application's author; empty: `expected`.
        """
        self._discarded += 1
        if self.on_discarded is not None:
            self.on_discarded(message, expected or self.expected)

    @property
    def tally(self) -> FillCounters:
        """Silence added to and audio removed from all tracks, for applications that count samples."""
        if self._tally is None:  # no cached_property: its use of __dict__ makes every attribute of a dialect slower
            self._tally = FillCounters()
        return self._tally

    def url(self, configured: str) -> str:
        """Return the URL of the next connection, for dialects whose settings are part of it."""
        return configured

    def handshake_headers(self, url: str, account: Account) -> Mapping[str, str]:
        """Return additional HTTP headers of the WebSocket handshake.

        Args:
            url: the application's URL.
            account: the product's identity toward applications.

        Returns:
            Headers other than the credential.
        """
        return {}

    def update(self, data: Mapping[str, Any]) -> None:  # noqa: B027 - most have nothing to update
        """Replace ``stream_data`` of the running stream with that of a flow's action."""

    def opened(self, call: CallInfo, tracks: Sequence[str], now: float, wall: float) -> Sequence[Message]:
        """Begin the stream, also on each new connection; return the first messages.

        Args:
            call: facts about the call.
            tracks: names of the requested tracks.
            now: seconds on a monotonic clock.
            wall: the same time in seconds since 1970, UTC.
        """
        return ()

    def connected(self, now: float) -> None:  # noqa: B027 - most do the same with and without a connection
        """Handle a new connection, the first or one that replaces another."""

    def track_started(self, track: TrackInfo, now: float) -> Sequence[Message]:
        """Begin a party's track."""
        return ()

    def track_changed(self, track: TrackInfo, now: float) -> Sequence[Message]:
        """Apply changed facts about a running track: numbers or callflow."""
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
        """Report a DTMF digit from a party."""
        return ()

    def track_stopped(self, track: str, now: float) -> Sequence[Message]:
        """End a party's track."""
        return ()

    def mark_reached(self, name: str, now: float) -> Sequence[Message]:
        """Report that everything before the application's mark has been played or cleared."""
        return ()

    def playout_cleared(self, unplayed_ms: float, now: float) -> Sequence[Message]:
        """Report that `Clear` was executed.

        Args:
            unplayed_ms: audio that was discarded, in milliseconds: the last of what was queued.
            now: seconds on a monotonic clock.
        """
        return ()

    def audio_added(self, duration_ms: float) -> None:  # noqa: B027 - only truncation needs it
        """Report that audio which is not the application's was queued: a prompt, or the filler of a tool."""

    def tool_result(self, id: str, output: str, now: float) -> Sequence[Message]:
        """Report the result of `CallTool`.

        Args:
            id: that of the command.
            output: JSON or text for the model, also about an error.
            now: seconds on a monotonic clock.
        """
        return ()

    def request_answered(self, name: str, answer: Mapping[str, Any], now: float, error: str = "") -> Sequence[Message]:
        """Report the outcome of `CallRequest`.

        Args:
            name: that of the request.
            answer: facts; with an error its ``reason``.
            now: seconds on a monotonic clock.
            error: why the request was refused or failed, for the application's author; empty: it was executed.
        """
        return ()

    def audio_refused(self, duration_ms: float, now: float) -> Sequence[Message]:
        """Report that the audio of a message from the application is not played because the playout queue is full.

        Further messages are refused until half of the queue's limit was played, or the queue is cleared.

        Args:
            duration_ms: length of that audio in milliseconds.
            now: seconds on a monotonic clock.
        """
        return ()

    def closed(self, reason: str, now: float, error: str | None = None) -> Sequence[Message]:
        """End the stream and all its running tracks; return the last messages.

        Args:
            reason: readable text.
            now: seconds on a monotonic clock.
            error: ``connect_failed``, ``write_timeout``, ``audio_lost``, ``call_failed`` or ``internal``; None for a
                normal end.
        """
        return ()

    def receive(self, message: Message) -> Sequence[Command]:
        """Decode a message from the application; the default discards it.

        Raises:
            ClientProtocolError: the stream cannot continue after this message. Lesser errors are passed to `discard`.
        """
        self.discard(message)
        return ()


@cache
def _parameters(dialect: type[Dialect]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(dialect).parameters


_TYPES: Final = {
    "Mapping": (Mapping, "a table"),
    "str": (str, "a string"),
    "int": (int, "an integer"),
    "bool": (bool, "true or false"),
}
"""Of options: how the constructor's annotation begins, the type, and the words for it."""


def _wrong_type(dialect: type[Dialect], options: Mapping[str, Any]) -> str:
    """Return which option has a value of another type than the constructor's annotation; empty if none has."""
    for name, value in options.items():
        annotation = str(_parameters(dialect)[name].annotation)
        for start, (kind, words) in _TYPES.items():
            if annotation.startswith(start) and not isinstance(value, kind):
                return f"options.{name}: expected {words}, got {value!r:.60}"
    return ""
