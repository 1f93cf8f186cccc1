"""Links on picows: the fast path. Its callback API costs a third of what a task and a queue per message do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport
from picows.picows import WSAutoPingStrategy
from picows.picows import WSProtocol as _WSProtocol  # type: ignore[attr-defined]  # what ws_create_server makes

from bridge.dialects.base import Message
from bridge.media.counters import Counters
from bridge.media.websocket import Link

# Looking a member up in its enum takes longer than comparing it, and `is` is the quickest way to compare.
_BINARY, _TEXT, _CONTINUATION, _CLOSE = WSMsgType.BINARY, WSMsgType.TEXT, WSMsgType.CONTINUATION, WSMsgType.CLOSE

# picows reports a peer's broken or oversized frame as an error of its own; the stream's line in our log says it all.
_log = logging.getLogger("bridge.media.picows")
_log.setLevel(logging.CRITICAL)


class PicowsLink(Link):
    """A WebSocket framed by picows, accepted or dialled."""

    __slots__ = ("_end_of_dialled", "_max_message_bytes", "_transport")

    def __init__(
        self, counters: Counters, *, max_unsent_ms: int, ping_interval_s: float, max_message_bytes: int
    ) -> None:
        super().__init__(counters, max_unsent_ms=max_unsent_ms, ping_interval_s=ping_interval_s)
        self._max_message_bytes = max_message_bytes
        self._transport: WSTransport | None = None
        self._end_of_dialled: asyncio.Task[None] | None = None

    def protocol(self) -> asyncio.BufferedProtocol:
        """The protocol to give to a transport whose next bytes are the upgrade request."""
        return self._new_protocol(is_client=False, handshake_timeout_s=5)

    def client_protocol(self, authority: str, resource: str, headers: Mapping[str, str]) -> asyncio.BufferedProtocol:
        """The protocol to give to a transport to a server; it sends the upgrade request, and waits as long as it may.

        Args:
            authority: what goes into the Host header.
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
    ) -> asyncio.BufferedProtocol:
        # The factories of picows.ws_create_server and ws_connect, written out: the one insists on a listening socket of
        # its own, the other leaves its socket open when it is cancelled during the handshake (picows 2.3).
        protocol: asyncio.BufferedProtocol = _WSProtocol(
            authority,
            resource,
            is_client,
            lambda *_: _Listener(self, self._max_message_bytes),
            _log,
            True,  # disconnect_on_exception
            handshake_timeout_s,
            False,  # enable_auto_ping: the link pings, whatever the library
            10,
            10,
            WSAutoPingStrategy.PING_WHEN_IDLE,
            True,  # enable_auto_pong
            self._max_message_bytes,
            headers,
            2048,  # read_buffer_init_size: several frames fit in, and it grows
        )
        return protocol

    def connected(self, transport: WSTransport) -> None:
        """The handshake is done."""
        self._transport = transport
        if transport.is_client_side:
            self._end_of_dialled = asyncio.ensure_future(_ended(transport))
        self.opened(transport.underlying_transport)

    def _write(self, message: Message) -> None:
        assert self._transport is not None  # send() is only called between opened and lost
        self._transport.send(_BINARY if isinstance(message, bytes) else _TEXT, message)

    def _write_close(self, code: int, reason: str) -> None:
        if self._transport is not None:
            self._transport.send_close(code, reason.encode())  # type: ignore[arg-type]  # any code of RFC 6455

    def _write_ping(self) -> None:
        if self._transport is not None:
            self._transport.send_ping()

    def _disconnect(self) -> None:
        if self._transport is not None:
            self._transport.disconnect(False)


async def _ended(transport: WSTransport) -> None:
    """Take the error that picows leaves on a dialled connection whose server broke the protocol: the link has told it,
    and asyncio would log it as never retrieved."""
    with contextlib.suppress(Exception):
        await transport.wait_disconnected()


class _Listener(WSListener):
    """Joins fragments, answers Close, and passes the rest on."""

    __slots__ = ("_link", "_max_message_bytes", "_parts", "_parts_are_text", "_parts_bytes")

    def __init__(self, link: PicowsLink, max_message_bytes: int) -> None:
        self._link = link
        self._max_message_bytes = max_message_bytes
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._parts_are_text = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._link.connected(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if transport.is_close_frame_sent and kind is not _CLOSE:
            return  # picows 2.3 goes on delivering after it has closed for a frame that is too big
        if kind is _BINARY and frame.fin and not self._parts:
            self._link.received(frame.get_payload_as_bytes())
        elif kind is _TEXT and frame.fin and not self._parts:
            self._text(frame.get_payload_as_bytes())
        elif kind in (_BINARY, _TEXT, _CONTINUATION):
            self._data(kind, frame)
        elif kind is _CLOSE:
            self._close(transport, frame)
        else:
            self._link.heard()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        sent = transport.close_handshake.sent if transport.close_handshake else None
        if sent is not None and not self._link.closing:  # picows itself has closed: the application broke the protocol
            self._link.closed_by_peer(sent.code.value, sent.reason)
        self._link.lost()

    def pause_writing(self) -> None:
        self._link.paused()

    def resume_writing(self) -> None:
        self._link.resumed()

    def _data(self, kind: WSMsgType, frame: WSFrame) -> None:
        if (kind == _CONTINUATION) != bool(self._parts):
            self._link.close(WSCloseCode.PROTOCOL_ERROR.value, "fragments out of order")
            return
        if kind != _CONTINUATION:
            self._parts_are_text = kind == _TEXT
        self._parts.append(frame.get_payload_as_bytes())
        self._parts_bytes += frame.payload_size
        if self._parts_bytes > self._max_message_bytes:
            self._link.close(WSCloseCode.MESSAGE_TOO_BIG.value, f"message over {self._max_message_bytes} bytes")
        elif frame.fin:
            whole, self._parts, self._parts_bytes = b"".join(self._parts), [], 0
            if self._parts_are_text:
                self._text(whole)
            else:
                self._link.received(whole)

    def _text(self, whole: bytes) -> None:
        try:
            text = whole.decode()
        except UnicodeDecodeError:
            self._link.close(WSCloseCode.INVALID_TEXT.value, "text message is not UTF-8")
            return
        self._link.received(text)

    def _close(self, transport: WSTransport, frame: WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        # Read by hand: picows gives codes of the private range (4000 and up) as something that is no WSCloseCode.
        code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
        self._link.closed_by_peer(code, payload[2:].decode("utf-8", "replace"))
        if not transport.is_close_frame_sent:
            transport.send_close(WSCloseCode.OK)
        transport.disconnect()
