"""Requests of Twilio's REST API about audio: start and stop a call's streams, download its recordings."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from aiohttp import web
from multidict import MultiDictProxy
from pydantic import ValidationError

from bridge.api import recordings
from bridge.api.backend import BACKEND, PRINCIPAL
from bridge.api.errors import ApiError
from bridge.api.exception_mapping import acting, calling
from bridge.api.models.base import NoQuery
from bridge.api.models.twilio import TwilioRecordingStart, TwilioStreamStart
from bridge.api.routing import Asked, note
from bridge.api.twilio import TwilioError, answering, created, find, form_of, gone
from bridge.api.twilio_changes import METHODS, check_known, http_url, one_of
from bridge.api.twilio_shapes import recording_json, stream_json
from bridge.calls.call_record import Direction
from bridge.control.legs import Leg
from bridge.dialects.twilio import Twilio, call_sid
from bridge.flows.recording_callbacks import RecordingCallback, recording_events, recording_sid
from bridge.flows.stream_callbacks import StreamCallback, stream_sid
from bridge.streams.flow_options import StreamStart, StreamStop
from bridge.validation import explain, sentence

SOURCE = "StartCallRecordingAPI"
CURRENT = "Twilio.CURRENT"
MAX_PARAMETERS = 99
"""Twilio's limit of ``Parameter1`` to ``Parameter99``."""


@answering
async def start_stream(request: web.Request) -> web.StreamResponse:
    """``POST``: send the call's audio to an application."""
    call, _ = find(request)
    form = await form_of(request)
    wanted, callback = _wanted(form), _stream_callback(form)
    parts = calling(request.app[BACKEND])
    with _controlled(request) as leg:
        assert parts.streams is not None  # otherwise the route does not exist
        stream = await parts.streams.stream_start(leg, wanted, request[PRINCIPAL])
    if callback is not None and parts.status_callbacks is not None:
        parts.status_callbacks.follow_stream(stream, callback)
    sid = stream_sid(stream)
    body = stream_json(request.match_info["account"], call.id, sid, wanted.name, "in-progress", time.time())
    return created(body)


@answering
async def stop_stream(request: web.Request) -> web.StreamResponse:
    """``POST``: stop a stream, by its id or its name."""
    call, _ = find(request)
    await _check_stops(request)
    wanted, account = request.match_info["stream"], request.match_info["account"]
    with _controlled(request) as leg:
        streams = calling(request.app[BACKEND]).streams
        assert streams is not None  # otherwise the route does not exist
        for name, url, stream in streams.started(leg):
            if wanted in (name, stream_sid(stream)):
                await streams.stream_stop(leg, StreamStop(url=url))
                body = stream_json(account, call.id, stream_sid(stream), name, "stopped", time.time())
                return web.json_response(body)
    raise gone(request)


@answering
async def start_recording(request: web.Request) -> web.StreamResponse:
    """``POST``: record the call."""
    call, caller = find(request)
    note(request, call=call.id, party=caller.id)
    form = await form_of(request)
    track, callback = _recorded(form)
    parts = calling(request.app[BACKEND])
    with acting(parts, caller.id):
        recording = await parts.call_control.recording_start(caller.id, principal=request[PRINCIPAL], direction=track)
    note(request, recording=recording.id)
    if callback is not None and parts.status_callbacks is not None:
        parts.status_callbacks.follow_recording(recording, callback)
    return created(recording_json(request.match_info["account"], recording, SOURCE))


@answering
async def stop_recording(request: web.Request) -> web.StreamResponse:
    """``POST``: stop a recording of the call, by its id; ``Twilio.CURRENT`` is the newest."""
    call, caller = find(request)
    await _check_stops(request)
    wanted, parts = request.match_info["recording"], calling(request.app[BACKEND])
    for recording in reversed(parts.recordings.list()):
        of_call = call_sid(recording.call_id) == request.match_info["call"]
        if of_call and recording.status == "recording" and wanted in (CURRENT, recording_sid(recording.id)):
            note(request, call=call.id, party=caller.id, recording=recording.id)
            with acting(parts, caller.id):
                stopped = await parts.recordings.stop(recording.id)
            return web.json_response(recording_json(request.match_info["account"], stopped, SOURCE))
    raise gone(request)


