"""``/v1.0/calls/{id}/VERB``: control of a call. Each returns the call's new state."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from bridge.api.background import BACKGROUND
from bridge.api.calls import body_of, ended, transferred
from bridge.api.errors import ApiError
from bridge.api.exception_mapping import acting, calling
from bridge.api.models.base import NoQuery
from bridge.api.models.calls import Call, Dtmf, Mute, Play, RecordingStart, Sensitive, Talk, Transfer
from bridge.api.routing import Asked, JsonResponse
from bridge.audio.sound import Sound
from bridge.logs import Fields
from bridge.speech.engine import SpeechFailed, Utterance
from bridge.speech.fetch import SoundUnavailable

Act = Callable[[str], Awaitable[None]]


async def hangup(asked: Asked[NoQuery, None]) -> JsonResponse[Call]:
    """End a call."""
    return await ended(asked.backend, asked.path())


async def hold(asked: Asked[NoQuery, None]) -> JsonResponse[Call]:
    """Put a call on hold."""
    return await _act(asked, calling(asked.backend).call_control.hold)


async def unhold(asked: Asked[NoQuery, None]) -> JsonResponse[Call]:
    """Resume a call."""
    return await _act(asked, calling(asked.backend).call_control.unhold)


async def mute(asked: Asked[NoQuery, Mute]) -> JsonResponse[Call]:
    """Mute the party's audio, audio to the party, or both."""
    call_control = calling(asked.backend).call_control
    return await _act(asked, lambda identity: call_control.mute(identity, asked.body.direction))


async def unmute(asked: Asked[NoQuery, Mute]) -> JsonResponse[Call]:
    """Unmute the party."""
    call_control = calling(asked.backend).call_control
    return await _act(asked, lambda identity: call_control.unmute(identity, asked.body.direction))


async def moh(asked: Asked[NoQuery, None]) -> JsonResponse[Call]:
    """Start music on hold for the party."""
    call_control = calling(asked.backend).call_control
    return await _act(asked, lambda identity: call_control.moh(identity, True))


async def moh_stop(asked: Asked[NoQuery, None]) -> JsonResponse[Call]:
    """Stop music on hold."""
    call_control = calling(asked.backend).call_control
    return await _act(asked, lambda identity: call_control.moh(identity, False))


async def silence(asked: Asked[NoQuery, None]) -> JsonResponse[Call]:
    """Start silence for the party."""
    call_control = calling(asked.backend).call_control
    return await _act(asked, lambda identity: call_control.silence(identity, True))


async def silence_stop(asked: Asked[NoQuery, None]) -> JsonResponse[Call]:
    """Stop silence."""
    call_control = calling(asked.backend).call_control
    return await _act(asked, lambda identity: call_control.silence(identity, False))


async def talk(asked: Asked[NoQuery, Talk]) -> JsonResponse[Call]:
    """Speak text; returns when speech begins."""
    parts, body = calling(asked.backend), asked.body
    before = body_of(asked.backend, asked.path())  # before speech is generated
    try:
        sound = await parts.speech.say(Utterance(body.text, body.language, body.voice_id))
    except SpeechFailed as error:
        raise ApiError(409, "SPEECH_FAILED", str(error)) from error
    return await _play(asked, before["id"], [sound], body.direction)


async def play(asked: Asked[NoQuery, Play]) -> JsonResponse[Call]:
    """Play sounds; returns when the first one begins."""
    parts, body = calling(asked.backend), asked.body
    before = body_of(asked.backend, asked.path())
    try:
        sounds = [await parts.sounds.get(url) for url in body.stream_urls]
    except SoundUnavailable as error:
        raise ApiError(409, "SOUND_UNAVAILABLE", str(error)) from error
    return await _play(asked, before["id"], sounds, body.direction)


async def dtmf(asked: Asked[NoQuery, Dtmf]) -> JsonResponse[Call]:
    """Send DTMF digits; returns when the first one is sent."""
    call_control, body = calling(asked.backend).call_control, asked.body

    async def work() -> None:
        await call_control.send_digits(asked.path(), body.digits, duration_ms=body.duration, between_ms=body.interval)

    return await _act(
        asked, lambda identity: asked.request.app[BACKGROUND].begin(work(), Fields(call=identity, doing="dtmf"))
    )


async def transfer(asked: Asked[NoQuery, Transfer]) -> JsonResponse[Call]:
    """Transfer a call; returns the new call."""
    return await transferred(asked.request.app, asked.principal, asked.path(), asked.body, asked.note)


async def recording_start(asked: Asked[NoQuery, RecordingStart]) -> JsonResponse[Call]:
    """Start a recording."""
    parts, body, identity = calling(asked.backend), asked.body, asked.path()
    with acting(parts, identity):
        recording = await parts.call_control.recording_start(
            identity,
            principal=asked.principal,
            direction=body.direction,
            format=body.format,
            max_silence_s=body.end_of_silence,
            max_duration_s=body.duration,
            terminate_on="" if body.end_of_key == "none" else body.end_of_key,
            beep=body.beep_start,
        )
    asked.note(recording=recording.id)
    return JsonResponse(body_of(asked.backend, identity))


async def recording_stop(asked: Asked[NoQuery, None]) -> JsonResponse[Call]:
    """Stop the newest recording."""
    parts, identity = calling(asked.backend), asked.path()
    before = body_of(asked.backend, identity)
    with acting(parts, identity):
        try:
            recording = await parts.call_control.recording_stop(identity)
        except KeyError:
            record = parts.records.get(identity)
            if record is None or record.ended:
                raise
            raise ApiError(409, "STATE_INVALID", "the call is not being recorded") from None
    asked.note(recording=recording.id)
    return JsonResponse(body_of(asked.backend, before["id"]))


async def sensitive(asked: Asked[NoQuery, Sensitive]) -> JsonResponse[Call]:
    """Start sensitive mode: hide the call's audio and digits from applications and recordings."""
    mode = calling(asked.backend).sensitive
    return await _act(asked, lambda identity: mode.start(identity, asked.body.timeout_s))


async def sensitive_stop(asked: Asked[NoQuery, None]) -> JsonResponse[Call]:
    """End sensitive mode."""
    return await _act(asked, calling(asked.backend).sensitive.stop)


async def _act(asked: Asked[NoQuery, object], act: Act) -> JsonResponse[Call]:
    parts, identity = calling(asked.backend), asked.path()
    before = body_of(asked.backend, identity)
    with acting(parts, identity):
        await act(identity)
    return _now(asked, before)


async def _play(asked: Asked[NoQuery, object], call_id: str, sounds: list[Sound], direction: str) -> JsonResponse[Call]:
    parts = calling(asked.backend)
    identity = asked.path()

    async def work() -> None:
        for sound in sounds:
            await parts.call_control.play(identity, sound.pcm, sound.rate, direction=direction)  # type: ignore[arg-type]

    return await _act(asked, lambda _: asked.request.app[BACKGROUND].begin(work(), Fields(call=call_id, doing="sound")))


def _now(asked: Asked[NoQuery, object], before: dict[str, Any]) -> JsonResponse[Call]:
    """Return the call's state now, or the earlier state if it has been discarded."""
    try:
        return JsonResponse(body_of(asked.backend, before["id"]))
    except ApiError:
        return JsonResponse(before)
