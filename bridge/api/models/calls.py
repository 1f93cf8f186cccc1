"""Calls: how they are placed, listed and shown."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from bridge.api.models.base import Body, Shown, Switch, Time, maybe
from bridge.api.models.common import Address, Destination, Page, Paging, ShownAddress
from bridge.calls.call_record import CallDirection, HangupBy, HangupReason, MuteDirection, Status
from bridge.control.outbound_calls import AnswerMethod, RingMethod
from bridge.control.sensitive import DEFAULT_TIMEOUT_S, MAX_TIMEOUT_S

MAX_DESTINATIONS = 100
MAX_ACTIONS = 1000
NO_ID = "00000000-0000-0000-0000-000000000000"
"""How VoIPBIN's clients write that there is no id."""

MAX_VARIABLES = 100


def _few(variables: Any) -> Any:
    # pydantic counts them when it has made an error of each wrong one.
    if isinstance(variables, dict) and len(variables) > MAX_VARIABLES:
        raise ValueError(f"expected at most {MAX_VARIABLES} entries, got {len(variables)}")
    return variables


Variables = Annotated[
    dict[str, Annotated[str, Field(max_length=32 * 1024)]], Field(max_length=MAX_VARIABLES), BeforeValidator(_few)
]
Actions = Annotated[list[dict[str, Any]], Field(max_length=MAX_ACTIONS)]


class PlaceCalls(Body):
    """Whom to call, and what happens to who answers."""

    source: Address | None = None
    """Who calls: what the called phone shows. Left out: `calling.caller_id`."""
    destinations: Annotated[list[Destination], Field(min_length=1, max_length=MAX_DESTINATIONS)]
    """Whom to call; each is a call of its own."""
    flow_id: Annotated[str, Field(max_length=255)] = ""
    """The configured flow that an answered call runs; it wins over `actions`."""
    actions: Actions | None = None
    """The flow itself: a list of actions, in VoIPBIN's or Voxology's spelling. Neither: the call is just held."""
    anonymous: Literal["yes", "no", "auto"] = "auto"
    """Whether the caller's number is withheld; `auto`: no."""
    variables: Variables = Field(default_factory=dict)
    """Texts for the flow, used as `${name}`; 64 KiB in all. Names that begin with `voipbin.` are ignored."""
    answer_method: AnswerMethod = "none"
    """`none`: each that answers runs the flow; `hangup_others`: only the first, and the others end."""
    ring_method: RingMethod = "ring_all"
    """`ring_all`: all at once; `linear`: the next one when one has not answered."""
    timeout: Annotated[int, Field(ge=1, le=3600)] | None = None
    """For how many seconds each may ring; left out: `calling.ring_timeout_s`."""

    @property
    def flow(self) -> str:
        """The id of the flow, if one is named."""
        return "" if self.flow_id == NO_ID else self.flow_id


class ListCalls(Paging):
    """Which calls."""

    ended: Switch = False
    """Also those that have ended lately."""


class CurrentAction(Shown):
    """What a call's flow does now."""

    id: str
    type: str
    """For example `talk`."""
    index: int
    """Its place in the list, from 0."""


class Party(Shown):
    """One channel of a call."""

    id: str
    """The channel's id."""
    name: str
    """The channel's name, for example `PJSIP/1001-0000002a`."""
    endpoint: str
    state: str
    """Asterisk's word: `Down`, `Ring`, `Ringing`, `Up`..."""
    caller_number: str
    caller_name: str
    connected_number: str
    context: str
    """Where it is in the dialplan."""
    exten: str
    app_name: str
    """The dialplan application that it is in."""
    in_stasis: bool
    """Whether an ARI application has it."""
    tm_create: str
    """When the channel was made; empty if Asterisk did not say."""


