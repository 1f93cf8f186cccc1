"""Who may use the API: whoever knows a token or, where none is configured, programs of this machine.

Tokens come where VoIPBIN's clients put them: cookie ``token``, query ``token``, ``Authorization: Bearer``, cookie
``accesskey``, query ``accesskey``. Any of them that is right will do, so that a stale cookie spoils nothing.

Without tokens the bridge listens on loopback, but a browser on this machine runs pages of strangers, and these can
reach loopback too: directly (then ``Origin`` names the stranger) or through a host name of theirs that resolves to
127.0.0.1 (then ``Host`` does). Both are refused.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from bridge.api.errors import ApiError
from bridge.config import is_loopback

SECRET_PARAMETERS = ("token", "accesskey")
"""Names of query parameters that hold a secret."""


class Gate:
    """Lets requests pass or raises the error to answer.

    Args:
        tokens: the configured tokens; none: loopback only.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        self._tokens = [token.encode() for token in tokens]

    def check(
        self,
        cookies: Mapping[str, str],
        query: Mapping[str, str],
        headers: Mapping[str, str],
        *,
        changes: bool = False,
    ) -> None:
        """Check one request.

        Args:
            cookies: the request's cookies.
            query: the decoded query parameters.
            headers: the request's headers, keys of any case if the mapping does not mind.
            changes: whether the request's method is one that changes something.

        Raises:
            ApiError: 401 without a good token; 403 where no token is configured and the request is a stranger's, or
                where a page from elsewhere would change something by a cookie.
        """
        if not self._tokens:
            _check_local(headers)
            return
        offered = offered_tokens(cookies, query, headers.get("Authorization", ""))
        if not offered:
            raise ApiError(
                401,
                "AUTHENTICATION_REQUIRED",
                "a token is needed: ?token=..., the header Authorization: Bearer ..., or a cookie named token",
                {"WWW-Authenticate": "Bearer"},
            )
        if not self._any_good(offered):
            raise ApiError(
                401,
                "INVALID_CREDENTIALS",
                "the token is not one of those configured",
                {"WWW-Authenticate": 'Bearer error="invalid_token"'},
            )
        if changes and not self._any_good(offered_tokens({}, query, headers.get("Authorization", ""))):
            # A browser sends its cookies also for a page that knows no token.
            _check_origin(headers, "by a cookie, only pages of the bridge itself may change something")

    def _any_good(self, offered: Iterable[str]) -> bool:
        good = False
        for candidate in offered:
            for token in self._tokens:
                # No early exit: the time must not tell which token, or how much of it, was right. Surrogates, of
                # which odd bytes and escapes can be made, are in no token: passed on, they are simply wrong.
                good |= hmac.compare_digest(candidate.encode("utf-8", "surrogatepass"), token)
        return good


def offered_tokens(cookies: Mapping[str, str], query: Mapping[str, str], authorization: str) -> list[str]:
    """The tokens in a request, in VoIPBIN's order; what is empty does not count."""
    scheme, _, bearer = authorization.strip().partition(" ")
    found = [
        cookies.get("token", ""),
        _plus(query.get("token", "")),
        bearer.strip() if scheme.lower() == "bearer" else "",
        cookies.get("accesskey", ""),
        _plus(query.get("accesskey", "")),
    ]
    return [token for token in found if token]


def _plus(token: str) -> str:
    # A "+" that was not percent-encoded arrives as a space, and no token holds a space.
    return token.replace(" ", "+")


def _check_local(headers: Mapping[str, str]) -> None:
    host = headers.get("Host", "")
    if not is_loopback(_host_of("//" + host)):
        raise ApiError(
            403,
            "HOST_NOT_LOCAL",
            "no token is configured, so only this machine may ask, by the name localhost or a loopback address;"
            " configure http.tokens for anything else",
        )
    _check_origin(
        headers, "no token is configured, so web pages from elsewhere may not use the bridge; configure http.tokens"
    )


def _check_origin(headers: Mapping[str, str], message: str) -> None:
    origin = headers.get("Origin")
    navigated = headers.get("Sec-Fetch-Mode") == "navigate"
    from_elsewhere = headers.get("Sec-Fetch-Site") in ("cross-site", "same-site") and not navigated
    if from_elsewhere or (origin is not None and not _same_place(origin, headers.get("Host", ""))):
        raise ApiError(403, "ORIGIN_NOT_ALLOWED", message)


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _same_place(origin: str, host: str) -> bool:
    """Whether an ``Origin`` is the page that this server itself serves under ``host``."""
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
