"""Links on picows: the fast path. Its callback API costs a third of what a task and a queue per message do."""

from __future__ import annotations

import asyncio
import logging

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest
from picows.picows import WSAutoPingStrategy
from picows.picows import WSProtocol as _WSProtocol  # type: ignore[attr-defined]  # what ws_create_server makes

from bridge.dialects.base import Message
from bridge.media.counters import Counters
from bridge.media.websocket import Link

# picows reports a client's broken or oversized frame as an error of its own; the stream's line in our log says it all.
_log = logging.getLogger("bridge.media.picows")
_log.setLevel(logging.CRITICAL)


class PicowsLink(Link):
    """A WebSocket accepted by picows."""

    def __init__(
        self, counters: Counters, *, max_unsent_ms: int, ping_interval_s: float, max_message_bytes: int
    ) -> None:
        super().__init__(counters, max_unsent_ms=max_unsent_ms, ping_interval_s=ping_interval_s)
        self._max_message_bytes = max_message_bytes
        self._transport: WSTransport | None = None

    def protocol(self) -> asyncio.BufferedProtocol:
        """The protocol to give to a transport whose next bytes are the upgrade request."""

        def accept(_: WSUpgradeRequest) -> WSListener:
            return _Listener(self, self._max_message_bytes)

        # The factory of picows.ws_create_server, written out: that function insists on a listening socket of its own.
        protocol: asyncio.BufferedProtocol = _WSProtocol(
            None,  # host and port: client only
            None,  # path: client only
            False,  # is_client_side
            accept,
            _log,
            True,  # disconnect_on_exception
            5,  # websocket_handshake_timeout
            False,  # enable_auto_ping: the link pings, whatever the library
            10,
            10,
            WSAutoPingStrategy.PING_WHEN_IDLE,
            True,  # enable_auto_pong
            self._max_message_bytes,
            None,  # extra_headers
            4096,  # read_buffer_init_size
        )
        return protocol

    def connected(self, transport: WSTransport) -> None:
        """The handshake is done."""
        self._transport = transport
        self.opened(transport.underlying_transport)

    def _write(self, message: Message) -> None:
        assert self._transport is not None  # send() is only called between opened and lost
        if isinstance(message, str):
            self._transport.send(WSMsgType.TEXT, message.encode())
        else:
            self._transport.send(WSMsgType.BINARY, message)

    def _write_close(self, code: int, reason: str) -> None:
        if self._transport is not None:
            self._transport.send_close(code, reason.encode())  # type: ignore[arg-type]  # any code of RFC 6455

    def _write_ping(self) -> None:
        if self._transport is not None:
            self._transport.send_ping()

    def _disconnect(self) -> None:
        if self._transport is not None:
            self._transport.disconnect(False)


class _Listener(WSListener):
    """Joins fragments, answers Close, and passes the rest on."""

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
        if transport.is_close_frame_sent and kind != WSMsgType.CLOSE:
            return  # picows 2.3 goes on delivering after it has closed for a frame that is too big
        if kind == WSMsgType.BINARY and frame.fin:
            self._link.received(frame.get_payload_as_bytes())
        elif kind in (WSMsgType.BINARY, WSMsgType.TEXT, WSMsgType.CONTINUATION):
            self._data(kind, frame)
        elif kind == WSMsgType.CLOSE:
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
        if (kind == WSMsgType.CONTINUATION) != bool(self._parts):
            self._link.close(WSCloseCode.PROTOCOL_ERROR.value, "fragments out of order")
            return
        if kind != WSMsgType.CONTINUATION:
            self._parts_are_text = kind == WSMsgType.TEXT
        self._parts.append(frame.get_payload_as_bytes())
        self._parts_bytes += frame.payload_size
        if self._parts_bytes > self._max_message_bytes:
            self._link.close(WSCloseCode.MESSAGE_TOO_BIG.value, f"message over {self._max_message_bytes} bytes")
        elif frame.fin:
            whole, self._parts, self._parts_bytes = b"".join(self._parts), [], 0
            try:
                self._link.received(whole.decode() if self._parts_are_text else whole)
            except UnicodeDecodeError:
                self._link.close(WSCloseCode.INVALID_TEXT.value, "text message is not UTF-8")

    def _close(self, transport: WSTransport, frame: WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        # Read by hand: picows gives codes of the private range (4000 and up) as something that is no WSCloseCode.
        code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
        self._link.closed_by_peer(code, payload[2:].decode("utf-8", "replace"))
        if not transport.is_close_frame_sent:
            transport.send_close(WSCloseCode.OK)
        transport.disconnect()
