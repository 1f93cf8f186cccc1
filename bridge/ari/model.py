"""ARI's resources and events as typed values.

Source of the format: ``rest-api/api-docs/*.json`` of Asterisk 22.10. Every struct ignores unknown fields, and every
field that some versions of Asterisk omit has a default. Times remain Asterisk's strings
(``2026-01-31T12:00:00.123+0000``), as nothing calculates with them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """Base of everything decoded from ARI: immutable, tolerant of unknown fields."""


class Caller(Value, frozen=True, kw_only=True):
    """Name and number of a channel's caller or connected party."""

    name: str = ""
    number: str = ""


class Dialplan(Value, frozen=True, kw_only=True):
    """A channel's position in the dialplan, and the application that it runs."""

    context: str = ""
    exten: str = ""
    priority: int = 0
    app_name: str = ""
    app_data: str = ""

    @property
    def behind(self) -> tuple[str, str, int]:
        """Return where the dialplan continues after the current application: context, extension, priority."""
        return self.context, self.exten, self.priority + 1


_NOBODY = Caller()
_NOWHERE = Dialplan()


PRESENTATION = "CALLERID(pres)"


def is_withheld(presentation: str | None) -> bool:
    """Return whether a caller restricts the presentation of their number (``prohib``, ``prohib_passed_screen``...)."""
    return presentation is not None and presentation.startswith("prohib")


class Channel(Value, frozen=True, kw_only=True):
    """A snapshot of a channel."""

    id: str
    name: str = ""
    state: str = ""
    """``Down``, ``Ring`` (incoming), ``Ringing`` (outgoing), ``Up`` and a few rare ones."""
    protocol_id: str = ""
    """SIP's Call-ID on PJSIP channels."""
    caller: Caller = _NOBODY
    connected: Caller = _NOBODY
    accountcode: str = ""
    dialplan: Dialplan = _NOWHERE
    creationtime: str = ""
    language: str = ""
    caller_rdnis: str = ""
    channelvars: dict[str, str | None] = {}

    @property
    def presentation(self) -> str | None:
        """The presentation of the caller ID, in Asterisk's words; None if ``channelvars`` lack ``CALLERID(pres)``."""
        return self.channelvars.get(PRESENTATION)

    @property
    def shown_caller(self) -> Caller:
        """The caller, or an empty one if the presentation is known to be restricted."""
        return _NOBODY if is_withheld(self.presentation) else self.caller

    @property
    def linkedid(self) -> str | None:
        """The call's id, if ari.conf has ``CHANNEL(linkedid)`` among its ``channelvars``."""
        return self.channelvars.get("CHANNEL(linkedid)") or None


class Bridge(Value, frozen=True, kw_only=True):
    """A snapshot of one of Asterisk's bridges."""

    id: str
    technology: str = ""
    bridge_type: str = ""
    bridge_class: str = ""
    """``stasis``: created by ARI; ``basic``: created by Dial(), Queue()...; ``base``: by ConfBridge and others."""
    creator: str = ""
    name: str = ""
    channels: list[str] = []
    creationtime: str = ""


class LiveRecording(Value, frozen=True, kw_only=True):
    """A recording in progress, or one that has just ended."""

    name: str
    format: str = ""
    target_uri: str = ""
    state: str = ""
    duration: int | None = None
    """Whole seconds; set when the recording has ended."""
    talking_duration: int | None = None
    silence_duration: int | None = None
    cause: str = ""
    """Why the recording failed."""


class StoredRecording(Value, frozen=True, kw_only=True):
    """A recording in Asterisk's spool."""

    name: str
    format: str = ""


class Application(Value, frozen=True, kw_only=True):
    """A Stasis application and what it is subscribed to."""

    name: str
    channel_ids: list[str] = []
    bridge_ids: list[str] = []
    endpoint_ids: list[str] = []
    events_allowed: list[dict[str, str]] = []
    events_disallowed: list[dict[str, str]] = []


