"""What ARI says: resources and events as typed values.

Source of the format: ``rest-api/api-docs/*.json`` of Asterisk 22.10. Every struct ignores fields that it does not know,
and every field that Asterisk leaves out in some versions has a default. Times stay the strings that Asterisk wrote
(``2026-01-31T12:00:00.123+0000``): nothing here needs to calculate with them.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """Base of everything decoded from ARI: immutable, tolerant of unknown fields."""


class Caller(Value, frozen=True, kw_only=True):
    """A name and a number: who a channel is, or to whom it is connected."""

    name: str = ""
    number: str = ""


class Dialplan(Value, frozen=True, kw_only=True):
    """Where a channel is in the dialplan, and which application it runs."""

    context: str = ""
    exten: str = ""
    priority: int = 0
    app_name: str = ""
    app_data: str = ""

    @property
    def behind(self) -> tuple[str, str, int]:
        """Where the dialplan continues behind the present application: context, extension, priority."""
        return self.context, self.exten, self.priority + 1


_NOBODY = Caller()
_NOWHERE = Dialplan()


PRESENTATION = "CALLERID(pres)"


def is_withheld(presentation: str | None) -> bool:
    """Whether a caller does not want their number shown (``prohib``, ``prohib_passed_screen``...)."""
    return presentation is not None and presentation.startswith("prohib")


class Channel(Value, frozen=True, kw_only=True):
    """A channel as Asterisk saw it at one moment."""

    id: str
    name: str = ""
    state: str = ""
    """``Down``, ``Ring`` (it calls us), ``Ringing`` (we call it), ``Up`` and a few rare ones."""
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
        """Who may see the caller ID, in Asterisk's words; None if ``channelvars`` lack ``CALLERID(pres)``."""
        return self.channelvars.get(PRESENTATION)

    @property
    def shown_caller(self) -> Caller:
        """The caller, or nobody if it is known that they do not want to be shown."""
        return _NOBODY if is_withheld(self.presentation) else self.caller

    @property
    def linkedid(self) -> str | None:
        """The call's id, if ari.conf has ``CHANNEL(linkedid)`` among its ``channelvars``."""
        return self.channelvars.get("CHANNEL(linkedid)") or None


class Bridge(Value, frozen=True, kw_only=True):
    """A bridge as Asterisk saw it at one moment: what mixes channels."""

    id: str
    technology: str = ""
    bridge_type: str = ""
    bridge_class: str = ""
    """``stasis``: made by ARI; ``basic``: made by Dial(), Queue()...; ``base``: ConfBridge and the like."""
    creator: str = ""
    name: str = ""
    channels: list[str] = []
    creationtime: str = ""


class LiveRecording(Value, frozen=True, kw_only=True):
    """A recording that is being made, or has just ended."""

    name: str
    format: str = ""
    target_uri: str = ""
    state: str = ""
    duration: int | None = None
    """Seconds, whole ones; told when it has ended."""
    talking_duration: int | None = None
    silence_duration: int | None = None
    cause: str = ""
    """Why it failed."""


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
    """What ``GET /channels/{id}/rtp_statistics`` returns: packets that Asterisk has sent and received."""

    txcount: int = 0
    rxcount: int = 0


class StatusInfo(Value, frozen=True, kw_only=True):
    """Part of ``GET /asterisk/info``."""

    startup_time: str = ""


class AsteriskInfo(Value, frozen=True, kw_only=True):
    """What ``GET /asterisk/info`` tells."""

    system: SystemInfo = SystemInfo()
    status: StatusInfo = StatusInfo()


class Ping(Value, frozen=True, kw_only=True):
    """Answer of ``GET /asterisk/ping``. ``timestamp`` is the PBX's own clock."""

    ping: str = ""
    timestamp: str = ""
    asterisk_id: str = ""


class Event(Value, frozen=True, kw_only=True):
    """Any event. One whose type is not described below arrives as a plain ``Event``."""

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
    """A channel entered our application; only from now on may it be bridged or played to."""

    args: list[str] = []
    replace_channel: Channel | None = None
    """The channel whose place it took, in a transfer or a pickup."""


