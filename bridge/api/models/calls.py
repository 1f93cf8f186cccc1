"""Calls: models to create, list and show them."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from bridge.api.models.base import Body, Shown, Switch, Time, maybe
from bridge.api.models.common import Address, Destination, Page, Paging, ShownAddress
from bridge.calls.call_record import CallDirection, HangupBy, HangupReason, MuteDirection, Status, ToolOutcome
from bridge.control.outbound_calls import AnswerMethod, RingMethod
from bridge.control.sensitive import DEFAULT_TIMEOUT_S, MAX_TIMEOUT_S

MAX_DESTINATIONS = 100
MAX_ACTIONS = 1000
NO_ID = "00000000-0000-0000-0000-000000000000"
"""How VoIPBIN's clients write an absent id."""

MAX_VARIABLES = 100


def _few(variables: Any) -> Any:
    # pydantic counts them only after it has created an error for each wrong one.
    if isinstance(variables, dict) and len(variables) > MAX_VARIABLES:
        raise ValueError(f"expected at most {MAX_VARIABLES} entries, got {len(variables)}")
    return variables


Variables = Annotated[
    dict[str, Annotated[str, Field(max_length=32 * 1024)]], Field(max_length=MAX_VARIABLES), BeforeValidator(_few)
]
Actions = Annotated[list[dict[str, Any]], Field(max_length=MAX_ACTIONS)]


class CreateCalls(Body):
    """The destinations to call, and the actions after they answer."""

    source: Address | None = None
    """The caller ID that the called phone shows; omitted: `calling.caller_id`."""
    destinations: Annotated[list[Destination], Field(min_length=1, max_length=MAX_DESTINATIONS)]
    """The destinations; each is a call of its own."""
    flow_id: Annotated[str, Field(max_length=255)] = ""
    """The configured flow that an answered call runs; takes precedence over `actions`."""
    actions: Actions | None = None
    """The flow itself: a list of actions in VoIPBIN's or Voxology's syntax. Without a flow the call stays connected."""
    anonymous: Literal["yes", "no", "auto"] = "auto"
    """Whether the caller's number is withheld; `auto`: not withheld."""
    variables: Variables = Field(default_factory=dict)
    """Strings for the flow, used as `${name}`; 64 KiB in total. Names that begin with `voipbin.` are ignored."""
    answer_method: AnswerMethod = "none"
    """`none`: each answered call runs the flow; `hangup_others`: only the first, and the others are hung up."""
    ring_method: RingMethod = "ring_all"
    """`ring_all`: all simultaneously; `linear`: the next when the previous has not answered."""
    timeout: Annotated[int, Field(ge=1, le=3600)] | None = None
    """Seconds that each may ring; omitted: `calling.ring_timeout_s`."""

    @property
    def flow(self) -> str:
        """Return the id of the flow; empty if none is named."""
        return "" if self.flow_id == NO_ID else self.flow_id


class ListCalls(Paging):
    """A filter for the list of calls."""

    ended: Switch = False
    """Also calls that have ended recently."""


class CurrentAction(Shown):
    """The action that a call's flow executes."""

    id: str
    type: str
    """For example `talk`."""
    index: int
    """Its index in the list, from 0."""


class Party(Shown):
    """One channel of a call."""

    id: str
    """The channel's id."""
    name: str
    """The channel's name, for example `PJSIP/1001-0000002a`."""
    endpoint: str
    state: str
    """Asterisk's channel state: `Down`, `Ring`, `Ringing`, `Up`..."""
    caller_number: str
    caller_name: str
    connected_number: str
    context: str
    """Its context in the dialplan."""
    exten: str
    app_name: str
    """The dialplan application that it executes."""
    in_stasis: bool
    """Whether it is in an ARI application."""
    tm_create: str
    """When the channel was created; empty if Asterisk did not report it."""


class UsedTool(Shown):
    """A tool that the model on a call has used."""

    name: str
    outcome: ToolOutcome
    seconds: float
    """How long it took."""


