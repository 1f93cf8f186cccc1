"""The AudioSocket server: Asterisk connects once for each media leg.

Protocol: docs.asterisk.org "AudioSocket"; behavior as in Asterisk 22.10 (res_audiosocket.c, chan_audiosocket.c). TCP
accept, the response to the ARI request and StasisStart come in any order, so announce a leg with ``expect`` before the
request to Asterisk.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import deque
from collections.abc import Callable
from functools import cache
from typing import cast
from uuid import UUID

import aiofastnet

from bridge.audio.audiosocket import HANGUP_MESSAGE, HEADER_BYTES, MessageDecoder, MessageKind
from bridge.audio.format import AudioFormat
from bridge.errors import AsteriskProtocolError, BridgeError
from bridge.logs import cause
from bridge.media.admission import AddressAdmission
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg, ignore
from bridge.media.playout_clock import PlayoutClock
from bridge.media.sockets import SparingSocket, bind

log = logging.getLogger(__name__)

LINGER_S = 1.0
"""Time for Asterisk to close after a hang-up from this side before the connection is aborted, in seconds."""
STOP_S = 0.2
"""The same time when asterisk-bridge stops.

An Asterisk before 20.14, 21.9 and 22.4 that does not receive the hang-up keeps the channel, with a busy thread.
"""
MAX_UNNAMED = 32
"""Limit of connections without a UUID after `NAMING_S`, besides one for each expected leg."""
NAMING_S = 0.1
"""Time to send the UUID, in seconds: Asterisk sends it immediately, and a burst is read within this."""
SHED_AT_ONCE = 32
SHED_AGAIN_S = 0.01
"""Closing a thousand connections takes 100 ms: close them in parts, with frames handled in between."""
MAX_ARRIVING = 1024
"""Limit of all connections without a UUID, also of the accept queue."""
READ_BYTES = 65536
SMALL_BYTES, MAX_SMALL_MESSAGES = 32, 1000
"""Limit of messages with less payload (2 ms of audio at 8 kHz, or a DTMF digit) from one leg in a second.

Each costs as much as a whole frame.
"""
SEND_BUFFER_MS = 500
"""Audio that this machine's kernel may hold for an Asterisk that does not read, in milliseconds.

