"""Voxology's actions: the parameters of each, and the actions that implement it.

Sources: the vendor's public service pages and the flows of its public tutorials; (inferred): not shown there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

from msgspec import Struct
from pydantic import AfterValidator, BeforeValidator, Field

from bridge.flows.actions.call import HangupOptions, Reason
from bridge.flows.actions.conference import NamedConferenceOptions
from bridge.flows.actions.data import RedirectOptions, SessionDataOptions
from bridge.flows.actions.dtmf import MAX_DIGITS, CollectOptions, PauseOptions, PauseParams
from bridge.flows.actions.recording import RecordingStartOptions, RecordMessageOptions, SecondsOption
from bridge.flows.actions.routing import ConnectOptions, DialOptions
from bridge.flows.actions.sound import (
    MAX_TEXT_CHARACTERS,
    Duration,
    NoOptions,
    PlayOptions,
    SwitchOption,
    TalkOptions,
    Times,
)
from bridge.flows.actions.streams import FlowStreamOptions
from bridge.flows.options import OR_VARIABLE, Options
from bridge.flows.variables import holds_variable

ActionOptions = Iterable[tuple[str, Options]]


class Form(Struct, frozen=True):
    """One of Voxology's actions.

    Args:
        name: its type.
        params: the model of ``params``.
        make: returns the implementing actions for checked parameters and the action's ``name``.
        beside: parameters that may also be siblings of ``params``.
        prompts: may have ``actions``, played first.
    """

    name: str
    params: type[Options]
    make: Callable[[Any, str], ActionOptions]
    beside: tuple[str, ...] = ()
    prompts: bool = False


def _switch(value: Any) -> Any:
    """Convert a boolean string: the vendor's flows contain ``"true"``."""
    return {"true": True, "false": False}.get(value.lower(), value) if isinstance(value, str) else value


TextSwitch = Annotated[SwitchOption, BeforeValidator(_switch)]
_KEYS = {"pound": "#", "star": "*", "any": "0123456789ABCD*#", "none": "", "": ""}


def _keys(value: str) -> str:
    if holds_variable(value):
        return value
    found = _KEYS.get(value.lower(), value)
    if not set(found) <= set(_KEYS["any"]):
        raise ValueError('expected "pound", "star", "any", "none" or DTMF digits')
    return found


FinishOnKey = Annotated[str, AfterValidator(_keys), Field(max_length=16, description='"pound", "star" or DTMF digits')]


class SayParams(Options):
    """Parameters of SAY."""

    text: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_TEXT_CHARACTERS,
            description=f"a string of 1 to {MAX_TEXT_CHARACTERS} characters",
        ),
    ]
    loop: Times = 1
    voice: Annotated[str, Field(max_length=100, description="a voice")] = ""  # (inferred)
    language: Annotated[str, Field(max_length=35, description="a language")] = ""  # (inferred)


def _say(params: SayParams, _: str) -> ActionOptions:
    options = {"text": params.text, "times": params.loop, "voice_id": params.voice, "language": params.language}
    yield "talk", TalkOptions.model_validate(options)


class PlayParams(Options):
    """Parameters of PLAY."""

    url: Annotated[str, Field(min_length=1, max_length=4096, description="an http(s) URL")]
    loop: Times = 1  # (inferred)


def _play(params: PlayParams, _: str) -> ActionOptions:
    yield "play", PlayOptions.model_validate({"stream_urls": [params.url], "times": params.loop})


def _pause(params: PauseParams, _: str) -> ActionOptions:
    yield "pause", PauseOptions.model_validate(params.model_dump(warnings=False))


class CollectParams(Options):
    """Parameters of COLLECT; the timeout restarts with each digit (inferred)."""

    num_digits: Annotated[
        int, Field(ge=0, le=MAX_DIGITS, description=f"a number of digits from 0 to {MAX_DIGITS}"), OR_VARIABLE
    ] = 0
    finish_on_key: FinishOnKey = ""
    timeout: Duration = 5000


