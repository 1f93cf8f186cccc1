"""Recording actions: recording_start, recording_stop, and Voxology's RECORD that waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from bridge.audit import FAILED
from bridge.errors import BridgeError
from bridge.flows.action_registry import action
from bridge.flows.actions.sound import NoOptions, SwitchOption
from bridge.flows.checking import is_set
from bridge.flows.options import OR_VARIABLE, Options

if TYPE_CHECKING:
    from bridge.control.recorder import Recording
    from bridge.flows.interpreter import Run

MAX_RECORDING_S = 86_400
SecondsOption = Annotated[
    int, Field(ge=0, le=MAX_RECORDING_S, description=f"seconds from 0 to {MAX_RECORDING_S}"), OR_VARIABLE
]


class RecordingStartOptions(Options):
    """Options of recording_start: what to record, how, and when to end."""

    direction: Annotated[Literal["", "in", "out", "both"], Field(description='"in", "out" or "both"'), OR_VARIABLE] = (
        "both"
    )
    format: Annotated[Literal["", "wav", "mp3", "ogg"], Field(description='"wav", "mp3" or "ogg"'), OR_VARIABLE] = "wav"
    end_of_silence: SecondsOption = 0
    end_of_key: Annotated[
        Literal["", "none", "any", "*", "#"], Field(description='"none", "any", "*" or "#"'), OR_VARIABLE
    ] = ""
    duration: SecondsOption = 0
    beep_start: SwitchOption = False
    on_end_flow_id: str = ""

    @model_validator(mode="after")
    def _no_flow_at_end(self) -> RecordingStartOptions:
        if is_set(self.on_end_flow_id):
            raise ValueError("on_end_flow_id is not supported. Subscribe to the event recording_finished")
        return self


@action("recording_start", options=RecordingStartOptions, needs_audio=True, after_restart="skip")
async def recording_start(run: Run, options: RecordingStartOptions) -> None:
    """Record the audio from the caller (``in``), to the caller (``out``) or both; return once it has begun."""
    await _start(run, options)


async def _start(run: Run, options: RecordingStartOptions) -> Recording:
    try:
        recording = await run.services.recordings.start(
            run.leg.id,
            principal=run.principal,
            direction=options.direction or "both",
            format="wav",  # always supported by Asterisk; reported in the variable below
            max_silence_s=options.end_of_silence,
            max_duration_s=options.duration,
            terminate_on="" if options.end_of_key == "none" else options.end_of_key,
            beep=options.beep_start,
        )
    except BridgeError as problem:
        run.audit("recording.start", FAILED, reason=str(problem))
        raise
    run.audit("recording.start", recording=recording.id)
    run.recordings.append(recording.id)
    run.keep(run)
    for name, value in (
        ("id", recording.id),
        ("reference_type", "call"),
        ("reference_id", run.call_id),
        ("format", recording.format),
        ("recording_name", recording.id),
        ("filenames", f"{recording.id}.{recording.format}"),
    ):
        run.variables.set(f"voipbin.recording.{name}", value)
    return recording


@action("recording_stop", options=NoOptions)
async def recording_stop(run: Run, _: NoOptions) -> None:
    """End the latest recording of this flow, if any; return when its file is complete."""
    while run.recordings:
        recording_id = run.recordings.pop()
        try:
            await run.services.recordings.stop(recording_id)
        except KeyError:
            continue  # ended earlier by DTMF, silence or its duration
        run.audit("recording.stop", recording=recording_id)
        return


class RecordMessageOptions(RecordingStartOptions):
    """Options of Voxology's recording, with a variable for its id."""

    name: str = ""


@action("record_message", options=RecordMessageOptions, needs_audio=True, internal=True)
async def record_message(run: Run, options: RecordMessageOptions) -> None:
    """Record until DTMF, silence or the duration ends it; return then."""
    await record_followed(run, options)


async def record_followed(
    run: Run, options: RecordMessageOptions, on_start: Callable[[Recording], None] | None = None
) -> None:
    """Record as `record_message` does, and report the recording as it begins.

    Args:
        run: the flow.
        options: what to record.
        on_start: called when the recording has begun, and when it is resumed after a restart.
    """
    recording = run.services.recordings.running(run.recordings[-1]) if run.resumed and run.recordings else None
    if recording is None:
        recording = await _start(run, options)
    if on_start is not None:
        on_start(recording)
    await recording.finished()
    if recording.id in run.recordings:
        run.recordings.remove(recording.id)
    if options.name:
        run.variables.set(options.name, recording.id)
