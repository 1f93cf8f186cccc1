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
    409: "FAILED_PRECONDITION",
    413: "INVALID_ARGUMENT",
    426: "UPGRADE_REQUIRED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


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


def of_http_status(status: int) -> ApiError:
    """The error behind a bare HTTP status, as the HTTP library answers a wrong path or method."""
    if status == 404:
        return ApiError(404, "RESOURCE_NOT_FOUND", "there is nothing at this path")
    if status == 405:
        return ApiError(405, "METHOD_NOT_ALLOWED", "this path does not know that method")
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
