"""The reach of tokens with patterns, checked for every route that names a call, every list and every event."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiohttp import web

from bridge.access import PartyNames, Principal
from bridge.api.backend import BACKEND, PRINCIPAL, Backend
from bridge.api.errors import ApiError
from bridge.api.exception_mapping import call_not_found
from bridge.calls.addresses import Address

LOOKED_UP = ("/v1.0/calls/{id}", "/v1.0/conferences/{id}", "/v1.0/recordings/{id}", "/v1.0/groupcalls/{id}",
             "/v1.0/cluster/calls/{id}")  # fmt: skip
"""Paths whose id is checked here, and all paths below them."""


def sees_call(backend: Backend, principal: Principal, identity: str) -> bool:
    """Return whether a principal reaches a call, by its id or a channel's."""
    return not principal.reach.limited or principal.reach.call(backend.participants(identity))


def sees_conference(backend: Backend, principal: Principal, identity: str, name: str = "") -> bool:
    """Return whether a principal reaches a conference.

    Args:
        backend: has the conferences.
        principal: the principal of a request.
        identity: the conference's id.
        name: the conference's name, if already known to the caller.
    """
    if not principal.reach.limited:
        return True
    if not name and backend.conferences is not None:
        conference = backend.conferences.conferences.get(identity)
        name = conference.name if conference is not None else ""
    return principal.reach.conference(identity, *([name] if name else []))


def sees_event(backend: Backend, principal: Principal) -> Callable[[str, Mapping[str, Any]], bool]:
    """Return a function that returns, for a type of event and its data, whether a principal may receive it."""
    if not principal.reach.limited:
        return lambda *_: True

    def sees(type: str, data: Mapping[str, Any]) -> bool:
        conference = data.get("conference_id")
        if conference:
            # Other events of a conference contain the name of a participant, who chooses it.
            name = str(data.get("name") or "") if type in ("conference_created", "conference_deleted") else ""
            return sees_conference(backend, principal, str(conference), name)
        call = data.get("id") if type.startswith("call_") else data.get("call_id")
        return bool(call) and sees_call(backend, principal, str(call))

    return sees


def sees_stream(backend: Backend, principal: Principal, stream: Mapping[str, object]) -> bool:
    """Return whether a principal reaches the call or conference of a stream."""
    conference = str(stream.get("conference_id") or "")
    if conference:
        return sees_conference(backend, principal, conference)
    return sees_call(backend, principal, str(stream["call_id"]))


def sees_summary(principal: Principal, summary: Mapping[str, Any]) -> bool:
    """Return whether a principal reaches a call of the cluster's directory, which names endpoints only."""
    endpoints = frozenset(str(party["endpoint"]) for party in summary.get("parties", ()))
    return principal.reach.call(PartyNames(endpoints, endpoints))


def check_reach(path: str, request: web.Request) -> None:
    """Check that the call or conference that a request names is within its principal's reach.

    Args:
        path: the route's path.
        request: the request.

    Raises:
        ApiError: 404, as if it did not exist.
    """
    if path.startswith(LOOKED_UP):
        check_reach_of(path, request.app[BACKEND], request[PRINCIPAL], request.match_info["id"])


def check_reach_of(path: str, backend: Backend, principal: Principal, identity: str) -> None:
    """Check that a call or conference is within a principal's reach.

    Args:
        path: the route's path, which begins with one of `LOOKED_UP`.
        backend: has the calls and conferences.
        principal: who requests.
        identity: the id in the path.

    Raises:
        ApiError: 404, as if it did not exist.
    """
    if not principal.reach.limited:
        return
    if path.startswith("/v1.0/calls/"):
        if not sees_call(backend, principal, identity):
            raise call_not_found(identity)
    elif path.startswith("/v1.0/conferences/"):
        if not sees_conference(backend, principal, identity):
            raise ApiError(404, "CONFERENCE_NOT_FOUND", f"no conference has the id {identity[:160]!r}")
    elif path.startswith("/v1.0/recordings/"):
        if not _sees_recording(backend, principal, identity):
            raise ApiError(404, "RECORDING_NOT_FOUND", f"no recording has the id {identity[:160]!r}")
    elif path.startswith("/v1.0/groupcalls/"):
        group = backend.calling.outbound_calls.group(identity) if backend.calling is not None else None
        if group is None or not all(sees_call(backend, principal, each) for each in group.call_ids):
            raise ApiError(404, "GROUPCALL_NOT_FOUND", f"no group of calls has the id {identity[:160]!r}")


def check_destinations(principal: Principal, destinations: Iterable[Address]) -> None:
    """Check that a principal may call destinations.

    Raises:
        ApiError: 403.
    """
    reach = principal.reach
    if not reach.limited:
        return
    for number, each in enumerate(destinations):
        inside = {
            "extension": reach.extensions.match(each.target),
            "conference": reach.conferences.match(each.target),
            "tel": bool(reach.trunks),
            "sip": bool(reach.trunks),
        }.get(each.type, True)  # a destination without a type is rejected elsewhere
        if not inside:
            raise ApiError(
                403,
                "TOKEN_LIMITED",
                f"destinations[{number}]: the token {principal.id} does not reach this {each.type}: its patterns"
                " (extensions, trunks, conferences) do not allow it",
            )


def check_caller(principal: Principal, source: Address | None) -> None:
    """Check that a principal may use a caller ID.

    Raises:
        ApiError: 403.
    """
    if source is not None and not principal.shows(source.target):
        raise ApiError(
            403,
            "TOKEN_LIMITED",
            f"source: the token {principal.id} may not use this caller ID; caller_ids lists others",
        )


def check_scope(principal: Principal, scope: Any, why: str = "") -> None:
    """Check that a principal has a scope.

    Args:
        principal: the principal of a request.
        scope: the required scope.
        why: what requires the scope, and the alternatives.

    Raises:
        ApiError: 403.
    """
    if not principal.may(scope):
        raise ApiError(
            403,
            "SCOPE_MISSING",
            f"the token {principal.id} lacks the scope {scope}{why}; add it to the token, or use another token",
        )


def _sees_recording(backend: Backend, principal: Principal, identity: str) -> bool:
    if backend.calling is None:
        return True
    try:
        recording = backend.calling.recordings.get(identity)
    except KeyError:
        return True  # the route responds that it does not exist
    return sees_call(backend, principal, recording.call_id)
