"""Admission of requests: each gets its principal, or is rejected if it lacks the scope that its route requires."""

from __future__ import annotations

import time

from aiohttp import web
from aiohttp.typedefs import Handler
from msgspec import structs

from bridge.access import ANONYMOUS, CONFIGURATION, Principal
from bridge.api.address import client_address
from bridge.api.auth import LOCAL, Authenticator, token_cookies
from bridge.api.backend import BACKEND, PRINCIPAL
from bridge.api.errors import ApiError
from bridge.api.reach import check_scope
from bridge.api.refusals import Refusals
from bridge.api.routing import OPERATIONS, Operation
from bridge.api.tickets import KINDS, TICKETS, TicketTarget
from bridge.audit import RejectionKind
from bridge.media.counters import Counters

PRINCIPAL_HEADER = "X-Bridge-Principal"
"""Carries the principal of a request that one worker forwards to another."""
_WITHOUT_TOKEN = {each.id: each for each in (ANONYMOUS, CONFIGURATION, LOCAL)}


def carried(principal: Principal) -> str:
    """Return the value of `PRINCIPAL_HEADER` for a principal."""
    return f"{principal.token or principal.id} {principal.address}"


class RequestAdmission:
    """Admits or rejects each request.

    Args:
        gate: the credentials.
        counters: counts the requests without a valid credential.
        inner: whether requests come from other workers, which send the principal of each; no other client can connect.
    """

    def __init__(self, gate: Authenticator, counters: Counters, *, inner: bool = False) -> None:
        self._gate = gate
        self._counters = counters
        self._refusals = Refusals()
        self._identify = self._passed_on if inner else self._authenticated

    async def admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Return the response of ``handler``, or reject the request.

        Raises:
            ApiError: 401, 403 or 429.
        """
        operation = request.app[OPERATIONS].get(request.match_info.handler)
        # Without a route, the path does not exist (disclosed only to authenticated clients) or lacks the method.
        access = operation.route.access if operation is not None else _access_beside_routes(request)
        kind = KINDS.get(operation.route.path) if operation is not None and "ticket" in request.query else None
        if kind is not None:
            request[PRINCIPAL] = await self._of_ticket(request, kind)
        else:
            request[PRINCIPAL] = self._identify(request, access)
        _check_rights(request[PRINCIPAL], operation)
        return await handler(request)

    def _authenticated(self, request: web.Request, access: str) -> Principal:
        address = client_address(request)
        try:
            found = self._of_credential(request, access)
        except ApiError as error:
            refusal = self._counted(error, address)
            if access == "public":
                _record_guess(request, error, address)
                return ANONYMOUS
            raise refusal from None
        return structs.replace(found, address=address)

    async def _of_ticket(self, request: web.Request, kind: TicketTarget) -> Principal:
        address = client_address(request)
        try:
            self._gate.check_shown(request.query, request.headers)
            found = await request.app[TICKETS].redeem(request.query["ticket"], kind, request.match_info.get("id", ""))
        except ApiError as error:
            raise self._counted(error, address) from None
        return structs.replace(found, address=address)

    def _of_credential(self, request: web.Request, access: str) -> Principal:
        if access == "yeastar":
            return self._gate.check({}, {"token": request.query.get("access_token", "")}, _anonymous(request))
        if access not in ("token", "public"):
            from bridge.api.vendors import check_vendor_credential  # loaded with the routes of vendors

            return check_vendor_credential(request, access)
        return self._gate.check(token_cookies(request.headers.get("Cookie", "")), request.query, request.headers)

    def _passed_on(self, request: web.Request, _: str) -> Principal:
        identity, _, address = request.headers.get(PRINCIPAL_HEADER, "").partition(" ")
        found = _WITHOUT_TOKEN.get(identity)
        if found is None and self._gate.tokens is not None:
            found = self._gate.tokens.by_hash(identity)
        if found is None:
            from bridge.api.vendors import PRINCIPALS

            found = PRINCIPALS.get(identity)
        if found is None:  # revoked in the meantime
            raise ApiError(401, "INVALID_CREDENTIALS", "the token is no longer configured")
        return found if found is ANONYMOUS else structs.replace(found, address=address)

    def _counted(self, error: ApiError, address: str) -> ApiError:
        if error.status != 401 or error.reason == "AUTHENTICATION_REQUIRED":
            return error  # a request without a credential is not a guess
        self._counters.tokens_rejected += 1
        wait_s = self._refusals.add(address, time.monotonic())
        if not wait_s:
            return error
        return ApiError(
            429,
            "TOO_MANY_FAILURES",
            f"too many requests from {address or 'this client'} had no valid token; send a valid one",
            {"Retry-After": str(wait_s)},
        )


def _record_guess(request: web.Request, error: ApiError, address: str) -> None:
    """Record a request with an invalid credential on a public path, whose response does not reveal the rejection."""
    if error.status == 401 and error.reason != "AUTHENTICATION_REQUIRED":
        operation = request.app[OPERATIONS].get(request.match_info.handler)
        attempted = operation.route.operation if operation is not None else ""
        request.app[BACKEND].audit.reject(RejectionKind("", address, attempted, error.status, error.reason))


def _access_beside_routes(request: web.Request) -> str:
    """Return the credential that a request without a route needs: that of its path's routes, or of their vendor."""
    from bridge.api.vendors import vendor_of

    routes = (each.route for each in request.app[OPERATIONS].values())
    if any(each.path == request.path and each.access == "public" for each in routes):
        return "public"
    return vendor_of(request) or "token"


def _check_rights(principal: Principal, operation: Operation | None) -> None:
    if operation is None or operation.route.scope is None:
        return
    if operation.route.scope == "streams:listen" and principal.may("streams:speak"):
        return  # which of the two a stream needs depends on its directions: the route itself checks
    check_scope(principal, operation.route.scope)


def _anonymous(request: web.Request) -> dict[str, str]:
    return {name.title(): value for name, value in request.headers.items() if name.title() != "Authorization"}
