"""Authentication: finds the principal of a request, or rejects it.

Tokens are accepted where VoIPBIN's clients send them: cookie ``token``, query ``token``, ``Authorization: Bearer``,
cookie ``accesskey``, query ``accesskey``. Every token in header and query must be valid, and the first one is used: a
client that sends an invalid one is misconfigured. Cookies are used only if there are no others, so a stale cookie does
no harm, and only in requests from asterisk-bridge's own pages and from programs that are not browsers: a browser adds
cookies to the requests of any page, WebSockets included.

Without authentication the port listens on loopback, but a browser on this machine runs untrusted pages, which reach
loopback too: directly (then ``Origin`` is foreign) or through a host name that resolves to 127.0.0.1 (then ``Host``
is). A reverse proxy on this machine would admit anyone. All three are rejected.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from bridge.access import Principal
from bridge.api.address import FORWARDED
from bridge.api.errors import ApiError
from bridge.api.tokens import Tokens, expired
from bridge.config import is_loopback

SECRET_PARAMETERS = ("token", "accesskey", "ticket")
"""Names of query parameters that hold a secret."""
TOKEN_COOKIES = ("token", "accesskey")
LOCAL = Principal("local")
"""Programs of this machine, where authentication is off."""


class Authenticator:
    """Finds the principal of a request, or raises the error to respond with.

    Args:
        tokens: the valid tokens; None: authentication is off, for loopback only.
        clock: seconds since 1970.
    """

    def __init__(self, tokens: Tokens | None, clock: Callable[[], float] = time.time) -> None:
        self.tokens = tokens
        self._clock = clock

    def check(self, cookies: Mapping[str, str], query: Mapping[str, str], headers: Mapping[str, str]) -> Principal:
        """Find the principal of one request.

        Args:
            cookies: the request's cookies.
            query: the decoded query parameters.
            headers: the request's headers; keys of any case if the mapping ignores it.

        Returns:
            The principal, without an address.

        Raises:
            ApiError: 401 without a valid token; 403 for the request of a foreign web page that has only a cookie, or
                where authentication is off, also for one that is not of this machine or came through a proxy.
        """
        if self.tokens is None:
            _check_local(headers)
            return LOCAL
        shown = offered_tokens({}, query, headers.get("Authorization", ""))
        kept = [token for name in TOKEN_COOKIES if (token := cookies.get(name, ""))]
        if not shown and not kept:
            raise ApiError(
                401,
                "AUTHENTICATION_REQUIRED",
                "this request needs a token: ?token=..., the header Authorization: Bearer ..., or a cookie named token",
                {"WWW-Authenticate": "Bearer"},
            )
        found = self._all_good(shown) if shown else self._first_good(kept)
        if not shown:
            check_origin(headers, "cookies are accepted only from asterisk-bridge's own pages; send the token itself")
        return found

    def check_shown(self, query: Mapping[str, str], headers: Mapping[str, str]) -> None:
        """Check the tokens of a request that has a ticket and therefore needs none.

        Raises:
            ApiError: 401, one of them is invalid.
        """
        if self.tokens is not None and (shown := offered_tokens({}, query, headers.get("Authorization", ""))):
            self._all_good(shown)

    def accepts(self, principal: Principal) -> bool:
        """Return whether a principal that was found earlier still has a valid token."""
        return self.tokens is None or self.tokens.accept(principal, self._clock())

    def _all_good(self, shown: list[str]) -> Principal:
        """Return the principal of the first of these tokens; raise 401 if any of them is invalid."""
        assert self.tokens is not None
        holders = [self.tokens.find([token]) for token in shown]
        for place, holder in enumerate(holders, 1):
            if self._valid(holder) is None:
                which = "the token" if len(shown) == 1 else f"token {place} of the {len(shown)} in header and query"
                raise _invalid(which, holder)
        found = holders[0]
        assert found is not None
        return found

    def _first_good(self, kept: list[str]) -> Principal:
        """Return the principal of the first valid token in cookies; raise 401 if there is none."""
        assert self.tokens is not None
        holders = [self.tokens.find([token]) for token in kept]
        found = next((each for each in holders if self._valid(each) is not None), None)
        if found is None:
            raise _invalid("the token", next((each for each in holders if each is not None), None))
        return found

    def _valid(self, principal: Principal | None) -> Principal | None:
        return None if principal is None or expired(principal.grant, self._clock()) else principal


def _invalid(which: str, holder: Principal | None) -> ApiError:
    """Return the error for a token that is unknown, or that of ``holder`` and expired."""
    return ApiError(
        401,
        "INVALID_CREDENTIALS",
        f"{which} has expired" if holder is not None else f"{which} is not a configured token",
        {"WWW-Authenticate": 'Bearer error="invalid_token"'},
    )


def token_cookies(header: str) -> dict[str, str]:
    """Return the cookies that may hold a token, by name; the last one of several with one name.

    A library's parser creates an object per cookie: 20 ms for as many as a header holds, before any token is checked.

    Args:
        header: ``Cookie``.
    """
    found: dict[str, str] = {}
    for part in header.split(";"):
        name, _, value = part.partition("=")
        if (name := name.strip()) in TOKEN_COOKIES:
            found[name] = value.strip().removeprefix('"').removesuffix('"')
    return found


def offered_tokens(cookies: Mapping[str, str], query: Mapping[str, str], authorization: str) -> list[str]:
    """Return the tokens in a request, in VoIPBIN's order, without empty ones."""
    scheme, _, bearer = authorization.strip().partition(" ")
    found = [
        cookies.get("token", ""),
        _plus(query.get("token", "")),
        bearer.strip() if scheme.lower() == "bearer" else "",
        cookies.get("accesskey", ""),
        _plus(query.get("accesskey", "")),
    ]
    return [token for token in found if token]


