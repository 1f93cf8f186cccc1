"""What requests carry: JSON objects, read strictly and within limits of size, time, width and depth.

A JSON parser and pydantic hold Python's global lock until they are done, in a thread too: so the work that a body can
make is bounded by counting before it is parsed, not moved elsewhere.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from aiohttp import web

from bridge import json_shape
from bridge.api.errors import ApiError, invalid

MAX_DEPTH = 32
"""Objects and lists within each other."""
MAX_KEYS = 200
"""Keys of the body itself: more than any model has, with room for what a client adds by mistake."""
MAX_DIGITS = 100
"""Digits of an integer: reading one takes time in the square of them."""
MAX_FORM_FIELDS = 100
MAX_TYPE_CHARACTERS = 200
"""Of the header ``Content-Type``."""
LARGEST_BYTES = 1 << 19
"""No body is longer than this, whatever its route."""
READ_S = 30.0
"""How long a client may take to send its body."""

_HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""Half of a character beyond U+FFFF: alone it is none, and cannot be written to anywhere."""
_UTF8 = ("", "utf-8", "utf8", "us-ascii")
"""Charsets that are UTF-8. Python's others include some whose decoding takes time in the square of the length."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How large the body of a route may be.

    Args:
        size: bytes.
        values: what its objects and lists hold, these included.
    """

    size: int = 200_000
    values: int = 2_000


USUAL = Limits()
"""What most routes need."""


def check_encoding(request: web.Request) -> None:
    """Reject a body that would have to be decompressed.

    Args:
        request: only its headers are looked at.

    Raises:
        ApiError: 415, ``Content-Encoding`` names anything but identity.
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
    """Read the body of a request; it stays known to the request.

    Args:
        request: whose body.
        size: how many bytes it may have.

    Raises:
        ApiError: 400 if it breaks off or is not well-formed HTTP, 408 if it takes too long, 413 if it is too long.
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
        raise invalid("INVALID_JSON", "the body breaks off or is not well-formed HTTP") from None
    if len(body) > size:
        raise _too_large(size)
    return body


async def json_object(request: web.Request, limits: Limits = USUAL) -> dict[str, Any]:
    """Read the body of a request as a JSON object.

    Args:
        request: whose body.
        limits: how large it may be.

    Raises:
        ApiError: 415 if its type is not JSON in UTF-8, 400 if it is not a JSON object or too wide or deep; and as
            `whole_body`.
    """
    # Also a protection: a page from elsewhere cannot send this type without the browser asking us first.
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


def parsed(text: str, limits: Limits) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        text: the whole of it.
        limits: how much it may hold.

    Raises:
        ApiError: 400, it is not one, or too wide or deep.
    """
    check_shape(text, limits.values)
    try:
        body = json.loads(text, parse_constant=_no_number, parse_int=_integer)
        if _HALF.search(text):
            json.dumps(body, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise _not_json(error) from None
    if not isinstance(body, dict):
        raise invalid("INVALID_JSON", "the body must be a JSON object: {...}")
    if len(body) > MAX_KEYS:
        raise invalid("INVALID_JSON", f"the body has {len(body)} keys; expected at most {MAX_KEYS}")
    return body


def has_type(request: web.Request, wanted: str) -> bool:
    """Return whether the body has a media type; ask before anything else that reads the header ``Content-Type``."""
    # It is read by a parser of mail, in the square of its parameters' number: half a second for as long as it may be.
    if len(request.headers.get("Content-Type", "")) > MAX_TYPE_CHARACTERS:
        return False
    return request.content_type == wanted


def is_utf8(request: web.Request) -> bool:
    """Return whether the body's charset is UTF-8, or not given."""
    return (request.charset or "").lower() in _UTF8


def check_shape(text: str, values: int) -> None:
    """Count what a JSON text holds, without parsing it.

    Args:
        text: JSON, or anything else.
        values: how many values it may hold.

    Raises:
        ApiError: 400, it holds more, or they are nested too deeply.
    """
    try:
        json_shape.check_shape(text, values, MAX_DEPTH)
    except ValueError as problem:
        raise invalid("INVALID_JSON", f"the body {problem}") from None


def _not_json(error: Exception) -> ApiError:
    return invalid("INVALID_JSON", f"the body is no JSON: {str(error)[:200]}")


def _too_large(size: int) -> ApiError:
    return ApiError(413, "REQUEST_ENTITY_TOO_LARGE", f"the body is longer than {size} bytes")


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number has more than {MAX_DIGITS} digits")
    return int(text)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")