@answering
async def get_recording(request: web.Request) -> web.StreamResponse:
    """``GET``: download a recording as a WAV file."""
    asked = Asked(request, NoQuery(), None)
    wanted = request.match_info["recording"].removesuffix(".wav")
    for recording in calling(request.app[BACKEND]).recordings.list():
        if recording_sid(recording.id) == wanted:
            return await recordings.send_file(asked, recording)
    raise ApiError(404, "RECORDING_NOT_FOUND", "no recording has this id")


async def _check_stops(request: web.Request) -> None:
    if (await form_of(request)).get("Status") != "stopped":
        raise TwilioError(400, 20001, "Status: expected stopped")


@contextmanager
def _controlled(request: web.Request) -> Iterator[Leg]:
    """Return the leg of the call that the path names, and convert errors of what is done with it."""
    call, caller = find(request)
    note(request, call=call.id, party=caller.id)
    parts = calling(request.app[BACKEND])
    try:
        with acting(parts, caller.id):
            yield parts.call_control.leg(caller.id, "a stream")
    except ApiError as error:
        if error.status == 409:
            raise TwilioError(400, 21220, error.message) from None  # the call is not in a state for it
        raise


def _wanted(form: Mapping[str, Any]) -> StreamStart:
    from bridge.flows.actions.streams import FlowStreamOptions  # imports all actions

    parameters: dict[str, str] = {}
    for number in range(1, MAX_PARAMETERS + 1):
        name = str(form.get(f"Parameter{number}.Name", ""))
        if name:
            parameters[name] = str(form.get(f"Parameter{number}.Value", ""))
    for field in form:
        if field not in TwilioStreamStart.model_fields and not field.startswith("Parameter"):
            expected = ", ".join(TwilioStreamStart.model_fields)
            raise TwilioError(400, 20001, f"{field[:40]}: is not supported; expected {expected} or Parameter1.Name")
    given = {
        "url": str(form.get("Url", "")),
        "stream_name": str(form.get("Name", "")),
        "tracks": str(form.get("Track", "") or "inbound_track"),
        "dialect": Twilio.name,
        "parameters": parameters,
    }
    if "${" in given["url"]:
        raise TwilioError(400, 20001, "Url: is not a ws:// or wss:// URL")
    try:
        wanted = FlowStreamOptions.model_validate(given).request()
    except (ValidationError, ValueError) as problem:
        reason = sentence(explain(problem, FlowStreamOptions)) if isinstance(problem, ValidationError) else str(problem)
        raise TwilioError(400, 20001, reason) from None
    assert isinstance(wanted, StreamStart)
    return wanted


def _stream_callback(form: Mapping[str, Any]) -> StreamCallback | None:
    """Return where the status of a stream is sent."""
    url = http_url(form, "StatusCallback", 21609)
    method: Any = one_of(form, "StatusCallbackMethod", METHODS)
    return StreamCallback(url, method, str(form.get("Name", ""))) if url else None


def _recorded(form: MultiDictProxy[Any]) -> tuple[Direction, RecordingCallback | None]:
    """Return which audio to record, and where its status is sent."""
    check_known(form, TwilioRecordingStart)
    track = one_of(form, "RecordingTrack", ("both", "inbound", "outbound"))
    one_of(form, "RecordingChannels", ("mono",))
    one_of(form, "Trim", ("do-not-trim",))
    direction: Direction = {"inbound": "in", "outbound": "out"}.get(track, "both")  # type: ignore[assignment]
    url = http_url(form, "RecordingStatusCallback", 21609)
    method: Any = one_of(form, "RecordingStatusCallbackMethod", METHODS)
    try:
        events = recording_events(" ".join(map(str, form.getall("RecordingStatusCallbackEvent", ()))))
    except ValueError as problem:
        raise TwilioError(400, 20001, f"RecordingStatusCallbackEvent: {problem}") from None
    return direction, RecordingCallback(url, method, events, SOURCE) if url else None