class Call(Shown):
    """A call. What is not known is left out."""

    id: str
    """Asterisk's linked id."""
    type: str = maybe()
    """VoIPBIN's word: `flow`."""
    status: Status
    """How far it is."""
    direction: CallDirection = maybe()
    source: ShownAddress = maybe()
    """Who calls."""
    destination: ShownAddress = maybe()
    """Who is called."""
    groupcall_id: str = maybe()
    """The group that it was placed in."""
    flow_id: str = maybe()
    """The configured flow that it runs or has run."""
    master_call_id: str = maybe()
    """The call for which this one was placed, by a flow or a transfer."""
    action: CurrentAction = maybe()
    """What its flow does now."""
    variables: dict[str, str] = maybe()
    """What its request has brought and its flow has set, without digits and what is set in sensitive mode."""
    mute_direction: MuteDirection = maybe()
    """`in`: what it says is not heard; `out`: it hears nothing; `both`."""
    on_hold: bool = maybe()
    recording_id: str = maybe()
    """The recording that runs now."""
    recording_ids: list[str] = maybe()
    sensitive: bool = maybe()
    """Whether it is in sensitive mode: recordings pause, streams carry silence, and digits are not reported."""
    hangup_by: HangupBy = maybe()
    """Who ended it: `local` is the bridge or a phone of this PBX, `remote` the other end."""
    hangup_reason: HangupReason = maybe()
    """Why it ended."""
    hangup_detail: str = maybe()
    """Why, in words, where the reason alone does not say it: `not registered: 1004`, `answered elsewhere`."""
    sip_code: int = maybe()
    """The SIP response with which the called phone or trunk has rejected it."""
    forwarded_to: str = maybe()
    """Where the called phone has forwarded it to: a number, or a SIP URI."""
    tm_create: str
    """When it began; empty if Asterisk did not say."""
    tm_ringing: Time = maybe()
    tm_progressing: Time = maybe()
    """When it was answered."""
    tm_hangup: Time = maybe()
    tm_update: Time = maybe()
    parties: list[Party]
    """Its channels now; none when it has ended."""
    streams: int
    """How many streams are open on it."""


class Calls(Page):
    """Calls, newest first."""

    result: list[Call]


class Groupcall(Shown):
    """Calls that were placed together, of which the first that answers wins."""

    id: str
    call_ids: list[str]
    answer_call_id: str
    """The one that won; empty before."""
    answer_method: AnswerMethod
    ring_method: RingMethod
    source: ShownAddress = maybe()
    destinations: list[ShownAddress]


class PlacedCalls(Shown):
    """The calls that are on their way."""

    calls: list[Call]
    groupcalls: list[Groupcall]


class Mute(Body):
    """Which direction."""

    direction: Literal["in", "out", "both"] = "both"
    """`in`: what the party says is not heard; `out`: it hears nothing."""


class Talk(Body):
    """What to say to the party. Other vendors' voices are names like any other: the speech engine decides."""

    text: Annotated[str, Field(min_length=1, max_length=32 * 1024)]
    """Plain text."""
    language: Annotated[str, Field(max_length=64)] = ""
    """For example `en-US`; empty: `speech.default_language`."""
    provider: Annotated[str, Field(max_length=64)] = ""
    """Taken for VoIPBIN's clients; there is one engine."""
    voice_id: Annotated[str, Field(max_length=128)] = ""
    """The engine's name of a voice; empty: `speech.default_voice`."""
    direction: Literal["in", "out", "both"] = "out"
    """Who hears it: `out` the party, `in` those it speaks with, `both` all."""


class Play(Body):
    """What to play to the party."""

    stream_urls: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=2048)]], Field(min_length=1, max_length=20)
    ]
    """`http://` or `https://` addresses of sounds, or names of files in `speech.sounds_dir`; one after the other."""
    direction: Literal["in", "out", "both"] = "out"
    """Who hears it: `out` the party, `in` those it speaks with, `both` all."""


class Dtmf(Body):
    """Which keys to press."""

    digits: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[0-9A-Da-d*#]+$")]
    """`0` to `9`, `*`, `#`, `A` to `D`."""
    duration: Annotated[int, Field(ge=50, le=1000)] | None = None
    """How many milliseconds each sounds."""
    interval: Annotated[int, Field(ge=0, le=5000)] | None = None
    """How many milliseconds lie between two."""


class Sensitive(Body):
    """For how long."""

    timeout_s: Annotated[int, Field(ge=1, le=MAX_TIMEOUT_S)] = DEFAULT_TIMEOUT_S
    """Seconds after which it ends by itself."""


class Transfer(Body):
    """Where the call goes."""

    destination: Destination


class RecordingStart(Body):
    """How to record: by default the whole call as the party in the path has it, what it says and what it hears."""

    direction: Literal["in", "out", "both"] = "both"
    """`in`: what the party says; `out`: what it hears; `both`, mixed. For a file of each party, record `in` of each
    party's id."""
    format: Literal["wav", "wav16"] = "wav"
    """16-bit PCM at 8 kHz, or at 16."""
    end_of_silence: Annotated[int, Field(ge=0, le=3600)] = 0
    """Ends after so many seconds of silence; 0: never."""
    end_of_key: Literal["", "any", "none", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "*", "#"] = ""
    """The key that ends it."""
    duration: Annotated[int, Field(ge=0, le=86_400)] = 0
    """Ends after so many seconds; 0: with the call."""
    beep_start: bool = False
    """Whether a beep tells that it begins."""
    on_end_flow_id: Literal["", "00000000-0000-0000-0000-000000000000"] = ""
    """Taken for VoIPBIN's clients, where it says that no flow follows."""
