"""Move an accepted WebSocket request from aiohttp to a link.

aiohttp handles routes, tokens, errors and TLS on one port; the frame path does not pay for it: once a request is
accepted, its transport gets the link's protocol, and the head of the request is replayed to that protocol, which does
the WebSocket handshake itself. See docs/decisions/one-http-port.md.
"""

from __future__ import annotations

import asyncio

from aiohttp import web


def take_over(request: web.Request, protocol: asyncio.BaseProtocol) -> bool:
    """Move the connection of ``request`` to ``protocol``; the handler's own response is discarded afterwards.

    Args:
        request: the upgrade request.
        protocol: the link's protocol.

    Returns:
        False if the client has disconnected.
    """
    transport = request.transport
    if transport is None or transport.is_closing():
        return False
    http = request.protocol
    # In this order, or aiohttp closes the transport (aiohttp 3.14, web_protocol.connection_lost).
    http.transport = None
    http.connection_lost(None)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    feed(protocol, request_head(request))
    return True


def request_head(request: web.Request) -> bytes:
    """Return the request line and headers as received, without extensions, as links do not compress."""
    lines = [f"GET {request.raw_path} HTTP/1.1".encode()]
    lines += [
        name + b": " + value for name, value in request.raw_headers if name.lower() != b"sec-websocket-extensions"
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def feed(protocol: asyncio.BaseProtocol, data: bytes) -> None:
    """Pass ``data`` to ``protocol`` as a transport does."""
    if isinstance(protocol, asyncio.BufferedProtocol):
        while data:
            buffer = memoryview(protocol.get_buffer(len(data)))
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            protocol.buffer_updated(size)
            data = data[size:]
    elif isinstance(protocol, asyncio.Protocol):
        protocol.data_received(data)
