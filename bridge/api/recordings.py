"""``/v1.0/recordings``: recordings of calls, and their files."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from aiohttp import web

from bridge.api.backend import ACCEPTS, MAX_READERS, READERS
from bridge.api.errors import ApiError, unavailable
from bridge.api.exception_mapping import asterisk_failing, calling
from bridge.api.models.base import NoQuery
from bridge.api.models.common import Paging
from bridge.api.models.recordings import Recording, Recordings
from bridge.api.paging import page_of
from bridge.api.reach import sees_call
from bridge.api.routing import Asked, JsonResponse
from bridge.api.views import recording_json
from bridge.control.recorder import Recording as CallRecording
from bridge.errors import AriError, BridgeError, Revoked
from bridge.times import utc

log = logging.getLogger(__name__)

UNREAD_S = 30.0
"""A client that does not read for this long is disconnected."""
RETRY_AFTER_S = 5


async def list_recordings(asked: Asked[Paging, None]) -> JsonResponse[Recordings]:
    """List the active recordings and those that ended recently, newest first."""
    every = [
        each
        for each in calling(asked.backend).recordings.list()
        if sees_call(asked.backend, asked.principal, each.call_id)
    ]
    page = page_of(every, lambda each: (utc(each.tm_start), each.id), asked.query)
    return JsonResponse(
        {"result": [recording_json(each) for each in page.entries], "next_page_token": page.next_page_token}
    )


async def get_recording(asked: Asked[NoQuery, None]) -> JsonResponse[Recording]:
    """Get a recording."""
    return JsonResponse(recording_json(_find(asked)))


async def get_file(asked: Asked[NoQuery, None]) -> web.StreamResponse:
    """Download the audio of a recording."""
    return await send_file(asked, _find(asked))


async def send_file(asked: Asked[NoQuery, None], recording: CallRecording) -> web.StreamResponse:
    """Send the audio of a recording, in blocks."""
    asked.note(call=recording.call_id)
    if recording.status == "recording":
        raise ApiError(409, "STATE_INVALID", "the recording has not ended; stop it first")
    readers = asked.request.app[READERS]
    if readers.locked():
        raise unavailable("OVERLOADED", f"{MAX_READERS} recordings are already being downloaded", RETRY_AFTER_S)
    async with readers:
        return await _send(asked, recording)


async def _send(asked: Asked[NoQuery, None], recording: CallRecording) -> web.StreamResponse:
    try:
        blocks = calling(asked.backend).recordings.read(recording.id)
        with asterisk_failing():
            # Before the status line is sent: a deleted file must return 404.
            first = await anext(blocks, b"")
    except (KeyError, ApiError) as error:
        if isinstance(error, KeyError) or _is_gone(error):
            raise _not_found(recording.id) from None
        raise
    response = web.StreamResponse(
        headers={
            "Content-Type": "audio/wav",
            "Content-Disposition": f'attachment; filename="{_file_name(recording)}"',
        }
    )
    sent = 0
    async with contextlib.aclosing(blocks):  # otherwise its connection to Asterisk stays open until garbage collection
        try:
            await response.prepare(asked.request)
            if asked.request.method == "HEAD":
                return response
            await _write(response, first)
            sent = len(first)
            async for block in blocks:
                if not asked.request.app[ACCEPTS](asked.principal):
                    raise Revoked("the token is no longer valid")
                await _write(response, block)
                sent += len(block)
            await response.write_eof()
        except (BridgeError, TimeoutError) as error:
            # The status line has been sent: the client must see that the file is incomplete.
            log.warning("download of a recording aborted recording=%s error=%s", recording.id, error)
            asked.note(reason="INCOMPLETE")
            if asked.request.transport is not None:
                asked.request.transport.abort()
        except ConnectionError:
            asked.note(reason="CLIENT_GONE")
        finally:
            asked.note(bytes=sent)
    return response


async def _write(response: web.StreamResponse, block: bytes) -> None:
    try:
        async with asyncio.timeout(UNREAD_S):
            await response.write(block)
    except TimeoutError:
        raise TimeoutError(f"the client read nothing for {UNREAD_S:g} s") from None


async def delete_recording(asked: Asked[NoQuery, None]) -> JsonResponse[Recording]:
    """Delete a recording and its file; returns its last state."""
    recording = _find(asked)
    asked.note(call=recording.call_id)
    before = recording_json(recording)
    try:
        with asterisk_failing():
            await calling(asked.backend).recordings.delete(recording.id)
    except KeyError:
        raise _not_found(recording.id) from None
    return JsonResponse(before)


def _find(asked: Asked[NoQuery, None]) -> CallRecording:
    try:
        return calling(asked.backend).recordings.get(asked.path())
    except KeyError:
        raise _not_found(asked.path()) from None


def _not_found(identity: str) -> ApiError:
    return ApiError(404, "RECORDING_NOT_FOUND", f"no recording has the id {identity[:160]!r}, or its file was deleted")


def _is_gone(error: ApiError) -> bool:
    return isinstance(error.__cause__, AriError) and error.__cause__.status == 404


def _file_name(recording: CallRecording) -> str:
    # For a header: only characters that need no quoting.
    return (
        "".join(each if each.isascii() and (each.isalnum() or each in "-_.") else "_" for each in recording.id) + ".wav"
    )