class Call(Shown):
    """A call. Unknown values are omitted."""

    id: str
    """Asterisk's linkedid."""
    type: str = maybe()
    """VoIPBIN's type of call: `flow`."""
    status: Status
    """Its state."""
    direction: CallDirection = maybe()
    source: ShownAddress = maybe()
    """The caller."""
    destination: ShownAddress = maybe()
    """The called party."""
    groupcall_id: str = maybe()
    """The group that it was created in."""
    flow_id: str = maybe()
    """The configured flow that it runs or ran."""
    master_call_id: str = maybe()
    """The call on whose behalf a flow or a transfer created this one."""
    action: CurrentAction = maybe()
    """The action that its flow executes."""
    variables: dict[str, str] = maybe()
    """Set by its request and its flow, without digits and what was set in sensitive mode."""
    mute_direction: MuteDirection = maybe()
    """`in`: audio from the party is muted; `out`: audio to the party is muted; `both`."""
    on_hold: bool = maybe()
    recording_id: str = maybe()
    """The active recording."""
    recording_ids: list[str] = maybe()
    sensitive: bool = maybe()
    """Whether it is in sensitive mode: recordings pause, streams carry silence, and digits are not reported."""
    hangup_by: HangupBy = maybe()
    """The side that ended it: `local` is asterisk-bridge or a phone of this PBX, `remote` the other side."""
    hangup_reason: HangupReason = maybe()
    """Why it ended."""
    hangup_detail: str = maybe()
    """Details that the reason lacks: `not registered: 1004`, `answered elsewhere`."""
    sip_code: int = maybe()
    """The SIP response code with which the called phone or trunk rejected it."""
    forwarded_to: str = maybe()
    """The target to which the called phone forwarded it: a number, or a SIP URI."""
    tools: list[UsedTool] = maybe()
    """Tools that the model on this call has used, the latest 50."""
    tm_create: str
    """When it began; empty if Asterisk did not report it."""
    tm_ringing: Time = maybe()
    tm_progressing: Time = maybe()
    """When it was answered."""
    tm_hangup: Time = maybe()
    tm_update: Time = maybe()
    parties: list[Party]
    """Its current channels; empty when it has ended."""
    streams: int
    """How many open streams it has."""


class Calls(Page):
    """Calls, newest first."""

    result: list[Call]


class Groupcall(Shown):
    """Calls that were created together, of which the first one to answer is kept."""

    id: str
    call_ids: list[str]
    answer_call_id: str
    """The one that answered; empty until then."""
    answer_method: AnswerMethod
    ring_method: RingMethod
    source: ShownAddress = maybe()
    destinations: list[ShownAddress]


class CreatedCalls(Shown):
    """The calls that are being dialed."""

    calls: list[Call]
    groupcalls: list[Groupcall]


class Mute(Body):
    """The direction to mute."""

    direction: Literal["in", "out", "both"] = "both"
    """`in`: audio from the party; `out`: audio to the party."""


class Talk(Body):
    """Text to speak to the party. Voice names of other vendors are passed to the speech engine like any other."""

    text: Annotated[str, Field(min_length=1, max_length=32 * 1024)]
    """Plain text."""
    language: Annotated[str, Field(max_length=64)] = ""
    """For example `en-US`; empty: `speech.default_language`."""
    provider: Annotated[str, Field(max_length=64)] = ""
    """Accepted for VoIPBIN's clients; there is one engine."""
    voice_id: Annotated[str, Field(max_length=128)] = ""
    """The engine's name of a voice; empty: `speech.default_voice`."""
    direction: Literal["in", "out", "both"] = "out"
    """The receivers: `out` the party, `in` the other parties, `both` all."""


class Play(Body):
    """Sounds to play to the party."""

    stream_urls: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=2048)]], Field(min_length=1, max_length=20)
    ]
    """`http://` or `https://` addresses of sounds, or names of files in `speech.sounds_dir`, in the order of
    playback."""
    direction: Literal["in", "out", "both"] = "out"
    """The receivers: `out` the party, `in` the other parties, `both` all."""


class Dtmf(Body):
    """The DTMF digits to send."""

    digits: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[0-9A-Da-d*#]+$")]
    """`0` to `9`, `*`, `#`, `A` to `D`."""
    duration: Annotated[int, Field(ge=50, le=1000)] | None = None
    """Duration of each digit in milliseconds."""
    interval: Annotated[int, Field(ge=0, le=5000)] | None = None
    """Pause between two digits in milliseconds."""


class Sensitive(Body):
    """The duration of sensitive mode."""

    timeout_s: Annotated[int, Field(ge=1, le=MAX_TIMEOUT_S)] = DEFAULT_TIMEOUT_S
    """Seconds after which it ends automatically."""


class Transfer(Body):
    """The destination of a transfer."""

    destination: Destination


class RecordingStart(Body):
    """Options of a recording; by default both directions of the party in the path, mixed."""

    direction: Literal["in", "out", "both"] = "both"
    """`in`: audio from the party; `out`: audio to the party; `both`, mixed. For one file per party, record `in` for
    each party's id."""
    format: Literal["wav", "wav16"] = "wav"
    """16-bit PCM at 8 kHz (`wav`) or 16 kHz (`wav16`)."""
    end_of_silence: Annotated[int, Field(ge=0, le=3600)] = 0
    """Stops after this many seconds of silence; 0: never."""
    end_of_key: Literal["", "any", "none", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "*", "#"] = ""
    """The DTMF digit that stops it."""
    duration: Annotated[int, Field(ge=0, le=86_400)] = 0
    """Stops after this many seconds; 0: at the end of the call."""
    beep_start: bool = False
    """Whether a beep announces the recording."""
    on_end_flow_id: Literal["", "00000000-0000-0000-0000-000000000000"] = ""
    """Accepted for VoIPBIN's clients, which send it when no flow follows."""
