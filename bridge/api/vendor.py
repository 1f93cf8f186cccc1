"""What a vendor's route file declares: who its requests come from, how they are checked, and its format of errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiohttp import web
from msgspec import Struct

from bridge.access import Principal
from bridge.api.errors import ApiError
from bridge.api.routing import Route


class Vendor(Struct, frozen=True):
    """A vendor whose clients send requests to asterisk-bridge as to the vendor.

    Args:
        name: the value of ``access`` of its routes; capitalized, their chapter in the OpenAPI document.
        prefix: begins the paths whose errors have its format.
        served: returns whether an application has its routes.
        security: the OpenAPI security scheme of its credential.
        respond: returns an error in its format; None: the format of the API.
        principal: who its requests come from; None: a token is required.
        check: checks the vendor's own credential of a request; raises ApiError 401.
        stored_by_browsers: browsers send its credential with the requests of any page.
        routes: those that exist as soon as the vendor is configured.
    """

    name: str
    prefix: str
    served: Callable[[web.Application], bool]
    security: Mapping[str, str]
    respond: Callable[[web.Request, ApiError], web.Response] | None = None
    principal: Principal | None = None
    check: Callable[[web.Request], None] | None = None
    stored_by_browsers: bool = False
    routes: tuple[Route, ...] = ()