def _collect(params: CollectParams, name: str) -> ActionOptions:
    options = {"duration": params.timeout, "key": params.finish_on_key, "length": params.num_digits, "name": name}
    yield "collect", CollectOptions.model_validate(options)


class ConferenceParams(Options):
    """Parameters of CONFERENCE: a conference by name, created if it does not exist."""

    name: Annotated[str, Field(min_length=1, max_length=100, description="the name of a conference")]
    event: Annotated[Literal["", "join"], Field(description='"join"')] = ""
    max_participants: Annotated[int, Field(ge=0, le=10_000, description="a number from 0 to 10000"), OR_VARIABLE] = 0
    end_on_exit: TextSwitch = False
    muted: TextSwitch = False  # (inferred)


def _conference(params: ConferenceParams, _: str) -> ActionOptions:
    yield "named_conference", NamedConferenceOptions.model_validate(params.model_dump(exclude={"event"}))


class RecordParams(Options):
    """Parameters of RECORD. With ``action``: recording in the background; without: the flow waits (inferred)."""

    action: Annotated[Literal["", "start", "stop"], Field(description='"start" or "stop"')] = ""
    format: Annotated[Literal["", "wav", "mp3", "ogg"], Field(description='"wav"')] = "wav"
    max_length: SecondsOption = 0
    timeout: SecondsOption = 0
    finish_on_key: Annotated[
        Literal["", "none", "any", "pound", "star", "#", "*"], Field(description='"pound", "star", "any" or "none"')
    ] = ""
    beep: TextSwitch = False


def _record(params: RecordParams, name: str) -> ActionOptions:
    if params.action == "stop":
        yield "recording_stop", NoOptions()
        return
    options = {
        "format": params.format,
        "end_of_silence": params.timeout,
        "end_of_key": {"pound": "#", "star": "*"}.get(params.finish_on_key, params.finish_on_key),
        "duration": params.max_length,
        "beep_start": params.beep,
    }
    if params.action == "start":
        yield "recording_start", RecordingStartOptions.model_validate(options)
    else:
        yield "record_message", RecordMessageOptions.model_validate({**options, "name": name})


class TransferParams(Options):
    """Parameters of TRANSFER: the number to connect with."""

    no: Annotated[str, Field(min_length=1, max_length=255, description="a number")]
    caller_id_no: Annotated[str, Field(max_length=255, description="a number")] = ""
    timeout: Annotated[int, Field(ge=0, le=600, description="seconds from 0 to 600"), OR_VARIABLE] = 0  # (inferred)


def _transfer(params: TransferParams, _: str) -> ActionOptions:
    options: dict[str, Any] = {"destinations": [{"type": "tel", "target": params.no}], "timeout": params.timeout}
    if params.caller_id_no:
        options["source"] = {"type": "tel", "target": params.caller_id_no}
    yield "connect", ConnectOptions.model_validate(options)


class HangupParams(Options):
    """Parameters of HANGUP, which the vendor shows without any; a reason is accepted (inferred)."""

    reason: Reason = ""


ACTIONS: dict[str, Form] = {
    form.name: form
    for form in (
        Form("SAY", SayParams, _say),
        Form("PLAY", PlayParams, _play),
        Form("PAUSE", PauseParams, _pause),
        Form("COLLECT", CollectParams, _collect, prompts=True),
        Form("CONFERENCE", ConferenceParams, _conference),
        Form("RECORD", RecordParams, _record),
        Form("STREAM", FlowStreamOptions, lambda params, _: [("stream", params)]),
        Form("REDIRECT", RedirectOptions, lambda params, _: [("redirect", params)]),
        Form("SESSIONDATA", SessionDataOptions, lambda params, _: [("session_data", params)], beside=("session_data",)),
        Form("TRANSFER", TransferParams, _transfer),
        Form("DIAL", DialOptions, lambda params, _: [("dial", params)], beside=("session_data",)),
        Form("HANGUP", HangupParams, lambda params, _: [("hangup", HangupOptions.model_validate(params.model_dump()))]),
    )
}
