"""What the API needs of each part of the rest of the bridge; `bridge.api.backend` holds them together."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from typing import Any, Literal, Protocol

from aiohttp import web

from bridge.access import Principal
from bridge.audio.sound import Sound
from bridge.calls.addresses import Address
from bridge.calls.model import Call, Party
from bridge.calls.records import CallRecord
from bridge.conferences.conferences import Conference
from bridge.control.outbound_calls import Groupcall, OriginatedCalls, OriginateRequest
from bridge.control.recording import Recording
from bridge.flows.program import Program
from bridge.speech.engine import Utterance
from bridge.streams.media_stream_endpoint import MediaStreamOptions
from bridge.streams.subscription import Subscription


class CallSource(Protocol):
    """The calls that go on now (`bridge.calls.tracker.CallTracker`)."""

    @property
    def calls(self) -> Mapping[str, Call]:
        """Calls by id."""

    def find(self, identity: str, /) -> tuple[Call, Party] | None:
        """A call with its caller by the call's id, or with one party by that channel's id."""


class AcceptStream(Protocol):
    """Turns a request that was found good into a stream (`bridge.streams.media_stream_endpoint`)."""

    async def __call__(
        self, request: web.Request, call: Call, party: Party, options: MediaStreamOptions, principal: Principal, /
    ) -> web.StreamResponse:
        """Upgrade and start.

        Returns:
            A response for aiohttp's sake; not sent when the connection was taken over.

        Raises:
            Overloaded: before the upgrade; answered with 503.
            AriError: before the upgrade; answered with 404 or 503.
        """


class SubscriptionSource(Protocol):
    """The subscriptions (`bridge.streams.catalogue.Catalogue`); what changes them says there what it raises."""

    def list(self) -> Collection[Subscription]:
        """All, by id."""

    def get(self, identity: str, /) -> Subscription:
        """One of them; KeyError if there is none with this id."""

    async def change(self, identity: str, make: Callable[[Subscription | None], Subscription], /) -> Subscription:
        """Replace one by what ``make`` makes of it (of None if there is none yet)."""

    async def delete(self, identity: str, /) -> None:
        """Remove one."""

    async def set_enabled(self, identity: str, enabled: bool, /) -> Subscription:
        """Switch one on or off."""


class CallControl(Protocol):
    """Actions on calls. A channel that is gone is no error for either."""

    async def hangup(self, channel_id: str, /) -> None:
        """End a channel.

        Raises:
            AriError: Asterisk did not do it.
        """

    async def redirect(self, channel_id: str, context: str, extension: str, /) -> None:
        """Send a channel on in the dialplan, wherever it is now.

        Raises:
            AriError: Asterisk did not do it; 404 if it has no such extension or channel.
        """


class RecordSource(Protocol):
    """What is told of each call, also after its end (`bridge.calls.records.Records`)."""

    def get(self, call_id: str, /) -> CallRecord | None:
        """One call, by its id or, while it goes on, by a channel's."""

    def live(self) -> Collection[CallRecord]:
        """Calls that go on, those included whose channel is not there yet."""

    def ended(self) -> Collection[CallRecord]:
        """Calls that have ended lately."""

    def forget(self, call_id: str, /) -> bool:
        """Forget a call that has ended; False: there is none."""


Direction = Literal["in", "out", "both"]


class CallActs(Protocol):
    """What can be done with a call (`bridge.control.call_control.CallControl`), by call or channel id.

    All of them raise KeyError: no such call goes on; NotOurs: this needs a call that we control; LegGone: it has just
    ended; AriError: Asterisk did not do it.
    """

    async def hangup(self, call_id: str, /) -> None:
        """End it; returns when it has ended."""

    async def hold(self, call_id: str, /) -> None:
        """Put it on hold."""

    async def unhold(self, call_id: str, /) -> None:
        """The opposite."""

    async def mute(self, call_id: str, direction: Direction, /) -> None:
        """What the party says (in) or hears (out) is silenced."""

    async def unmute(self, call_id: str, direction: Direction, /) -> None:
        """The opposite."""

    async def silence(self, call_id: str, on: bool, /) -> None:
        """The party hears silence."""

    async def moh(self, call_id: str, on: bool, /) -> None:
        """The party hears music."""

    async def send_digits(
        self, call_id: str, digits: str, /, *, duration_ms: int | None = None, between_ms: int | None = None
    ) -> None:
        """Press keys; returns when they have sounded."""

    async def play(self, call_id: str, pcm: bytes, rate: int, /, *, direction: Direction = "out") -> None:
        """Play s16le mono; returns when it has been played."""

    async def transfer(self, call_id: str, destination: Address, /, *, token: str = "") -> str:
        """Send it to another destination; the id of the call that is placed there. ValueError: cannot be dialled."""

    async def recording_start(
        self,
        call_id: str,
        /,
        *,
        principal: Principal,
        format: str = "wav",
        max_silence_s: int = 0,
        max_duration_s: int = 0,
        terminate_on: str = "",
        beep: bool = False,
    ) -> Recording:
        """Begin to record; returns when it records."""

    async def recording_stop(self, call_id: str, /) -> Recording:
        """End the recording that began last; KeyError also if none runs."""


