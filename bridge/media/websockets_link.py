"""Links on the ``websockets`` library's sans-I/O core: the stand-in for picows, slower and kept by other people."""

from __future__ import annotations

import asyncio
from typing import cast

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from bridge.dialects.base import Message
from bridge.media.counters import Counters
from bridge.media.websocket import FRAGMENT_BYTES, MAX_TEXT_BYTES, MIN_FRAGMENTS, SMALL_BYTES, Link

READ_BYTES = 4096
"""The most that is read at once: of small frames, the library takes 10 ms for these."""

# One buffer serves every connection: what is read is consumed before the callback returns.
_read_buffer = memoryview(bytearray(READ_BYTES))


class WebsocketsLink(Link):
    """A WebSocket accepted by ``websockets``."""

    __slots__ = ("_core", "_transport", "max_fragments", "max_text_bytes")

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
        self._core = _Core(max_size=max_message_bytes)
        self.max_text_bytes = min(max_text_bytes, max_message_bytes)
        self.max_fragments = max(MIN_FRAGMENTS, max_message_bytes // FRAGMENT_BYTES)
        self._transport: asyncio.Transport | None = None

    def protocol(self) -> asyncio.BufferedProtocol:
        """The protocol to give to a transport whose next bytes are the upgrade request."""
        return _Protocol(self, self._core)

    def bind(self, transport: asyncio.Transport) -> None:
        """The connection is there; the handshake comes next."""
        self._transport = transport

    def flush(self) -> None:
        """Write what the core wants to say."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        for data in self._core.data_to_send():
            if data:
                transport.write(data)
            else:  # websockets' sign for end of file
                transport.close()

    def _write(self, message: Message) -> None:
        if self._core.state is not State.OPEN:
            return
        if isinstance(message, str):
            self._core.send_text(message.encode())
        else:
            self._core.send_binary(message)
        self.flush()

    def _write_close(self, code: int, reason: str) -> None:
        if self._core.state is State.OPEN:
            self._core.send_close(code, reason)
            self.flush()

    def _write_ping(self) -> None:
        if self._core.state is State.OPEN:
            self._core.send_ping(b"")
            self.flush()

    def _write_pong(self, payload: bytes) -> None:
        if self._core.state is State.OPEN:
            self._core.answer_ping(payload)
            self.flush()

    def _disconnect(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class _Core(ServerProtocol):
    """The library's core, which leaves pings to the link: it would answer each, whatever waits unsent."""

    def send_frame(self, frame: Frame) -> None:
        if frame.opcode is not Opcode.PONG:
            super().send_frame(frame)

    def answer_ping(self, payload: bytes) -> None:
        """Send a pong."""
        super().send_frame(Frame(Opcode.PONG, payload))


class _Protocol(asyncio.BufferedProtocol):
    """Bytes of one connection into websockets' core, its events to the link."""

    def __init__(self, link: WebsocketsLink, core: ServerProtocol) -> None:
        self._link = link
        self._core = core
        self._transport: asyncio.BaseTransport | None = None
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._parts_are_text = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._link.bind(cast(asyncio.Transport, transport))  # accepted TCP or TLS connections only

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (asyncio's signature)
        return _read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        assert self._transport is not None  # connection_made comes first
        self._link.heard()  # a part of a message is a sign of life too
        self._core.receive_data(bytes(_read_buffer[:nbytes]))
        for event in self._core.events_received():
            if isinstance(event, Request):
                self._core.send_response(self._core.accept(event))
                self._link.flush()
                if self._core.state is State.OPEN:
                    self._link.opened(self._transport)
            elif isinstance(event, Frame):
                self._frame(event)
        sent = self._core.close_sent
        if self._core.parser_exc is not None and sent is not None:  # the application broke the protocol
            self._link.closed_by_peer(int(sent.code), sent.reason)
        self._link.flush()

    def eof_received(self) -> None:
        self._core.receive_eof()
        self._link.flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        self._link.lost()

    def pause_writing(self) -> None:
        self._link.paused()

    def resume_writing(self) -> None:
        self._link.resumed()

    def _frame(self, frame: Frame) -> None:
        link = self._link
        link.frames_left -= 1
        if not link.frames_left:
            link.count_frames()
        if len(frame.data) < SMALL_BYTES or frame.opcode in (Opcode.PING, Opcode.PONG):
            link.count_small_frame()
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self._data(frame)
        elif frame.opcode is Opcode.CLOSE:
            told = self._core.close_rcvd
            link.closed_by_peer(int(told.code) if told else 1005, told.reason if told else "")
        elif frame.opcode is Opcode.PING:
            link.pinged(bytes(frame.data))
        else:
            link.heard()

    def _data(self, frame: Frame) -> None:
        if self._link.closing:
            return
        if frame.opcode is not Opcode.CONT:
            self._parts_are_text = frame.opcode is Opcode.TEXT
            self._parts_bytes = 0
        self._parts.append(bytes(frame.data))
        self._parts_bytes += len(frame.data)
        if self._parts_are_text and self._parts_bytes > self._link.max_text_bytes:
            self._link.close(1009, f"text message over {self._link.max_text_bytes} bytes")
        elif len(self._parts) > self._link.max_fragments:
            self._link.close(1008, f"more than {self._link.max_fragments} fragments")
        elif frame.fin:
            whole, self._parts = b"".join(self._parts), []
            try:
                self._link.received(whole.decode() if self._parts_are_text else whole)
            except UnicodeDecodeError:
                self._link.close(1007, "text message is not UTF-8")
