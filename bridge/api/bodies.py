"""What requests carry: JSON objects, read strictly."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from aiohttp import web

from bridge.api.errors import ApiError, invalid

_HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""Half of a character beyond U+FFFF: alone it is none, and cannot be written to anywhere."""

MASK = "********"
"""What is shown in the place of a secret; sent back, it means: leave the secret as it is."""


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


async def json_object(request: web.Request) -> dict[str, Any]:
    """The body of a request.

    Raises:
        ApiError: 415 if it does not say that it is JSON, 400 if it is none or no object, 413 if it is too long.
    """
    # Also a protection: a page from elsewhere cannot send this type without the browser asking us first.
    if request.content_type != "application/json":
        raise ApiError(415, "JSON_REQUIRED", "the body must be JSON, with the header Content-Type: application/json")
    try:
        text = await request.text()
        body = json.loads(text, parse_constant=_no_number)
        if _HALF.search(text):
            json.dumps(body, ensure_ascii=False).encode()
    except (ValueError, RecursionError, LookupError) as error:
        raise invalid("INVALID_JSON", f"the body is no JSON: {str(error)[:200]}") from None
    if not isinstance(body, dict):
        raise invalid("INVALID_JSON", "the body must be a JSON object: {...}")
    return body


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")