class StasisEnd(ChannelEvent, frozen=True, kw_only=True):
    """A channel left our application: hung up, or gone back to the dialplan."""


class ChannelCreated(ChannelEvent, frozen=True, kw_only=True):
    """A channel came to be. Its dialplan position is the first one: the DID of an incoming trunk call."""


class ChannelDestroyed(ChannelEvent, frozen=True, kw_only=True):
    """A channel is gone."""

    cause: int = 0
    cause_txt: str = ""
    tech_cause: int = 0
    """SIP's status code, on PJSIP channels."""


class ChannelStateChange(ChannelEvent, frozen=True, kw_only=True):
    """``channel.state`` changed."""


class ChannelHangupRequest(ChannelEvent, frozen=True, kw_only=True):
    """Somebody asked to hang the channel up."""

    cause: int = 0
    soft: bool = False


class ChannelDialplan(ChannelEvent, frozen=True, kw_only=True):
    """A channel went on to another dialplan application."""

    dialplan_app: str = ""
    dialplan_app_data: str = ""


class ChannelVarset(Event, frozen=True, kw_only=True):
    """A variable was set; global when there is no channel."""

    variable: str = ""
    value: str = ""


class ChannelDtmfReceived(ChannelEvent, frozen=True, kw_only=True):
    """A key was released."""

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
    """A party took the call back."""


class ChannelUserevent(Event, frozen=True, kw_only=True):
    """The dialplan's UserEvent(), or ARI's."""

    eventname: str = ""
    userevent: Any = None


class Dial(Event, frozen=True, kw_only=True):
    """A leg is being dialled. ``dialstatus`` is empty at the start, then RINGING, ANSWER, BUSY..."""

    peer: Channel
    caller: Channel | None = None
    dialstatus: str = ""
    dialstring: str = ""
    forward: str = ""
    forwarded: Channel | None = None


class BridgeDestroyed(BridgeEvent, frozen=True, kw_only=True):
    """A bridge is gone."""


class BridgeMerged(BridgeEvent, frozen=True, kw_only=True):
    """All channels of ``bridge_from`` moved to ``bridge``."""

    bridge_from: Bridge


class RecordingStarted(Event, frozen=True, kw_only=True):
    """A recording is being made."""

    recording: LiveRecording


class RecordingFinished(Event, frozen=True, kw_only=True):
    """A recording has ended; its file is whole."""

    recording: LiveRecording


class RecordingFailed(Event, frozen=True, kw_only=True):
    """A recording has come to nothing: see ``recording.cause``."""

    recording: LiveRecording


class ApplicationReplaced(Event, frozen=True, kw_only=True):
    """Another events connection took our application: it gets the events now."""


_ABSTRACT = (Event, ChannelEvent, BridgeEvent)


def _event_types(base: type[Event]) -> dict[str, type[Event]]:
    found: dict[str, type[Event]] = {} if base in _ABSTRACT else {base.__name__: base}
    for derived in base.__subclasses__():
        found |= _event_types(derived)
    return found


class _Head(Value, frozen=True, kw_only=True):
    type: str


EVENT_TYPES: dict[str, type[Event]] = _event_types(Event)
"""Described events by the name that Asterisk gives them."""

_HEAD = msgspec.json.Decoder(_Head)
_PLAIN = msgspec.json.Decoder(Event)
_DECODERS = {name: msgspec.json.Decoder(kind) for name, kind in EVENT_TYPES.items()}


def decode_event(data: bytes | str) -> Event:
    """One event from the text of one message of the events WebSocket.

    The type is read first (skipping the rest costs about a microsecond) because a tagged union of msgspec would refuse
    the types that it does not know.

    Raises:
        msgspec.DecodeError: not JSON, no type, or a described event without what it always has.
    """
    return _DECODERS.get(_HEAD.decode(data).type, _PLAIN).decode(data)


def channel_of(event: Event) -> Channel | None:
    """The channel that an event is about; of a dialled leg that leg, not who dials it."""
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
