"""``/v1.0/conferences``: create, list and end conferences, mute and remove participants."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from bridge.api.backend import Backend
from bridge.api.errors import ApiError, invalid
from bridge.api.exception_mapping import asterisk_failing, check_connected
from bridge.api.media_streams import conference_not_found
from bridge.api.models.base import NoQuery
from bridge.api.models.common import Paging
from bridge.api.models.conferences import Conference, Conferences, CreateConference, Participant, Participants
from bridge.api.paging import page_of
from bridge.api.reach import sees_conference
from bridge.api.routing import Asked, JsonResponse
from bridge.api.views import conference_json
from bridge.conferences.conferences import ConferenceExists, NoSuchConference
from bridge.conferences.conferences import Conferences as KnownConferences
from bridge.control.call_control import NotControlled
from bridge.times import utc


async def list_conferences(asked: Asked[Paging, None]) -> JsonResponse[Conferences]:
    """List all conferences of the PBX, newest first."""
    # Every worker sees a ConfBridge room of the dialplan; one of them lists it.
    every = [
        each
        for each in _source(asked.backend).list()
        if (each.kind == "bridge" or asked.backend.leads())
        and sees_conference(asked.backend, asked.principal, each.id, each.name)
    ]
    page = page_of(every, lambda each: (utc(each.created_at), each.id), asked.query)
    return JsonResponse(
        {"result": [conference_json(each) for each in page.entries], "next_page_token": page.next_page_token}
    )


async def create_conference(asked: Asked[NoQuery, CreateConference]) -> JsonResponse[Conference]:
    """Create a conference."""
    source, body = _source(asked.backend), asked.body
    asked.note(conference=body.id or "")
    # Calls join by the id. A name that the token may use must not open one that others are about to join.
    if not asked.principal.reach.conference(body.id or body.name):
        raise ApiError(
            403,
            "TOKEN_LIMITED",
            f"the token {asked.principal.id} does not reach this conference: its patterns (conferences) must match"
            " the id, or the name where no id is given",
        )
    try:
        with asterisk_failing():
            made = await source.create(body.name, body.id, auto_delete=body.auto_delete)
    except ConferenceExists as error:
        raise ApiError(409, "CONFERENCE_EXISTS", str(error)) from error
    except ValueError as error:
        raise invalid("INVALID_CONFERENCE", str(error)) from None
    asked.note(conference=made.id)
    return JsonResponse(conference_json(made))


async def get_conference(asked: Asked[NoQuery, None]) -> JsonResponse[Conference]:
    """Get a conference."""
    return JsonResponse(find_conference(asked))


async def delete_conference(asked: Asked[NoQuery, None]) -> JsonResponse[Conference]:
    """End a conference; returns its last state."""
    before = find_conference(asked)
    with _acting(asked.path()):
        await _source(asked.backend).delete(asked.path())
    return JsonResponse(before)


async def list_participants(asked: Asked[NoQuery, None]) -> JsonResponse[Participants]:
    """List the participants of a conference."""
    return JsonResponse({"result": find_conference(asked)["participants"]})


async def kick(asked: Asked[NoQuery, None]) -> web.Response:
    """Remove a participant."""
    _participant(asked)
    with _acting(asked.path()):
        await _source(asked.backend).kick(asked.path(), asked.path("channel"))
    return web.Response(status=204)


async def mute(asked: Asked[NoQuery, None]) -> JsonResponse[Participant]:
    """Mute a participant."""
    _participant(asked)
    with _acting(asked.path()):
        await _source(asked.backend).mute(asked.path(), asked.path("channel"))
    return JsonResponse(_participant(asked))


async def unmute(asked: Asked[NoQuery, None]) -> JsonResponse[Participant]:
    """Unmute a participant."""
    _participant(asked)
    with _acting(asked.path()):
        await _source(asked.backend).unmute(asked.path(), asked.path("channel"))
    return JsonResponse(_participant(asked))


def _source(backend: Backend) -> KnownConferences:
    check_connected(backend)
    assert backend.conferences is not None  # otherwise its routes do not exist
    return backend.conferences.conferences


def find_conference(asked: Asked[Any, Any]) -> dict[str, Any]:
    """Return the JSON of the conference that a request names.

    Raises:
        ApiError: 404, there is none; 503, Asterisk is not reachable.
    """
    conference = _source(asked.backend).get(asked.path())
    if conference is None:
        raise conference_not_found(asked.path())
    return conference_json(conference)


def _participant(asked: Asked[NoQuery, None]) -> dict[str, Any]:
    for each in find_conference(asked)["participants"]:
        if each["channel_id"] == asked.path("channel"):
            return dict(each)
    raise ApiError(
        404, "CONFERENCE_NOT_FOUND", f"the conference has no participant on channel {asked.path('channel')[:160]!r}"
    )


@contextmanager
def _acting(identity: str) -> Iterator[None]:
    try:
        with asterisk_failing(refused_by_state=True):
            yield
    except NoSuchConference as error:
        raise ApiError(
            404, "CONFERENCE_NOT_FOUND", str(error) or f"no conference has the id {identity[:160]!r}"
        ) from error
    except NotControlled as error:
        raise ApiError(
            409, "STATE_INVALID", str(error) or "asterisk-bridge does not control this conference"
        ) from error
