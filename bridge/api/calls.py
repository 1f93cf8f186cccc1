"""``/v1.0/calls``: originate, list, get and end calls.

Paths and names are VoIPBIN's, for its clients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from bridge.access import Principal
from bridge.api.backend import BACKEND, Backend, CallServices
from bridge.api.errors import ApiError, invalid
from bridge.api.exception_mapping import acting, asterisk_failing, call_not_found, calling, check_connected
from bridge.api.models.base import NoQuery
from bridge.api.models.calls import Call, Calls, CreateCalls, CreatedCalls, Groupcall, ListCalls, Transfer
from bridge.api.originated_calls import ORIGINATED
from bridge.api.paging import page_of
from bridge.api.reach import check_caller, check_destinations, check_scope, sees_call
from bridge.api.routing import Asked, JsonResponse
from bridge.api.views import call_json, call_time, groupcall_json, streams_of_calls
from bridge.calls.call import Call as LiveCall
from bridge.calls.call_record import CallRecord
from bridge.control.dial_policy import NotAllowed
from bridge.control.outbound_calls import OriginateRequest
from bridge.flows.program import InvalidFlow, Program
from bridge.flows.variables import request_variables
from bridge.times import utc

Known = tuple[LiveCall | None, CallRecord | None]
"""A call as it is now, and its record; at least one of them exists."""


async def list_calls(asked: Asked[ListCalls, None]) -> JsonResponse[Calls]:
    """List the active calls and, on request, those that have ended recently, newest first."""
    backend = asked.backend
    check_connected(backend)
    known = [each for each in _all(backend, ended=asked.query.ended) if sees_call(backend, asked.principal, _id(each))]
    page = page_of(known, _place, asked.query)
    streams = streams_of_calls(backend.streams(), backend.calls.find)
    return JsonResponse(
        {
            "result": [call_json(live, streams.get(_id((live, record)), 0), record) for live, record in page.entries],
            "next_page_token": page.next_page_token,
        }
    )


async def get_call(asked: Asked[NoQuery, None]) -> JsonResponse[Call]:
    """Get a call by its own id or the id of one of its channels."""
    check_connected(asked.backend)
    return JsonResponse(body_of(asked.backend, asked.path()))


async def originate_calls(asked: Asked[NoQuery, CreateCalls]) -> JsonResponse[CreatedCalls]:
    """Originate calls."""
    backend, body = asked.backend, asked.body
    asked.note(
        destinations=[str(each.value()) for each in body.destinations],
        source=str(body.source.value()) if body.source is not None else "",
        flow=body.flow,
    )
    parts = calling(backend)
    if body.actions and not body.flow:
        # A flow can call, record, stream and send requests: more than the scope calls:originate allows.
        check_scope(asked.principal, "flows", ", which `actions` needs; a configured flow (`flow_id`) does not")
    program = None if body.flow else await program_of(parts, body)
    request = OriginateRequest(
        destinations=[each.value() for each in body.destinations],
        principal=asked.principal,
        source=body.source.value() if body.source is not None else None,
        flow_id=body.flow,
        anonymous=body.anonymous == "yes",
        answer_method=body.answer_method,
        ring_method=body.ring_method,
        timeout_s=body.timeout,
    )
    check_destinations(asked.principal, request.destinations)
    check_caller(asked.principal, request.source)
    limits, count = asked.request.app[ORIGINATED], len(request.destinations)
    try:
        variables = request_variables(body.variables)
        with asterisk_failing(), limits.room(asked.principal, count, is_up(parts)) as add:
            if body.flow or program is not None:
                originated = await parts.flow_manager.originate(request, program, variables)
            else:
                originated = await parts.outbound_calls.originate(request)
            # Groups get more calls while they dial.
            add(originated.groupcalls[0].call_ids if originated.groupcalls else [each.id for each in originated.calls])
    except LookupError:
        raise flow_not_found(body.flow) from None
    except ValueError as error:
        raise refused(error) from None
    asked.note(calls=[each.id for each in originated.calls], groupcalls=[each.id for each in originated.groupcalls])
    return JsonResponse(
        {
            "calls": [call_json(backend.calls.calls.get(each.id), 0, each) for each in originated.calls],
            "groupcalls": [groupcall_json(each) for each in originated.groupcalls],
        }
    )


async def delete_call(asked: Asked[NoQuery, None]) -> JsonResponse[Call]:
    """End an active call, or discard an ended one."""
    parts = calling(asked.backend)
    identity = asked.path()
    record = parts.records.get(identity)
    if record is not None and record.ended:
        body = body_of(asked.backend, identity)
        parts.records.forget(record.id)
        return JsonResponse(body)
    return await ended(asked.backend, identity)


async def get_groupcall(asked: Asked[NoQuery, None]) -> JsonResponse[Groupcall]:
    """Get calls that were originated together."""
    parts = calling(asked.backend)
    group = parts.outbound_calls.group(asked.path())
    if group is None:
        raise ApiError(404, "GROUPCALL_NOT_FOUND", f"no group of calls has the id {asked.path()[:160]!r}")
    return JsonResponse(groupcall_json(group))


async def ended(backend: Backend, identity: str) -> JsonResponse[Call]:
    """End a call and return its final state."""
    parts = calling(backend)
    before = body_of(backend, identity)
    with acting(parts, identity):
        await parts.call_control.hangup(identity)
    try:
        return JsonResponse(body_of(backend, before["id"]))
    except ApiError:  # it was discarded already
        return JsonResponse(before)


async def transferred(
    app: web.Application, principal: Principal, identity: str, body: Transfer, note: Callable[..., object]
) -> JsonResponse[Call]:
    """Transfer a call and return the new one.

    Args:
        app: the application that serves the API.
        principal: who requests it.
        identity: the id of the call or of one of its channels.
        body: the destination.
        note: adds values to the line of the audit log.
    """
    backend, destination = app[BACKEND], body.destination.value()
    note(destinations=[str(destination)])
    parts = calling(backend)
    body_of(backend, identity)
    check_destinations(principal, [destination])
    try:
        room = app[ORIGINATED].room(principal, 1, is_up(parts))
        with acting(parts, identity), room as add:
            placed = await parts.call_control.transfer(identity, destination, token=principal.id)
            add([placed])
    except NotAllowed as error:
        raise ApiError(403, "DESTINATION_NOT_ALLOWED", f"destination: {error}") from None
    except ValueError as error:
        raise invalid("INVALID_DESTINATION", f"destination: {error}") from None
    note(calls=[placed])
    return JsonResponse(body_of(backend, placed))


def body_of(backend: Backend, identity: str) -> dict[str, Any]:
    """Return the JSON of a call, by its id or a channel's.

    Raises:
        ApiError: 404, unknown call.
    """
    live, record = find(backend, identity)
    return call_json(live, streams_of_calls(backend.streams(), backend.calls.find).get(_id((live, record)), 0), record)


def find(backend: Backend, identity: str) -> Known:
    """Return a call and its record, by its id or a channel's.

    Raises:
        ApiError: 404, unknown call.
    """
    record = backend.calling.records.get(identity) if backend.calling is not None else None
    if record is not None and record.id == identity:  # its channel may be a party of another call
        return backend.calls.calls.get(identity), record
    found = backend.calls.find(identity)
    live = found[0] if found is not None else None
    record = backend.calling.records.get(live.id if live else identity) if backend.calling is not None else None
    if live is None and record is None:
        raise call_not_found(identity)
    return live, record


async def program_of(parts: CallServices, body: CreateCalls) -> Program | None:
    """Return the flow in a request, checked in a thread.

    Raises:
        ApiError: 400, it cannot be run.
    """
    if body.actions is None:
        return None
    try:
        return await parts.flow_manager.parse_request(lambda: body.actions)
    except InvalidFlow as error:
        raise refused(error) from None


def refused(error: ValueError) -> ApiError:
    """Return why calls are not originated."""
    if isinstance(error, InvalidFlow):
        return invalid("INVALID_FLOW", "; ".join(map(str, error.errors))[:2000])
    text = str(error)
    if isinstance(error, NotAllowed):
        return ApiError(403, "DESTINATION_NOT_ALLOWED", text[:2000])
    whom = text.startswith(("destination", "call.no"))
    return invalid("INVALID_DESTINATION" if whom else "INVALID_BODY", text[:2000])


def flow_not_found(identity: str) -> ApiError:
    """Return the error for an unknown flow: 404."""
    return ApiError(404, "FLOW_NOT_FOUND", f"no flow has the id {identity[:80]!r}; GET /v1.0/flows lists them")


def is_up(parts: CallServices) -> Callable[[str], bool]:
    """Return a function that returns whether the call with an id has not ended."""

    def check(call_id: str) -> bool:
        record = parts.records.get(call_id)
        return record is not None and not record.ended

    return check


def _all(backend: Backend, *, ended: bool) -> list[Known]:
    records: dict[str, CallRecord] = {}
    if backend.calling is not None:
        known = backend.calling.records
        records = {each.id: each for each in known.live()}
        if ended:
            records |= {each.id: each for each in known.ended()}
    live = backend.calls.calls
    return [(call, records.get(call.id)) for call in live.values() if backend.owns(call.id)] + [
        (None, record)
        for record in records.values()
        # One that has merged with another call is listed as that other one, unless it was created through this API.
        if record.id not in live and (record.originated or record.ended) and backend.owns(record.id)
    ]


def _place(known: Known) -> tuple[str, str]:
    live, record = known
    if record is not None:
        return utc(record.tm_create) if record.tm_create is not None else "", record.id
    assert live is not None
    return call_time(live), live.id


def _id(known: Known) -> str:
    return _place(known)[1]
