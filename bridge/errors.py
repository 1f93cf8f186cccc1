"""The errors of the bridge. The type says whose fault it is.

    BridgeError
    +-- ConfigError             the administrator's: a key of the configuration is wrong
    +-- AriError                Asterisk refused or failed a request
    +-- AsteriskProtocolError   bytes on an AudioSocket connection that no Asterisk should send
    +-- ClientProtocolError     a WebSocket client sent what its dialect does not allow
    +-- Overloaded              a limit of ours is reached; trying again later may work
    +-- Revoked                 the token of a request was revoked before the request was carried out

Asterisk hanging up is not an error.
"""

from __future__ import annotations

from bridge.texts import cut


class BridgeError(Exception):
    """Base of every error that the bridge raises on purpose. Its text may hold what others sent, so it is cut."""

    def __init__(self, *texts: object) -> None:
        super().__init__(*(cut(text) if isinstance(text, str) else text for text in texts))


class ConfigError(BridgeError):
    """A key of the configuration is missing, unknown or wrong.

    Args:
        key: dotted name of the key, for example ``ari.url``.
        reason: what was wrong and what is expected.
    """

    def __init__(self, key: str, reason: str) -> None:
        Exception.__init__(self, f"{key}: {reason}")  # the administrator's own words, whole
        self.key = key
        self.reason = reason


class AriError(BridgeError):
    """An ARI request failed.

    Args:
        status: HTTP status of the answer; 0 when Asterisk could not be reached or did not answer in time.
        method: HTTP method of the request.
        path: path below ``/ari``, without the query (which may hold secrets).
        message: Asterisk's own words, or what went wrong on the way.
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
    """A limit is reached: nothing was started, nothing that runs was harmed.

    Args:
        reason: which limit.
        retry_after_s: when trying again may work, in seconds.
    """

    def __init__(self, reason: str, *, retry_after_s: int = 2) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Revoked(BridgeError):
    """The token of a request is no longer valid: it was revoked, or expired, after the request was admitted."""