class Endpoint(Value, frozen=True, kw_only=True):
    """An endpoint of a channel technology."""

    technology: str
    resource: str
    state: str = ""
    """``online``, ``offline`` or ``unknown``."""
    channel_ids: list[str] = []
    """Its channels: calls that it has, or that ring."""


class Module(Value, frozen=True, kw_only=True):
    """A loaded module of Asterisk."""

    name: str
    description: str = ""
    use_count: int = 0
    status: str = ""
    support_level: str = ""


class SystemInfo(Value, frozen=True, kw_only=True):
    """Part of ``GET /asterisk/info``."""

    version: str = ""
    entity_id: str = ""


class RtpStatistics(Value, frozen=True, kw_only=True):
    """Response of ``GET /channels/{id}/rtp_statistics``: packets that Asterisk has sent and received."""

    txcount: int = 0
    rxcount: int = 0


class StatusInfo(Value, frozen=True, kw_only=True):
    """Part of ``GET /asterisk/info``."""

    startup_time: str = ""


class AsteriskInfo(Value, frozen=True, kw_only=True):
    """Response of ``GET /asterisk/info``."""

    system: SystemInfo = SystemInfo()
    status: StatusInfo = StatusInfo()


class Ping(Value, frozen=True, kw_only=True):
    """Response of ``GET /asterisk/ping``. ``timestamp`` is the PBX's own clock."""

    ping: str = ""
    timestamp: str = ""
    asterisk_id: str = ""


class Event(Value, frozen=True, kw_only=True):
    """Any event. Types without a class below are decoded as a plain ``Event``."""

    type: str
    timestamp: str = ""
    application: str = ""
    asterisk_id: str = ""
    channel: Channel | None = None
    bridge: Bridge | None = None


class ChannelEvent(Event, frozen=True, kw_only=True):
    """Base of the events that are always about one channel."""

    channel: Channel


class BridgeEvent(Event, frozen=True, kw_only=True):
    """Base of the events that are always about one bridge."""

    bridge: Bridge


class StasisStart(ChannelEvent, frozen=True, kw_only=True):
    """A channel entered the Stasis application; only from now on can it be bridged or played to."""

    args: list[str] = []
    replace_channel: Channel | None = None
    """The channel that it replaced, in a transfer or a pickup."""


class StasisEnd(ChannelEvent, frozen=True, kw_only=True):
    """A channel left the Stasis application: hung up, or continued in the dialplan."""


class ChannelCreated(ChannelEvent, frozen=True, kw_only=True):
    """A channel was created. Its dialplan position is the first one: the DID of an incoming trunk call."""


class ChannelDestroyed(ChannelEvent, frozen=True, kw_only=True):
    """A channel ended."""

    cause: int = 0
    cause_txt: str = ""
    tech_cause: int = 0
    """SIP's status code, on PJSIP channels."""


class ChannelStateChange(ChannelEvent, frozen=True, kw_only=True):
    """``channel.state`` changed."""


SHUTDOWN = 4
"""``AST_SOFTHANGUP_SHUTDOWN``."""


class ChannelHangupRequest(ChannelEvent, frozen=True, kw_only=True):
    """A hangup of the channel was requested."""

    cause: int = 0
    """Asterisk's ``AST_SOFTHANGUP_*`` if it is soft, else a Q.850 cause."""
    soft: bool = False

    @property
    def is_shutdown(self) -> bool:
        """Whether Asterisk ends every channel because it stops."""
        return self.soft and self.cause == SHUTDOWN


class ChannelDialplan(ChannelEvent, frozen=True, kw_only=True):
    """A channel executes another dialplan application."""

    dialplan_app: str = ""
    dialplan_app_data: str = ""


class ChannelVarset(Event, frozen=True, kw_only=True):
    """A variable was set; a global one if there is no channel."""

    variable: str = ""
    value: str = ""


class ChannelDtmfReceived(ChannelEvent, frozen=True, kw_only=True):
    """A DTMF digit ended."""

    digit: str = ""
    duration_ms: int = 0


class ChannelEnteredBridge(ChannelEvent, frozen=True, kw_only=True):
    """A channel joined a bridge; `Bridge.channels` holds all members."""

    bridge: Bridge