class OutboundCallSource(Protocol):
    """Originates calls (`bridge.control.outbound_calls.OutboundCalls`)."""

    async def originate(self, request: OriginateRequest, /) -> OriginatedCalls:
        """Originate calls that are held in a mixing bridge when they are answered."""

    def group(self, group_id: str, /) -> Groupcall | None:
        """Return a group of calls of which only one is wanted."""


class FlowSource(Protocol):
    """Flows that run (`bridge.flows.manager.FlowManager`); what it raises is said there."""

    async def originate(
        self, request: OriginateRequest, program: Program | None = None, variables: Mapping[str, str] | None = None, /
    ) -> OriginatedCalls:
        """Originate calls that run a flow."""

    async def dial_connect(
        self,
        number: str,
        /,
        *,
        principal: Principal,
        caller_id: str = "",
        session_data: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
        max_call_s: float | None = None,
    ) -> CallRecord:
        """Originate a call as Voxology's clients do."""


class SpeechSource(Protocol):
    """Makes text a sound (`bridge.speech.engine.Speech`)."""

    async def say(self, utterance: Utterance, /) -> Sound:
        """SpeechFailed: says why not."""


class SoundSource(Protocol):
    """Fetches sounds (`bridge.speech.fetch.SoundFetcher`)."""

    async def get(self, url: str, /) -> Sound:
        """SoundUnavailable: says why not."""


class RecordingSource(Protocol):
    """Recordings (`bridge.control.recording.Recordings`); KeyError: there is none with this id."""

    def list(self) -> Collection[Recording]:
        """Those that run, and those that ended lately."""

    def get(self, recording_id: str, /) -> Recording:
        """One of them."""

    def read(self, recording_id: str, /) -> AsyncGenerator[bytes, None]:
        """The file. AriError 404: Asterisk has none."""

    async def delete(self, recording_id: str, /) -> None:
        """Remove it and its file; one that runs is stopped first. AriError."""


class SensitiveMode(Protocol):
    """Sensitive mode of calls (`bridge.control.sensitive.Sensitive`). KeyError: the call does not exist. AriError."""

    async def start(self, call_id: str, timeout_s: float, /) -> None:
        """Begin it, or begin its timeout again."""

    async def stop(self, call_id: str, /) -> None:
        """End it; a call without it is fine."""


class ConferenceSource(Protocol):
    """Conferences (`bridge.conferences.conferences.Conferences`); what it raises is said there."""

    def get(self, conference_id: str, /) -> Conference | None:
        """One; None if there is none."""

    def list(self) -> Collection[Conference]:
        """All."""

    async def create(self, name: str = "", id: str | None = None, *, auto_delete: bool = False) -> Conference:
        """Make one of ours. ValueError, ConferenceExists, AriError."""

    async def delete(self, conference_id: str, /) -> None:
        """End one. NoSuchConference, AriError."""

    async def kick(self, conference_id: str, channel_id: str, /) -> None:
        """Let a participant go. NoSuchConference, AriError."""

    async def mute(self, conference_id: str, channel_id: str, /) -> None:
        """Not be heard. NoSuchConference, NotOurs, AriError."""

    async def unmute(self, conference_id: str, channel_id: str, /) -> None:
        """Be heard again. NoSuchConference, NotOurs, AriError."""


class AcceptConferenceStream(Protocol):
    """Turns a good request into a stream of a conference; as `AcceptStream`."""

    async def __call__(
        self, request: web.Request, conference_id: str, options: MediaStreamOptions, principal: Principal, /
    ) -> web.StreamResponse:
        """NoSuchConference, NotOurs, Overloaded, AriError: before the upgrade."""


class ClusterSource(Protocol):
    """All bridges and their calls (`bridge.cluster.Cluster`). All that asks raises StoreAway: nobody knows."""

    async def nodes(self) -> list[dict[str, Any]]:
        """The bridges that are there."""

    async def calls(self, pbx: str = "", node: str = "") -> list[dict[str, Any]]:
        """Their calls."""

    async def find(self, identity: str, /) -> list[dict[str, Any]]:
        """Those with an id."""

    @property
    def gauges(self) -> Mapping[str, float]:
        """For metrics: what is true now, by name without the prefix."""

    @property
    def totals(self) -> Mapping[str, float]:
        """Likewise, what has been counted since the start."""
