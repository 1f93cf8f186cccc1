"""Links on picows: the fast path. Its callback API costs a third of a task and a queue per message."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping

from picows import (
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from picows.picows import WSAutoPingStrategy
from picows.picows import WSProtocol as _WSProtocol  # type: ignore[attr-defined]  # what ws_create_server makes

from bridge.dialects.base import Message
from bridge.media.counters import Counters
from bridge.media.websocket import FRAGMENT_BYTES, MAX_TEXT_BYTES, MIN_FRAGMENTS, SMALL_BYTES, Link

# Looking up an enum's member takes longer than comparing it, and `is` is the fastest comparison.
_BINARY, _TEXT, _CONTINUATION = WSMsgType.BINARY, WSMsgType.TEXT, WSMsgType.CONTINUATION
_CLOSE, _PING = WSMsgType.CLOSE, WSMsgType.PING

log = logging.getLogger(__name__)

READ_BYTES = 16384
"""Limit of one read, in bytes.

picows would double its buffer as long as the peer fills it, and deliver hundreds of thousands of small frames in one
call.
"""

_NO_CODE, _NO_CLOSE = 1005, 1006
"""Codes of RFC 6455 for a Close frame without a code, and for none; never sent."""

_SUBPROTOCOL = "Sec-WebSocket-Protocol"

_get_buffer = _WSProtocol.get_buffer


class PicowsLink(Link):
    """A WebSocket framed by picows, accepted or opened."""

    __slots__ = ("_end_of_dialed", "_max_message_bytes", "_max_text_bytes", "_transport")

    def __init__(
        self,
        counters: Counters,
        *,
        max_unsent_ms: int,
        ping_interval_s: float,
        max_message_bytes: int,
        max_text_bytes: int = MAX_TEXT_BYTES,
    ) -> None:
        super().__init__(counters, max_unsent_ms=max_unsent_ms, ping_interval_s=ping_interval_s)
        self._max_message_bytes = max_message_bytes
        self._max_text_bytes = min(max_text_bytes, max_message_bytes)
        self._transport: WSTransport | None = None
        self._end_of_dialed: asyncio.Task[None] | None = None

    def protocol(self, subprotocol: str = "") -> asyncio.BufferedProtocol:
        """Return the protocol for a transport whose next bytes are the upgrade request.

        Args:
            subprotocol: the WebSocket subprotocol to accept if the client offers it; empty: none.
        """
        return self._new_protocol(is_client=False, handshake_timeout_s=5, subprotocol=subprotocol)

    def client_protocol(self, authority: str, resource: str, headers: Mapping[str, str]) -> asyncio.BufferedProtocol:
        """Return the protocol for a transport to a server; it sends the upgrade request, and waits without a limit.

        Args:
            authority: for the Host header.
            resource: path and query.
            headers: further headers of the request.
        """
        return self._new_protocol(authority, resource, headers, is_client=True)

    def _new_protocol(
        self,
        authority: str | None = None,
        resource: str | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        is_client: bool,
        handshake_timeout_s: float | None = None,
        subprotocol: str = "",
    ) -> asyncio.BufferedProtocol:
        # The factories of picows.ws_create_server and ws_connect, written out: the former requires a listening socket
        # of its own, the latter leaves its socket open when cancelled during the handshake (picows 2.3).
        protocol: asyncio.BufferedProtocol = _Protocol(
            authority,
            resource,
            is_client,
            lambda request, *_: self._accept(request, subprotocol),
            _Reporter(self),
            True,  # disconnect_on_exception
            handshake_timeout_s,
            False,  # enable_auto_ping: the link pings, whatever the library
            10,
            10,
            WSAutoPingStrategy.PING_WHEN_IDLE,
            False,  # enable_auto_pong: pings are answered by the link, which bounds what it sends
            self._max_message_bytes,
            headers,
            2048,  # read_buffer_init_size: several frames fit in, and it grows
        )
        return protocol

    def _accept(self, request: WSUpgradeRequest, subprotocol: str) -> WSListener | WSUpgradeResponseWithListener:
        listener = _Listener(self, self._max_message_bytes, self._max_text_bytes)
        if not subprotocol or subprotocol not in _offered(request):
            return listener
        response = WSUpgradeResponse.create_101_response({_SUBPROTOCOL: subprotocol})
        return WSUpgradeResponseWithListener(response, listener)

    def connected(self, transport: WSTransport) -> None:
        """Begin to send and receive: the handshake is complete."""
        self._transport = transport
        if transport.is_client_side:
            self._end_of_dialed = asyncio.ensure_future(_ended(transport))
        self.opened(transport.underlying_transport)

    def lost(self) -> None:
        """Handle the end of the connection."""
        self._transport = None  # it refers to this link
        super().lost()

    def _write(self, message: Message) -> None:
        assert self._transport is not None  # send() is only called between opened and lost
        self._transport.send(_BINARY if isinstance(message, bytes) else _TEXT, message)

    def _write_close(self, code: int, reason: str) -> None:
        if self._transport is not None:
            self._transport.send_close(code, reason.encode())  # type: ignore[arg-type]  # any code of RFC 6455

    def _write_ping(self) -> None:
        if self._transport is not None:
            self._transport.send_ping()

    def _write_pong(self, payload: bytes) -> None:
        if self._transport is not None:
            self._transport.send_pong(payload)

    def _disconnect(self) -> None:
        if self._transport is not None:
            self._transport.disconnect(False)

    def protocol_error(self, code: int, reason: str) -> None:
        """Store the error for which picows is about to close the connection."""
        transport = self._transport
        if transport is None:
            return
        closed = transport.close_handshake
        if closed is not None and closed.recv is not None and not transport.is_close_frame_sent:
            # picows parses one frame ahead: the Close frame is delivered next, and later frames are ignored.
            transport.send_close(closed.recv.code or WSCloseCode.OK)
            return
        self.closed_by_peer(code, reason)


async def _ended(transport: WSTransport) -> None:
    """Retrieve the error that picows leaves on an opened connection after a protocol error of the server.

    The link has reported it, and asyncio would log it as never retrieved.
    """
    with contextlib.suppress(Exception):
        await transport.wait_disconnected()


class _Listener(WSListener):
    """Joins fragments, answers Close, and passes the rest on."""

    __slots__ = (
        "_link",
        "_max_fragments",
        "_max_message_bytes",
        "_max_text_bytes",
        "_parts",
        "_parts_are_text",
        "_parts_bytes",
    )

    def __init__(self, link: PicowsLink, max_message_bytes: int, max_text_bytes: int) -> None:
        self._link = link
        self._max_message_bytes = max_message_bytes
        self._max_text_bytes = max_text_bytes
        self._max_fragments = max(MIN_FRAGMENTS, max_message_bytes // FRAGMENT_BYTES)
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._parts_are_text = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._link.connected(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        link = self._link
        link.frames_left -= 1
        if not link.frames_left:
            link.count_frames()
        kind = frame.msg_type
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            link.close(WSCloseCode.PROTOCOL_ERROR.value, "a reserved bit is set, and no extension was negotiated")
        elif kind is _BINARY and frame.fin and not self._parts:
            message = frame.get_payload_as_bytes()
            if len(message) < SMALL_BYTES:
                link.count_small_frame()
            link.received(message)
        elif kind is _TEXT and frame.fin and not self._parts:
            message = frame.get_payload_as_bytes()
            if len(message) < SMALL_BYTES:
                link.count_small_frame()
            self._text(message)
        elif kind in (_BINARY, _TEXT, _CONTINUATION):
            self._data(kind, frame)
        elif kind is _CLOSE:
            self._close(transport, frame)
        else:
            link.count_small_frame()
            if kind is _PING:
                link.pinged(frame.get_payload_as_bytes())
            else:
                link.heard()

    def on_ws_disconnected(self, transport: WSTransport) -> None:  # noqa: ARG002 (picows' signature)
        self._link.lost()

    def pause_writing(self) -> None:
        self._link.paused()

    def resume_writing(self) -> None:
        self._link.resumed()

    def _data(self, kind: WSMsgType, frame: WSFrame) -> None:
        if self._link.closing:
            return
        if frame.payload_size < SMALL_BYTES:
            self._link.count_small_frame()
        if (kind == _CONTINUATION) != bool(self._parts):
            self._link.close(WSCloseCode.PROTOCOL_ERROR.value, "fragments out of order")
            return
        if kind != _CONTINUATION:
            self._parts_are_text = kind == _TEXT
        self._parts.append(frame.get_payload_as_bytes())
        self._parts_bytes += frame.payload_size
        if self._parts_bytes > self._max_message_bytes:
            self._link.close(WSCloseCode.MESSAGE_TOO_BIG.value, f"message over {self._max_message_bytes} bytes")
        elif self._parts_are_text and self._parts_bytes > self._max_text_bytes:
            self._text_too_big()
        elif len(self._parts) > self._max_fragments:
            self._link.close(WSCloseCode.POLICY_VIOLATION.value, f"more than {self._max_fragments} fragments")
        elif frame.fin:
            whole, self._parts, self._parts_bytes = b"".join(self._parts), [], 0
            if self._parts_are_text:
                self._text(whole)
            else:
                self._link.received(whole)

    def _text_too_big(self) -> None:
        self._link.close(WSCloseCode.MESSAGE_TOO_BIG.value, f"text message over {self._max_text_bytes} bytes")

    def _text(self, whole: bytes) -> None:
        if len(whole) > self._max_text_bytes:
            self._text_too_big()
            return
        try:
            text = whole.decode()
        except UnicodeDecodeError:
            self._link.close(WSCloseCode.INVALID_TEXT.value, "text message is not UTF-8")
            return
        self._link.received(text)

    def _close(self, transport: WSTransport, frame: WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        # Parsed here: picows returns codes of the private range (4000 and up) as something other than WSCloseCode.
        code = int.from_bytes(payload[:2], "big") if payload else _NO_CODE
        # Codes that no Close frame may hold (RFC 6455 section 7.4), but picows accepts.
        if payload and (not 1000 <= code < 5000 or code == _NO_CLOSE):
            self._link.close(WSCloseCode.PROTOCOL_ERROR.value, f"the code {code} is not allowed in a Close frame")
        else:
            self._link.closed_by_peer(code, payload[2:].decode("utf-8", "replace"))
            if not transport.is_close_frame_sent:
                transport.send_close(code if payload else WSCloseCode.OK)  # type: ignore[arg-type]  # any code
        transport.disconnect()


def _offered(request: WSUpgradeRequest) -> list[str]:
    """Return the subprotocols that a client offers."""
    return [each.strip() for each in request.headers.get(_SUBPROTOCOL, "").split(",")]


class _Protocol(_WSProtocol):  # type: ignore[misc]  # picows does not export it
    """picows' protocol with bounded reads."""

    __slots__ = ()

    def get_buffer(self, sizehint: int) -> memoryview:
        buffer: memoryview = _get_buffer(self, sizehint)
        return buffer if len(buffer) <= READ_BYTES else buffer[:READ_BYTES]


class _Reporter:
    """A substitute for the logger that picows calls before it closes a connection after a protocol error.

    The stream's own log line is sufficient, and a logger for each connection would take 1 KB.
    """

    __slots__ = ("_link",)

    def __init__(self, link: PicowsLink) -> None:
        self._link = link

    def isEnabledFor(self, level: int) -> bool:  # noqa: ARG002, N802 (a logger's signature)
        return False

    def debug(self, message: str, *details: object) -> None:
        pass

    info = warning = debug

    def error(self, message: str, *details: object) -> None:  # noqa: ARG002
        """Store a protocol error: ``details`` hold its code and description."""
        match details:
            case ((int(code), str(reason)),):
                self._link.protocol_error(int(code), reason)

    def exception(self, message: str, *details: object) -> None:
        """Log an internal error: picows catches exceptions of callbacks."""
        log.exception(
            "callback of picows failed, an internal error error=%s", message % details if details else message
        )
        self._link.protocol_error(WSCloseCode.INTERNAL_ERROR.value, "internal error")
