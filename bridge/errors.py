"""The errors of the product. The type shows who caused it.

    BridgeError
    +-- ConfigError             the administrator: a key of the configuration is invalid
    +-- AriError                Asterisk rejected a request, or it failed
    +-- AsteriskProtocolError   bytes on an AudioSocket connection that no Asterisk should send
    +-- ClientProtocolError     a WebSocket client sent what its dialect does not allow
    +-- Overloaded              a limit is reached; trying again later may work
    +-- Revoked                 the token of a request was revoked before the request was executed

Asterisk hanging up is not an error.
"""

from __future__ import annotations

from bridge.texts import cut


class BridgeError(Exception):
    """Base of every error that is raised on purpose. Its message may contain received text, so it is cut."""

    def __init__(self, *texts: object) -> None:
        super().__init__(*(cut(text) if isinstance(text, str) else text for text in texts))


class ConfigError(BridgeError):
    """A key of the configuration is missing, unknown or invalid.

    Args:
        key: dotted name of the key, for example ``ari.url``.
        reason: what is wrong and what is expected.
    """

    def __init__(self, key: str, reason: str) -> None:
        Exception.__init__(self, f"{key}: {reason}")  # from the administrator's own file, not cut
        self.key = key
        self.reason = reason


class AriError(BridgeError):
    """An ARI request failed.

    Args:
        status: HTTP status of the response; 0 if Asterisk was not reachable or did not respond in time.
        method: HTTP method of the request.
        path: path below ``/ari``, without the query (which may hold secrets).
        message: Asterisk's message, or why there is no response.
    """

    def __init__(self, status: int, method: str, path: str, message: str) -> None:
        super().__init__(f"{method} {path}: {status or 'no answer'}: {message}")
        self.status = status
        self.method = method
        self.path = path
        self.message = cut(message)


class AsteriskProtocolError(BridgeError):
    """Asterisk (or something that connected in its place) broke the AudioSocket protocol."""


class ClientProtocolError(BridgeError):
    """A WebSocket client broke the rules of its dialect badly enough to end its stream."""


class Overloaded(BridgeError):
    """A limit is reached: nothing was started, and nothing active is affected.

    Args:
        reason: the limit.
        retry_after_s: after how many seconds trying again may work.
    """

    def __init__(self, reason: str, *, retry_after_s: int = 2) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Revoked(BridgeError):
    """The token of a request is no longer valid: it was revoked, or expired, after the request was admitted."""