class ChannelLeftBridge(ChannelEvent, frozen=True, kw_only=True):
    """A channel left a bridge."""

    bridge: Bridge


class ChannelHold(ChannelEvent, frozen=True, kw_only=True):
    """A party put the call on hold."""

    musicclass: str = ""


class ChannelUnhold(ChannelEvent, frozen=True, kw_only=True):
    """A party resumed the call."""


class ChannelUserevent(Event, frozen=True, kw_only=True):
    """A UserEvent() of the dialplan, or one of ARI."""

    eventname: str = ""
    userevent: Any = None


class Dial(Event, frozen=True, kw_only=True):
    """A channel is dialed. ``dialstatus`` is empty at first, then RINGING, ANSWER, BUSY..."""

    peer: Channel
    caller: Channel | None = None
    dialstatus: str = ""
    dialstring: str = ""
    forward: str = ""
    forwarded: Channel | None = None


class BridgeDestroyed(BridgeEvent, frozen=True, kw_only=True):
    """A bridge was destroyed."""


class BridgeMerged(BridgeEvent, frozen=True, kw_only=True):
    """All channels of ``bridge_from`` moved to ``bridge``."""

    bridge_from: Bridge


class BridgeBlindTransfer(Event, frozen=True, kw_only=True):
    """A party transferred the others of its bridge without consultation; ``channel`` is its channel."""

    result: str = ""
    """``Success``, ``Fail``, ``Invalid`` or ``Not Permitted``."""
    replace_channel: Channel | None = None
    """The Local channel that takes its place; None if another channel moved instead."""


class RecordingStarted(Event, frozen=True, kw_only=True):
    """A recording began."""

    recording: LiveRecording


class RecordingFinished(Event, frozen=True, kw_only=True):
    """A recording ended; its file is complete."""

    recording: LiveRecording


class RecordingFailed(Event, frozen=True, kw_only=True):
    """A recording failed: see ``recording.cause``."""

    recording: LiveRecording


class ApplicationReplaced(Event, frozen=True, kw_only=True):
    """Another events connection took the Stasis application and receives its events."""


_ABSTRACT = (Event, ChannelEvent, BridgeEvent)


def _event_types(base: type[Event]) -> dict[str, type[Event]]:
    found: dict[str, type[Event]] = {} if base in _ABSTRACT else {base.__name__: base}
    for derived in base.__subclasses__():
        found |= _event_types(derived)
    return found


class _Head(Value, frozen=True, kw_only=True):
    type: str


EVENT_TYPES: dict[str, type[Event]] = _event_types(Event)
"""Event classes by Asterisk's names."""

_HEAD = msgspec.json.Decoder(_Head)


@cache
def _decoder_of(kind: type[Event]) -> msgspec.json.Decoder[Event]:
    return msgspec.json.Decoder(kind)


def decode_event(data: bytes | str) -> Event:
    """Decode one message of the events WebSocket.

    The type is read first (skipping the rest costs about a microsecond) because msgspec's tagged unions reject unknown
    types.

    Args:
        data: the JSON text of the message.

    Raises:
        msgspec.DecodeError: not JSON, without a type, or an event without one of its mandatory fields.
    """
    return _decoder_of(EVENT_TYPES.get(_HEAD.decode(data).type, Event)).decode(data)


def channel_of(event: Event) -> Channel | None:
    """Return the channel that an event is about; for Dial the dialed channel, not the caller's."""
    return event.peer if isinstance(event, Dial) else event.channel


def subject_ids(event: Event) -> tuple[str, ...]:
    """Return the ids of the channel and the bridge, and the name of the recording, that an event is about."""
    ids: list[str] = []
    channel = channel_of(event)
    if channel is not None:
        ids.append(channel.id)
    if event.bridge is not None:
        ids.append(event.bridge.id)
    if isinstance(event, RecordingStarted | RecordingFinished | RecordingFailed):
        ids.append(event.recording.name)
    return tuple(ids)
