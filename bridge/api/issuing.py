"""``POST .../tickets``: issue tickets, for one WebSocket each."""

from __future__ import annotations

from bridge.api.conferences import find_conference
from bridge.api.exception_mapping import call_not_found, check_connected
from bridge.api.models.base import NoQuery
from bridge.api.models.tickets import CreateTicket, Ticket
from bridge.api.reach import check_scope
from bridge.api.routing import Asked, JsonResponse
from bridge.api.tickets import NEEDED, TICKETS, TicketTarget
from bridge.times import utc


async def for_call(asked: Asked[NoQuery, CreateTicket]) -> JsonResponse[Ticket]:
    """Issue a ticket for a ``media_stream`` of a call."""
    check_connected(asked.backend)
    if asked.backend.calls.find(asked.path()) is None:
        raise call_not_found(asked.path())
    return _issued(asked, "call", asked.path(), asked.body.direction)


async def for_conference(asked: Asked[NoQuery, CreateTicket]) -> JsonResponse[Ticket]:
    """Issue a ticket for a ``media_stream`` of a conference."""
    find_conference(asked)
    return _issued(asked, "conference", asked.path(), asked.body.direction)


async def for_events(asked: Asked[NoQuery, None]) -> JsonResponse[Ticket]:
    """Issue a ticket for ``/v1.0/events``."""
    return _issued(asked, "events", "", "events")


def _issued(asked: Asked[NoQuery, object], kind: TicketTarget, identity: str, direction: str) -> JsonResponse[Ticket]:
    asked.note(direction=direction)
    for scope in NEEDED[direction]:
        check_scope(asked.principal, scope, f", which a ticket with the direction {direction} carries")
    ticket, expires = asked.request.app[TICKETS].issue(asked.principal, kind, identity, direction)
    return JsonResponse({"ticket": ticket, "direction": direction, "tm_expire": utc(expires)})
