"""aiohttp's protocol of one connection, with additional bounds and without version numbers in its responses."""

from __future__ import annotations

import asyncio
import logging
from typing import cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import _ErrInfo

SERVER = "asterisk-bridge"
"""The ``Server`` header: without the version of the program, Python, or a library."""
LINGER_S = 2.0
"""How long the rest of a request body is read, and discarded, after the response: a client that sends its whole body
before it reads would otherwise lose the response to a connection reset."""
IDLE_S = 10.0
"""How long a connection may take for its TLS handshake, for a whole request head, and until its next request."""

MAX_ERROR_CHARACTERS = 300
"""How much of the description of a malformed request is returned to the client."""
MAX_UNSENT_BYTES = 32768
"""Bytes that may wait for a client before a handler waits too; whatever a handler writes in one call is added."""

MAX_AHEAD_BYTES = 65536
"""Bytes of a head, and of pipelined requests, that may arrive before a request is handled; its body does not count."""


PIECE_BYTES = 4096
"""How much of a block is parsed in one step on a WebSocket that stays with this server: a block of 256 KiB could hold
40,000 empty frames. Streams have protocols of their own."""


class Protocol(web.RequestHandler):
    """Parses the requests of one connection.

    aiohttp bounds a request line and each header (8190 bytes), the number of headers (128), and the number of waiting
    requests (32), which together may be 32 MiB of a client without a token. Pipelined data is therefore bounded as
    well.

    Args:
        server: what handles the requests.
    """

    __slots__ = ("_ahead_bytes", "_body", "_malformed", "_pieces")

    def __init__(self, server: web.Server) -> None:
        self._malformed = False
        self._ahead_bytes = 0
        self._pieces = b""  # of a WebSocket, not yet parsed
        self._body: StreamReader = EMPTY_PAYLOAD  # of the request that was parsed last
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=cast(logging.Logger, None),  # aiohttp's own writes the query, and with it tokens
            logger=_LOG,
            # aiohttp closes with it a connection without a whole head by then, counted from the connection or from
            # the last answer (3.14, web_protocol.connection_made).
            keepalive_timeout=IDLE_S,
            lingering_time=LINGER_S,
            # aiohttp would decompress as data arrives, on the loop that carries audio: 1 byte can become 1000.
            auto_decompress=False,
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to parse; overrides aiohttp's."""
        cast(asyncio.WriteTransport, transport).set_write_buffer_limits(high=MAX_UNSENT_BYTES)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Drop the references to this protocol, the last body and a WebSocket; overrides aiohttp's."""
        super().connection_lost(exc)
        self._body, self._data_received_cb = EMPTY_PAYLOAD, None

    def data_received(self, data: bytes) -> None:
        """Parse received data, up to the first error; overrides aiohttp's, which continues after it.

        Each error of aiohttp's holds the received block, up to 256 KiB, in a cycle of references that ends only at a
        rare full garbage collection, and repeats it in its message, which becomes the response.
        """
        if self._malformed:
            return
        if self._upgraded and self._payload_parser is not None and (self._pieces or len(data) > PIECE_BYTES):
            if not self._pieces:
                asyncio.get_running_loop().call_soon(self._parse_piece)
            self._pieces += data
            cast(asyncio.ReadTransport, self.transport).pause_reading()
            return
        if self._upgraded and self._payload_parser is None:
            self.close()  # after the response
            return
        if not self._upgraded and self._body.is_eof():
            # Checked before the block is counted: it may bring a whole request with a long body.
            if data and self._ahead_bytes > MAX_AHEAD_BYTES:
                self._abort()
                return
            self._ahead_bytes += len(data)
        super().data_received(data)
        if self._upgraded and self._message_tail:
            # Clients must not send before the upgrade response. aiohttp would store it, and parse it if it is declined.
            self._message_tail = b""
            self.close()
        if not self._messages:
            return
        last, self._body = self._messages[-1]
        if isinstance(last, _ErrInfo):
            self._malformed = True
            last.exc.__traceback__ = None
            short = _ErrInfo(last.status, last.exc, last.message[:MAX_ERROR_CHARACTERS])
            self._messages[-1] = (short, self._body)

    def _parse_piece(self) -> None:
        piece, self._pieces = self._pieces[:PIECE_BYTES], self._pieces[PIECE_BYTES:]
        if self.transport is None:
            self._pieces = b""
            return
        super().data_received(piece)
        if self._pieces:
            asyncio.get_running_loop().call_soon(self._parse_piece)
        elif self.transport is not None:
            cast(asyncio.ReadTransport, self.transport).resume_reading()

    def begin(self) -> None:
        """Begin to handle a request: data received up to now is not ahead of it."""
        self._ahead_bytes = 0

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Respond to data that is not HTTP; overrides aiohttp's."""
        response = super().handle_error(request, status, exc, message)
        response.headers["Server"] = SERVER
        return response


def _is_no_malformed_request(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_LOG = logging.getLogger("bridge.api.http")
"""Where aiohttp reports errors, but not malformed requests: they would be logged completely, with any tokens."""
_LOG.addFilter(_is_no_malformed_request)
