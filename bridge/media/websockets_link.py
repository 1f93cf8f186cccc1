"""Links on the ``websockets`` library's sans-I/O core: the stand-in for picows, slower and kept by other people."""

from __future__ import annotations

import asyncio
from typing import cast

from websockets.exceptions import ProtocolError
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from bridge.dialects.base import Message
from bridge.media.counters import Counters
from bridge.media.websocket import Link


class WebsocketsLink(Link):
    """A WebSocket accepted by ``websockets``."""

    __slots__ = ("_core", "_transport")

    def __init__(
        self, counters: Counters, *, max_unsent_ms: int, ping_interval_s: float, max_message_bytes: int
    ) -> None:
        super().__init__(counters, max_unsent_ms=max_unsent_ms, ping_interval_s=ping_interval_s)
        self._core = ServerProtocol(max_size=max_message_bytes)
        self._transport: asyncio.Transport | None = None

    def protocol(self) -> asyncio.Protocol:
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

    def _disconnect(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class _Protocol(asyncio.Protocol):
    """Bytes of one connection into websockets' core, its events to the link."""

    def __init__(self, link: WebsocketsLink, core: ServerProtocol) -> None:
        self._link = link
        self._core = core
        self._transport: asyncio.BaseTransport | None = None
        self._parts: list[bytes] = []
        self._parts_are_text = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._link.bind(cast(asyncio.Transport, transport))  # accepted TCP or TLS connections only

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None  # connection_made comes first
        self._link.heard()  # a part of a message is a sign of life too
        self._core.receive_data(data)
        for event in self._core.events_received():
            if isinstance(event, Request):
                self._core.send_response(self._core.accept(event))
                self._link.flush()
                if self._core.state is State.OPEN:
                    self._link.opened(self._transport)
            elif isinstance(event, Frame):
                self._frame(event)
        self._link.flush()

    def eof_received(self) -> None:
        self._core.receive_eof()
        self._link.flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        if isinstance(self._core.parser_exc, ProtocolError):
            self._link.closed_by_peer(1002, str(self._core.parser_exc))
        self._link.lost()

    def pause_writing(self) -> None:
        self._link.paused()

    def resume_writing(self) -> None:
        self._link.resumed()

    def _frame(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            if frame.opcode is not Opcode.CONT:
                self._parts_are_text = frame.opcode is Opcode.TEXT
            self._parts.append(bytes(frame.data))
            if frame.fin:
                whole, self._parts = b"".join(self._parts), []
                try:
                    self._link.received(whole.decode() if self._parts_are_text else whole)
                except UnicodeDecodeError:
                    self._link.close(1007, "text message is not UTF-8")
        elif frame.opcode is Opcode.CLOSE:
            told = self._core.close_rcvd
            self._link.closed_by_peer(int(told.code) if told else 1005, told.reason if told else "")
        else:
            self._link.heard()