By default that would be megabytes; the limits of Asterisk's kernel are its own (docs/howto/index.md).
"""


_ADVICE = ". If it is Asterisk, add it to audiosocket.allowed"


class Unexpected(BridgeError):
    """No leg accepts a UUID; the message is the reason."""

    def __init__(self, reason: str = "no leg is expected with its UUID, and no uuid: route matches it") -> None:
        super().__init__(reason)


# One buffer for all connections: data is consumed before the callback returns.
_read_bytes = bytearray(READ_BYTES)
_read_buffer = memoryview(_read_bytes)


@cache
def _whole_frame(fmt: AudioFormat) -> tuple[int, memoryview]:
    """Return the size of a message with 20 ms, and a view of its payload in the buffer; shared by all connections."""
    size = HEADER_BYTES + fmt.frame_bytes
    return size, _read_buffer[HEADER_BYTES:size]


class Listener:
    """Accepts AudioSocket connections and attaches each to the leg that expects its UUID.

    Args:
        counters: the process's counters.
        handshake_timeout_s: time for a connection to send its UUID, in seconds.
        admission: who may connect; by default everybody.
    """

    def __init__(
        self, counters: Counters, *, handshake_timeout_s: float = 5.0, admission: AddressAdmission | None = None
    ) -> None:
        self.counters = counters
        self.admission = admission or AddressAdmission()
        self.last_refusal = ""
        """The latest refused connection, and why; empty: none."""
        self.unnamed: dict[AudioSocketConnection, float] = {}
        """Connections without a UUID, oldest first, and when they arrived, on the loop's clock."""
        self.handshake_timeout_s = handshake_timeout_s
        self.wheel = PlayoutClock(counters)
        self.connections: set[AudioSocketConnection] = set()
        self.unexpected: Callable[[UUID], MediaLeg] = _refuse_all
        """Returns the leg for a UUID that no leg expects, or raises `Unexpected`."""
        self._expected: dict[UUID, MediaLeg] = {}
        self._withdrawn: deque[UUID] = deque(maxlen=1000)
        """UUIDs that are no longer expected: late connections with these are not from the dialplan."""
        self._servers: list[asyncio.Server] = []
        self._shedding: asyncio.TimerHandle | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen on ``host`` and ``port`` (0: any free port).

        Raises:
            OSError: the address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        await self.admission.start()
        for bound in await bind(host, port):
            server = await aiofastnet.create_server(
                loop, lambda: AudioSocketConnection(self), sock=SparingSocket(bound), backlog=MAX_ARRIVING
            )
            self._servers.append(server)

    async def stop(self) -> None:
        """Stop listening and end every connection."""
        self.admission.stop()
        if self._shedding is not None:
            self._shedding.cancel()
        servers, self._servers = self._servers, []
        for server in servers:
            server.close()
        for connection in tuple(self.connections):
            if connection in self.unnamed:
                connection.abort()
            else:
                connection.hang_up()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await self._idle()
        for connection in tuple(self.connections):
            connection.abort()
        for server in servers:
            await server.wait_closed()
        if self.connections:  # before Python 3.12 wait_closed does not wait for connections; an abort takes one turn
            await asyncio.sleep(0)

    async def _idle(self) -> None:
        """Wait until all connections have ended."""
        while self.connections:  # noqa: ASYNC110 - an event would cost every connection, for this moment
            await asyncio.sleep(0.005)

    @property
    def listening(self) -> bool:
        """Whether Asterisk can connect."""
        return bool(self._servers) and all(server.is_serving() for server in self._servers)

    @property
    def port(self) -> int:
        """The port of the server."""
        if not self._servers:
            raise RuntimeError("the listener has not been started")
        port: int = self._servers[0].sockets[0].getsockname()[1]
        return port

    @property
    def expected(self) -> int:
        """Number of legs that wait for their connection."""
        return len(self._expected)

    def expect(self, leg: MediaLeg) -> None:
        """Accept a connection with ``leg.uuid``; call before the request to Asterisk."""
        self._expected[leg.uuid] = leg

    def forget(self, leg: MediaLeg) -> None:
        """Stop expecting ``leg``; harmless if it has connected or was never expected."""
        if self._expected.pop(leg.uuid, None) is not None:
            self._withdrawn.append(leg.uuid)

    def claim(self, uuid: UUID, source: str) -> MediaLeg | None:
        """Return the leg that expects ``uuid``, once: a second connection with the same UUID is refused.

        Args:
            uuid: the UUID of the connection.
            source: its address.
        """
        leg = self._expected.pop(uuid, None)
        if leg is not None:
            self.admission.learn(source)
            return leg
        if uuid in self._withdrawn:
            self._refuse("its UUID is no longer expected", source)
        elif not self.admission.expects(source):
            self._refuse(f"neither its UUID nor its source is expected: {self.admission}{_ADVICE}", source)
        else:
            try:
                return self.unexpected(uuid)
            except Unexpected as error:
                self._refuse(str(error), source)
        return None

    def admit(self, connection: AudioSocketConnection, source: str) -> bool:
        """Accept a new connection until it has sent its UUID; return False if it is refused."""
        if self.admission.turns_away(source):
            self._refuse(f"its source is not allowed: {self.admission}{_ADVICE}", source)
            return False
        loop = asyncio.get_running_loop()
        self.unnamed[connection] = loop.time()
        if len(self.unnamed) > len(self._expected) + MAX_ARRIVING:
            self._shed_oldest()
        elif len(self.unnamed) > len(self._expected) + MAX_UNNAMED and self._shedding is None:
            self._shedding = loop.call_later(NAMING_S, self._shed)
        return True

    def late(self, source: str) -> None:
        """Count a connection that has sent no UUID in time."""
        self._refuse(f"no UUID within {self.handshake_timeout_s:g} s", source)

    def _shed(self) -> None:
        """Refuse connections that have had time to send a UUID, oldest first, until few enough are left."""
        now = asyncio.get_running_loop().time()
        self._shedding = None
        for _ in range(SHED_AT_ONCE):
            if len(self.unnamed) <= len(self._expected) + MAX_UNNAMED:
                return
            wait_s = next(iter(self.unnamed.values())) + NAMING_S - now
            if wait_s > 0:
                break
            self._shed_oldest()
        self._shedding = asyncio.get_running_loop().call_later(max(wait_s, SHED_AGAIN_S), self._shed)

    def _shed_oldest(self) -> None:
        oldest = next(iter(self.unnamed))
        del self.unnamed[oldest]
        self._refuse("too many connections without a UUID", oldest.source)
        oldest.abort()

    def malformed(self, source: str) -> None:
        """Report a connection that does not speak AudioSocket: anyone may open one."""
        self._report("it does not begin with a UUID", source)

    def _refuse(self, reason: str, source: str) -> None:
        self.counters.legs_refused += 1
        self._report(reason, source)

    def _report(self, reason: str, source: str) -> None:
        self.last_refusal = f"{source}: {reason}"
        log.warning("connection refused peer=%s reason=%s", source, reason, extra=cause(reason))


