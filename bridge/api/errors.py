"""What the API answers when it does not do what was asked: one JSON shape for every error.

The shape is VoIPBIN's: ``{"error": {"status", "reason", "message", "request_id"}}``. ``status`` is a broad class,
``reason`` is for programs to decide on, ``message`` is for people and may change.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

STATUS_WORDS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    408: "DEADLINE_EXCEEDED",
    409: "FAILED_PRECONDITION",
    413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    426: "UPGRADE_REQUIRED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


REASONS: Mapping[str, tuple[int, str]] = {
    "INVALID_QUERY": (400, "a parameter of the URL is wrong, unknown, missing or given twice"),
    "INVALID_PAGE_SIZE": (400, "page_size is wrong"),
    "INVALID_PAGE_TOKEN": (400, "page_token is not of an earlier answer"),
    "INVALID_STREAM_OPTIONS": (400, "a parameter of the stream is wrong, unknown, missing or given twice"),
    "INVALID_EVENT_OPTIONS": (400, "`types` is wrong, given twice, or there is another parameter"),
    "INVALID_WEBSOCKET_KEY": (400, "the WebSocket handshake is broken"),
    "INVALID_JSON": (400, "the body is no JSON object, or a too wide or deep one"),
    "INVALID_BODY": (400, "a key of the body is wrong, unknown or missing; the message names each"),
    "INVALID_FLOW": (400, "an action is unknown or has bad options; the message names its index and key"),
    "INVALID_DESTINATION": (400, "a destination cannot be dialed; the message says why"),
    "INVALID_SUBSCRIPTION": (400, "a key of the subscription is wrong; the message names each"),
    "INVALID_CONFERENCE": (400, "the id or the name cannot be a conference's"),
    "AUTHENTICATION_REQUIRED": (401, "there is no token in the request"),
    "INVALID_CREDENTIALS": (401, "the token is not one of those configured"),
    "HOST_NOT_LOCAL": (403, "authentication is off, and the request is not for this machine"),
    "PROXY_NOT_ALLOWED": (403, "authentication is off, and the request came through a proxy"),
    "ORIGIN_NOT_ALLOWED": (403, "a foreign web page sends the request, without a token of its own"),
    "SCOPE_MISSING": (403, "the token lacks the scope that this needs; the message names both"),
    "TOKEN_LIMITED": (403, "the token's patterns or caller IDs do not allow this; the message says which"),
    "DESTINATION_NOT_ALLOWED": (403, "the configuration does not allow this destination or this caller ID"),
    "CALL_NOT_FOUND": (404, "no call has this id"),
    "GROUPCALL_NOT_FOUND": (404, "no group of calls has this id"),
    "FLOW_NOT_FOUND": (404, "no flow with this id is configured"),
    "RECORDING_NOT_FOUND": (404, "no recording has this id, or its file is gone"),
    "CONFERENCE_NOT_FOUND": (404, "no conference, or no participant of it, has this id"),
    "SUBSCRIPTION_NOT_FOUND": (404, "no subscription has this id"),
    "STATE_INVALID": (409, "the call or conference is not in a state in which this can be done, or is not ours"),
    "CONFERENCE_EXISTS": (409, "the id is taken"),
    "SOUND_UNAVAILABLE": (409, "a sound could not be fetched or is none; the message says why"),
    "SPEECH_FAILED": (409, "the speech engine does not say this; the message says why"),
    "SUBSCRIPTION_EXISTS": (409, "the id is taken"),
    "SUBSCRIPTION_CONFIGURED": (409, "the subscription is the configuration file's"),
    "SUBSCRIPTION_OF_YEASTAR": (409, "the subscription is set by Yeastar's settings calls"),
    "REQUEST_TIMEOUT": (408, "the body was not received in time"),
    "REQUEST_ENTITY_TOO_LARGE": (413, "the body is longer than this path allows"),
    "JSON_REQUIRED": (415, "the header Content-Type does not say application/json, or names a charset but UTF-8"),
    "CONTENT_ENCODING_UNSUPPORTED": (415, "the body is compressed: the header Content-Encoding is not identity"),
    "WEBSOCKET_REQUIRED": (426, "the request is good, but this path speaks WebSocket"),
    "WEBSOCKET_VERSION": (426, "only version 13 of WebSocket is spoken"),
    "TOO_MANY_FAILURES": (429, "too many requests of this address had no good token"),
    "OVERLOADED": (503, "a limit is reached; nothing was begun"),
    "ASTERISK_UNREACHABLE": (503, "the bridge has no connection to Asterisk at the moment"),
    "ASTERISK_FAILED": (503, "Asterisk did not do it; the message has its words"),
    "STORE_UNREACHABLE": (503, "the store that the bridges share does not answer"),
    "STATE_NOT_KEPT": (503, "the change could not be kept on disk, so it was not made"),
}
"""What each reason means, and its HTTP status. Answers that no route decides on (404 and 405 for a wrong path or
method, 500 for a fault of the bridge) are not among them."""


class ApiError(Exception):
    """An answer other than success, raised anywhere below a route.

    Args:
        status: HTTP status.
        reason: upper-case word for programs, for example ``CALL_NOT_FOUND``.
        message: what is wrong and what is expected; never a secret.
        headers: more HTTP headers.
    """

    def __init__(self, status: int, reason: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.headers = dict(headers or {})


def invalid(reason: str, message: str) -> ApiError:
    """400: the request itself is wrong, whatever the state of the PBX."""
    return ApiError(400, reason, message)


def unavailable(reason: str, message: str, retry_after_s: int) -> ApiError:
    """503: the same request may succeed after ``retry_after_s`` seconds."""
    return ApiError(503, reason, message, {"Retry-After": str(retry_after_s)})


def of_http_status(status: int, similar_path: str = "") -> ApiError:
    """Return the error behind a bare HTTP status, as the HTTP library answers a wrong path or method.

    Args:
        similar_path: the path that was probably meant; empty: unknown.
    """
    if status == 404:
        hint = f"; did you mean {similar_path[:160]!r}?" if similar_path else ""
        return ApiError(404, "RESOURCE_NOT_FOUND", f"there is nothing at this path{hint}")
    if status == 405:
        return ApiError(405, "METHOD_NOT_ALLOWED", "this path does not know that method")
    if status == 413:
        return ApiError(413, "REQUEST_ENTITY_TOO_LARGE", "the body is longer than this path allows")
    phrase = HTTPStatus(status).phrase
    return ApiError(status, phrase.upper().replace(" ", "_").replace("-", "_"), phrase.lower())


def error_body(error: ApiError, request_id: str) -> dict[str, dict[str, str]]:
    """The JSON body of an error."""
    return {
        "error": {
            "status": STATUS_WORDS.get(error.status, "INVALID_ARGUMENT" if error.status < 500 else "INTERNAL"),
            "reason": error.reason,
            "message": error.message,
            "request_id": request_id,
        }
    }
