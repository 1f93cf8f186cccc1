"""Request bodies: JSON objects, parsed strictly, within limits of size, time, width and depth.

A JSON parser and pydantic hold Python's global lock until they are done, in a thread too. The work that a body can
cause is therefore bounded by counting before it is parsed, not moved to a thread.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web
from msgspec import Struct

from bridge import json_shape
from bridge.api.errors import ApiError, invalid

MAX_DEPTH = 32
"""Deepest nesting of objects and lists."""
MAX_KEYS = 200
"""Keys of the body itself: more than any model has, with room for what a client adds by mistake."""
MAX_FORM_FIELDS = 100
MAX_TYPE_CHARACTERS = 200
"""Length of the header ``Content-Type``."""
LARGEST_BYTES = 1 << 19
"""The limit of a body's size on any route."""
READ_S = 30.0
"""How long a client may take to send its body."""

_UTF8 = ("", "utf-8", "utf8", "us-ascii")
"""Charsets that are UTF-8. Some of Python's others take quadratic time to decode."""


class BodyLimits(Struct, frozen=True):
    """Limits of a route's body.

    Args:
        size: bytes.
        values: number of values in its objects and lists, these included.
    """

    size: int = 200_000
    values: int = 2_000


USUAL = BodyLimits()
"""Limits of most routes."""


def check_encoding(request: web.Request) -> None:
    """Reject a body that would have to be decompressed.

    Args:
        request: only its headers are used.

    Raises:
        ApiError: 415, ``Content-Encoding`` is not identity.
    """
    values = request.headers.getall("Content-Encoding", ())
    codings = {coding.strip().lower() for value in values for coding in value.split(",")}
    if codings - {"", "identity"}:
        raise ApiError(
            415,
            "CONTENT_ENCODING_UNSUPPORTED",
            "request bodies must not be compressed: send the body without the header Content-Encoding",
            {"Accept-Encoding": "identity"},
        )


async def whole_body(request: web.Request, size: int = LARGEST_BYTES) -> bytes:
    """Read the body of a request, which also stores it.

    Args:
        request: the request.
        size: the largest allowed size in bytes.

    Raises:
        ApiError: 400 if it is incomplete or not well-formed HTTP, 408 if it takes too long, 413 if it is too long.
    """
    if (request.content_length or 0) > size:
        raise _too_large(size)
    try:
        async with asyncio.timeout(READ_S):
            body = await request.read()
    except TimeoutError:
        raise ApiError(408, "REQUEST_TIMEOUT", f"the body was not received within {READ_S:g} s") from None
    except web.HTTPRequestEntityTooLarge:
        raise _too_large(size) from None
    except (web.RequestPayloadError, ConnectionError):
        raise invalid("INVALID_JSON", "the body is incomplete or not well-formed HTTP") from None
    if len(body) > size:
        raise _too_large(size)
    return body


async def json_object(request: web.Request, limits: BodyLimits = USUAL) -> dict[str, Any]:
    """Read the body of a request as a JSON object.

    Args:
        request: the request.
        limits: limits of its body.

    Raises:
        ApiError: 415 if its type is not JSON in UTF-8, 400 if it is not a JSON object or too wide or deep, and the
            errors of `whole_body`.
    """
    # Also a protection: a foreign page cannot send this type without the browser's preflight request.
    if not has_type(request, "application/json") or not is_utf8(request):
        raise ApiError(
            415, "JSON_REQUIRED", "the body must be JSON in UTF-8, with the header Content-Type: application/json"
        )
    data = await whole_body(request, limits.size)
    try:
        text = data.decode()
    except ValueError as error:
        raise _not_json(error) from None
    return parsed(text, limits)


def parsed(text: str, limits: BodyLimits) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        text: the complete body.
        limits: limits of what it contains.

    Raises:
        ApiError: 400, it is not a JSON object, or too wide or deep.
    """
    check_shape(text, limits.values)
    try:
        body = json_shape.strict_json(text)
    except ValueError as error:
        raise _not_json(error) from None
    if not isinstance(body, dict):
        raise invalid("INVALID_JSON", "the body must be a JSON object: {...}")
    if len(body) > MAX_KEYS:
        raise invalid("INVALID_JSON", f"the body has {len(body)} keys; expected at most {MAX_KEYS}")
    return body


def has_type(request: web.Request, wanted: str) -> bool:
    """Return whether the body has a media type; to be called before anything else reads ``Content-Type``."""
    # A mail parser reads it, in quadratic time for its parameters: half a second for the longest header.
    if len(request.headers.get("Content-Type", "")) > MAX_TYPE_CHARACTERS:
        return False
    return request.content_type == wanted


def is_utf8(request: web.Request) -> bool:
    """Return whether the body's charset is UTF-8 or omitted."""
    return (request.charset or "").lower() in _UTF8


def check_shape(text: str, values: int) -> None:
    """Count the values of a JSON document without parsing it.

    Args:
        text: JSON, or any other string.
        values: the largest allowed number of values.

    Raises:
        ApiError: 400, it has more, or they are nested too deeply.
    """
    try:
        json_shape.check_shape(text, values, MAX_DEPTH)
    except ValueError as problem:
        raise invalid("INVALID_JSON", f"the body {problem}") from None


def _not_json(error: Exception) -> ApiError:
    return invalid("INVALID_JSON", f"the body is not valid JSON: {str(error)[:200]}")


def _too_large(size: int) -> ApiError:
    return ApiError(413, "REQUEST_ENTITY_TOO_LARGE", f"the body is longer than {size} bytes")
