"""The check of a WebSocket handshake."""

from __future__ import annotations

import base64
import binascii

from aiohttp import web

from bridge.api.errors import ApiError, invalid


def check_upgrade(request: web.Request) -> None:
    """Check that the request is a WebSocket handshake (RFC 6455 section 4.2.1).

    Raises:
        ApiError: 426 if it is not one or of another version, 400 if its key is invalid.
    """
    headers = request.headers
    connection = [part.strip().lower() for part in ",".join(headers.getall("Connection", ())).split(",")]
    if headers.get("Upgrade", "").strip().lower() != "websocket" or "upgrade" not in connection:
        raise ApiError(
            426,
            "WEBSOCKET_REQUIRED",
            "this path requires a WebSocket upgrade; connect with a ws:// or wss:// URL",
            {"Upgrade": "websocket", "Connection": "Upgrade"},
        )
    if headers.get("Sec-WebSocket-Version", "").strip() != "13":
        raise ApiError(
            426,
            "WEBSOCKET_VERSION",
            "the WebSocket version must be 13",
            {"Sec-WebSocket-Version": "13", "Upgrade": "websocket", "Connection": "Upgrade"},
        )
    try:
        nonce = base64.b64decode(headers.get("Sec-WebSocket-Key", "").strip(), validate=True)
    except (binascii.Error, ValueError):
        nonce = b""
    if len(nonce) != 16:
        raise invalid("INVALID_WEBSOCKET_KEY", "Sec-WebSocket-Key must be 16 bytes in base64")
