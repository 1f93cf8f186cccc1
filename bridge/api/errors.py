"""Errors of the API: one JSON shape for all of them.

The shape is VoIPBIN's: ``{"error": {"status", "reason", "message", "request_id"}}``. ``status`` is a broad class,
programs decide by ``reason``, and ``message`` is for people and may change.
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
    "INVALID_PAGE_TOKEN": (400, "page_token is not the next_page_token of an earlier response"),
    "INVALID_STREAM_OPTIONS": (400, "a parameter of the stream is wrong, unknown, missing or given twice"),
    "INVALID_EVENT_OPTIONS": (400, "`types` is invalid or given twice, or another parameter is given"),
    "INVALID_WEBSOCKET_KEY": (400, "the WebSocket handshake is invalid"),
    "INVALID_JSON": (400, "the body is not a JSON object, or too wide or too deep"),
    "INVALID_BODY": (400, "a key of the body is wrong, unknown or missing; the message names each"),
    "INVALID_FLOW": (400, "an action is unknown or has invalid options; the message names its index and key"),
    "INVALID_DESTINATION": (400, "a destination cannot be dialed; the message contains the reason"),
    "INVALID_SUBSCRIPTION": (400, "a key of the subscription is wrong; the message names each"),
    "INVALID_CONFERENCE": (400, "the id or the name is not valid for a conference"),
    "AUTHENTICATION_REQUIRED": (401, "the request has no token"),
    "INVALID_CREDENTIALS": (401, "the token is not a configured token"),
    "HOST_NOT_LOCAL": (403, "authentication is off, and the request is not for this machine"),
    "PROXY_NOT_ALLOWED": (403, "authentication is off, and the request came through a proxy"),
    "ORIGIN_NOT_ALLOWED": (403, "the request is that of a foreign web page and has no token of its own"),
    "SCOPE_MISSING": (403, "the token lacks the required scope; the message names both"),
    "TOKEN_LIMITED": (403, "the token's patterns or caller IDs do not allow this; the message names the limit"),
    "DESTINATION_NOT_ALLOWED": (403, "the configuration does not allow this destination or this caller ID"),
    "CALL_NOT_FOUND": (404, "no call has this id"),
    "GROUPCALL_NOT_FOUND": (404, "no group of calls has this id"),
    "FLOW_NOT_FOUND": (404, "no flow with this id is configured"),
    "RECORDING_NOT_FOUND": (404, "no recording has this id, or its file has been deleted"),
    "CONFERENCE_NOT_FOUND": (404, "no conference, or no participant of it, has this id"),
    "SUBSCRIPTION_NOT_FOUND": (404, "no subscription has this id"),
    "STATE_INVALID": (
        409,
        "the state of the call or conference does not allow this, or asterisk-bridge does not control it",
    ),
    "CONFERENCE_EXISTS": (409, "the id is in use"),
    "SOUND_UNAVAILABLE": (409, "a sound could not be fetched or is not audio; the message contains the reason"),
    "SPEECH_FAILED": (409, "the speech engine failed; the message contains the reason"),
    "SUBSCRIPTION_EXISTS": (409, "the id is in use"),
    "SUBSCRIPTION_CONFIGURED": (409, "the subscription is defined in the configuration file"),
    "SUBSCRIPTION_OF_YEASTAR": (409, "the subscription is managed by Yeastar's settings API"),
    "REQUEST_TIMEOUT": (408, "the body was not received in time"),
    "REQUEST_ENTITY_TOO_LARGE": (413, "the body is longer than this path allows"),
    "JSON_REQUIRED": (415, "the header Content-Type is not application/json, or its charset is not UTF-8"),
    "CONTENT_ENCODING_UNSUPPORTED": (415, "the body is compressed: the header Content-Encoding is not identity"),
    "WEBSOCKET_REQUIRED": (426, "this path requires a WebSocket upgrade"),
    "WEBSOCKET_VERSION": (426, "the WebSocket version is not 13"),
    "TOO_MANY_FAILURES": (429, "too many requests from this address had no valid token"),
    "OVERLOADED": (503, "a limit is reached; nothing was started"),
    "ASTERISK_UNREACHABLE": (503, "asterisk-bridge is not connected to Asterisk"),
    "ASTERISK_FAILED": (503, "Asterisk returned an error; the message contains it"),
    "STORE_UNREACHABLE": (503, "the cluster's store does not respond"),
    "STATE_NOT_KEPT": (503, "the change could not be saved to disk and was not made"),
}
"""The meaning of each reason, and its HTTP status. Errors that are not a route's own (404 and 405 for a wrong path or
method, 500 for an internal error) are not included."""


class ApiError(Exception):
    """An error response, raised anywhere below a route.

    Args:
        status: HTTP status.
        reason: uppercase word for programs, for example ``CALL_NOT_FOUND``.
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
    """Return an error 400: the request itself is wrong, in any state of the PBX."""
    return ApiError(400, reason, message)


def unavailable(reason: str, message: str, retry_after_s: int) -> ApiError:
    """Return an error 503: the same request may succeed after ``retry_after_s`` seconds."""
    return ApiError(503, reason, message, {"Retry-After": str(retry_after_s)})


def of_http_status(status: int, similar_path: str = "") -> ApiError:
    """Return the error behind a bare HTTP status, as the HTTP library answers a wrong path or method.

    Args:
        status: HTTP status of 400 or more.
        similar_path: the path that was probably intended; empty: unknown.
    """
    if status == 404:
        hint = f"; did you mean {similar_path[:160]!r}?" if similar_path else ""
        return ApiError(404, "RESOURCE_NOT_FOUND", f"this path does not exist{hint}")
    if status == 405:
        return ApiError(405, "METHOD_NOT_ALLOWED", "this path does not support this method")
    if status == 413:
        return ApiError(413, "REQUEST_ENTITY_TOO_LARGE", "the body is longer than this path allows")
    phrase = HTTPStatus(status).phrase
    return ApiError(status, phrase.upper().replace(" ", "_").replace("-", "_"), phrase.lower())


def error_body(error: ApiError, request_id: str) -> dict[str, dict[str, str]]:
    """Return the JSON body of an error."""
    return {
        "error": {
            "status": STATUS_WORDS.get(error.status, "INVALID_ARGUMENT" if error.status < 500 else "INTERNAL"),
            "reason": error.reason,
            "message": error.message,
            "request_id": request_id,
        }
    }
