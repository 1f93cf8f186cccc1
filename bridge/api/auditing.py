"""One line of the audit log for each request to a route that declares an action, whether it succeeds or not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import web
from aiohttp.typedefs import Handler

from bridge.access import Principal
from bridge.api.address import client_address
from bridge.api.backend import BACKEND, PRINCIPAL, Backend
from bridge.api.errors import ApiError
from bridge.api.routing import HANDLED, NOTES, OPERATIONS, RECORDED, Operation, Route
from bridge.audit import FAILED, OK, Audit, LineValue, RejectionKind

INNER = web.AppKey("inner", bool)
"""Whether the application takes requests from other workers. They record a 404 themselves: they may query several."""
_PATHS = {
    "/v1.0/calls/": "call",
    "/v1.0/groupcalls/": "groupcall",
    "/v1.0/conferences/": "conference",
    "/v1.0/recordings/": "recording",
    "/v1.0/subscriptions/": "subscription",
}
"""The type of the id in a path."""


@web.middleware
async def audit_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Respond to a request, and record it if its route declares an action or it is rejected."""
    operation = request.app[OPERATIONS].get(request.match_info.handler)
    concerned = _concerned(request, operation)  # before it is handled: the call may be gone afterwards
    status, reason = 500, "INTERNAL_ERROR"
    try:
        response = await handler(request)
        status, reason = response.status, ""
        return response
    except ApiError as error:
        status, reason = error.status, error.reason
        raise
    except web.HTTPException as error:
        status, reason = error.status, ""
        raise
    except asyncio.CancelledError:
        reason = "CANCELLED"
        raise
    finally:
        if not request.get(RECORDED) and not (status == 404 and request.app[INNER]):
            _record(request, operation, status, reason, concerned)


def _record(
    request: web.Request, operation: Operation | None, status: int, reason: str, concerned: dict[str, LineValue]
) -> None:
    principal = request.get(PRINCIPAL)
    rejected = status == 401 or (principal is None and status >= 400)
    rejected = rejected or (status in (403, 429) and not request.get(HANDLED))
    principal = principal or Principal("", client_address(request))
    values = concerned | {"status": status, "reason": reason} | request.get(NOTES, {})
    route = operation.route if operation is not None else None
    record_operation(request.app[BACKEND].audit, route, principal, values, rejected=rejected)


def record_operation(
    audit: Audit, route: Route | None, principal: Principal, values: Mapping[str, LineValue], *, rejected: bool
) -> None:
    """Record a request for an operation, also one that did not come by HTTP.

    Args:
        audit: the audit log.
        route: of the operation; None: there is none.
        principal: who requested it.
        values: the objects concerned, ``status`` as in HTTP and ``reason`` of an error.
        rejected: whether the principal lacks the right; nothing was looked up then.
    """
    action = route.audit if route is not None else ""
    status, reason = int(values["status"]), str(values["reason"])  # type: ignore[arg-type]
    if rejected:
        attempted = action or (route.operation if route is not None else "")
        audit.reject(RejectionKind(principal.id, principal.address, attempted, status, reason))
    elif action:
        audit.record(action, principal, FAILED if status >= 400 or reason else OK, **values)


def _concerned(request: web.Request, operation: Operation | None) -> dict[str, LineValue]:
    """Return the ids in the path of a request, by the names that they have in the audit log."""
    if operation is None or not operation.route.audit:
        return {}
    path, ids = operation.route.path, request.match_info
    name = next((name for prefix, name in _PATHS.items() if path.startswith(prefix)), "")
    if not name:
        return {}
    values: dict[str, LineValue] = {name: ids["id"]}
    if name == "call":
        values = call_and_party(request.app[BACKEND], ids["id"])
    if "channel" in ids:
        values["party"] = ids["channel"]
    return values


def call_and_party(backend: Backend, identity: str) -> dict[str, LineValue]:
    """Return the ids of a call, and of the party if ``identity`` is that of one of the call's channels."""
    found = backend.calls.find(identity)
    if found is not None:
        call, party = found
        return {"call": call.id, "party": identity if party.id == identity != call.id else ""}
    record = backend.calling.records.get(identity) if backend.calling is not None else None
    return {"call": record.id if record is not None else identity}