class AudioSocketConnection(asyncio.BufferedProtocol):
    """One TCP connection from Asterisk."""

    # Slots here and in everything that a frame passes: hundreds of calls exceed the processor's caches, and every
    # __dict__ is a further cache line.
    __slots__ = (
        "_decoder",
        "_frame_bytes",
        "_frame_header",
        "_hung_up",
        "_leg",
        "_listener",
        "_payload",
        "_peer",
        "_small_messages",
        "_small_since",
        "_timer",
        "_transport",
        "source",
        "write",
    )

    def __init__(self, listener: Listener) -> None:
        self.write: Callable[[bytes], None] = ignore
        """Send whole messages: header and payload in one write, as Asterisk waits only 5 ms for the payload."""
        self._listener = listener
        self._decoder = MessageDecoder()
        self._leg: MediaLeg | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._peer = "?"
        self.source = "?"
        """Its address."""
        self._hung_up = False
        self._small_messages, self._small_since = 0, 0.0
        self._frame_bytes = 0  # of one whole frame of 20 ms, as Asterisk writes it; 0: none is expected
        self._frame_header = b""
        self._payload = _read_buffer  # of such a frame, in the buffer

    # Methods that asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Handle a new connection."""
        self._transport = cast(asyncio.Transport, transport)  # create_server gives TCP transports, TCP_NODELAY set
        self.write = self._transport.write
        host, port = transport.get_extra_info("peername")[:2]
        self.source, self._peer = host, f"{host}:{port}"
        self._listener.connections.add(self)
        if not self._listener.admit(self, host):
            # Later: aiofastnet 1.2 adds its reader after this call, and then to a closed socket.
            asyncio.get_running_loop().call_soon(self._transport.abort)
            return
        # Late frames are worthless: skip them early instead of queuing seconds of audio.
        self._transport.set_write_buffer_limits(high=16384)
        self._timer = asyncio.get_running_loop().call_later(self._listener.handshake_timeout_s, self._too_late)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (asyncio's signature)
        """Return the common buffer."""
        return _read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Handle received data."""
        leg = self._leg
        if nbytes == self._frame_bytes and leg is not None and _read_bytes.startswith(self._frame_header):
            leg.received_frame(self._payload.tobytes())
            return
        if self._hung_up:
            return
        try:
            for kind, payload in self._decoder.feed(_read_buffer[:nbytes]):
                if leg is None:
                    leg = self._begin(kind, payload)
                    if leg is None:
                        return
                elif kind >= MessageKind.SLIN and kind != MessageKind.ERROR:
                    if len(payload) < SMALL_BYTES:
                        self._count_small_message()
                    leg.received(kind, payload)
                elif kind == MessageKind.DTMF:
                    self._count_small_message()
                    leg.on_dtmf(payload.decode("ascii", "replace"))
                elif kind == MessageKind.UUID:
                    raise AsteriskProtocolError("a second UUID on one connection")
                else:  # never sent by Asterisk, but by other implementations
                    self.hang_up()
                    return
            if not self._hung_up:  # callbacks above may hang up
                self._frame_bytes = 0 if leg is None or self._decoder.pending else _whole_frame(leg.fmt)[0]
        except AsteriskProtocolError as error:
            self._listener.counters.protocol_errors += 1
            if leg is None:  # anyone may have sent it
                self._listener.malformed(self.source)
            else:
                log.warning("media leg ended, protocol error peer=%s leg=%s error=%s", self._peer, leg.uuid, error)
            self.hang_up()

    def pause_writing(self) -> None:
        """Skip frames: Asterisk does not read."""
        if self._leg is not None:
            self._leg.blocked = True

    def resume_writing(self) -> None:
        """Write frames again."""
        if self._leg is not None:
            self._leg.blocked = False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (a reset is a normal end: unread audio)
        """Handle the end of the connection."""
        self._listener.connections.discard(self)
        self._listener.unnamed.pop(self, None)
        self._cancel_timer()
        leg, self._leg, self._transport = self._leg, None, None
        self.write = ignore
        if leg is not None:
            self._listener.wheel.remove(leg)
            leg.detach()

    # Methods for the leg

    def hang_up(self) -> None:
        """End the connection as Asterisk expects: 0x00, half-close, and abort after a timeout."""
        transport = self._transport
        if transport is None or self._hung_up:
            return
        self._hung_up = True
        self._frame_bytes = 0
        if self._leg is not None:
            self._listener.wheel.remove(self._leg)
        self._cancel_timer()
        transport.write(HANGUP_MESSAGE)
        try:
            if transport.can_write_eof():
                transport.write_eof()
        except OSError:  # reset by Asterisk, which the loop reports in its next turn
            transport.abort()
            return
        self._timer = asyncio.get_running_loop().call_later(LINGER_S, transport.abort)

    def hand_over(self, leg: MediaLeg) -> None:
        """Continue as another leg's connection."""
        if self._leg is not None:
            self._listener.wheel.remove(self._leg)
        self._leg = leg
        self._listener.wheel.add(leg)
        leg.attach(self)

    def abort(self) -> None:
        """Drop the connection now."""
        if self._transport is not None:
            self._transport.abort()

    # Internals

    def _begin(self, kind: int, payload: bytes) -> MediaLeg | None:
        """Attach the connection to the leg of its first message; return None if it was refused."""
        self._cancel_timer()
        if kind != MessageKind.UUID:
            raise AsteriskProtocolError(f"expected the UUID (kind 0x01) first, got kind 0x{kind:02x}")
        uuid = UUID(bytes=payload)
        leg = self._listener.claim(uuid, self.source)
        if leg is None:
            self.hang_up()
            return None
        self._listener.unnamed.pop(self, None)
        self._leg = leg
        self._frame_header = leg.header
        self._payload = _whole_frame(leg.fmt)[1]
        assert self._transport is not None  # data has just arrived on it
        self._transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDBUF, leg.fmt.bytes_of(SEND_BUFFER_MS)
        )
        self._listener.counters.legs_opened += 1
        self._listener.wheel.add(leg)
        leg.attach(self)
        return leg

    def _count_small_message(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._small_since > 1:
            self._small_since, self._small_messages = now, 0
        self._small_messages += 1
        if self._small_messages > MAX_SMALL_MESSAGES:
            raise AsteriskProtocolError(
                f"more than {MAX_SMALL_MESSAGES} messages of under {SMALL_BYTES} bytes within a second"
            )

    def _too_late(self) -> None:
        self._timer = None
        self._listener.late(self.source)
        self.hang_up()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _refuse_all(_: UUID) -> MediaLeg:
    raise Unexpected