def check_origin(headers: Mapping[str, str], message: str, *, navigation: bool = False) -> None:
    """Reject the requests of foreign web pages.

    Args:
        headers: the request's headers.
        message: the message of the rejection.
        navigation: whether a link on a foreign page is allowed.

    Raises:
        ApiError: 403.
    """
    origin = headers.get("Origin")
    followed = navigation and headers.get("Sec-Fetch-Mode") == "navigate"
    foreign = headers.get("Sec-Fetch-Site") in ("cross-site", "same-site") and not followed
    if foreign or (origin is not None and not _is_own(origin, headers.get("Host", ""))):
        raise ApiError(403, "ORIGIN_NOT_ALLOWED", message)


def _plus(token: str) -> str:
    # A "+" that was not percent-encoded arrives as a space, and no token holds a space.
    return token.replace(" ", "+")


def _check_local(headers: Mapping[str, str]) -> None:
    host = headers.get("Host", "")
    if not is_loopback(_host_of("//" + host)):
        raise ApiError(
            403,
            "HOST_NOT_LOCAL",
            "http.authentication is false, so only this machine may send requests, to localhost or a loopback address;"
            " set http.authentication to true and send a token",
        )
    passed_on = [name for name in FORWARDED if name in headers]
    if passed_on:
        raise ApiError(
            403,
            "PROXY_NOT_ALLOWED",
            f"the request came through a proxy ({passed_on[0]}), and http.authentication is false: any client of the"
            " proxy could control the PBX; set http.authentication to true and send a token",
        )
    check_origin(
        headers,
        "http.authentication is false, so foreign web pages are rejected; set it to true and send a token",
        navigation=True,
    )


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_own(origin: str, host: str) -> bool:
    """Return whether an ``Origin`` is that of the pages that this server serves under ``host``."""
    try:
        parts, ours = urlsplit(origin), urlsplit("//" + host)
        default = {"http": 80, "https": 443}.get(parts.scheme)
        return (
            default is not None
            and parts.hostname == ours.hostname
            and (parts.port or default) == (ours.port or default)
        )
    except ValueError:
        return False
