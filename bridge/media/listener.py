"""The AudioSocket server: Asterisk dials it once for each media leg.

Protocol: docs.asterisk.org "AudioSocket"; behavior read in Asterisk 22.10 (res_audiosocket.c, chan_audiosocket.c).
The order of TCP accept, answer of the ARI request and StasisStart is not fixed, so a leg is announced with
``expect`` before Asterisk is asked for it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable
from functools import cache
from typing import cast
from uuid import UUID

import aiofastnet

from bridge.audio.audiosocket import HANGUP_MESSAGE, HEADER_BYTES, Decoder, Kind
from bridge.audio.format import AudioFormat
from bridge.errors import AsteriskProtocolError, BridgeError
from bridge.logs import cause
from bridge.media.admission import Admission
from bridge.media.counters import Counters
from bridge.media.leg import MediaLeg, ignore
from bridge.media.playout_clock import PlayoutClock
from bridge.media.sockets import SparingSocket, bind

log = logging.getLogger(__name__)

LINGER_S = 1.0
"""How long Asterisk may take to close after our hang-up before the connection is aborted."""
MAX_UNNAMED = 32
"""Connections that have not named a UUID within `NAMING_S`, besides one for each leg that is expected."""
NAMING_S = 0.1
"""Asterisk names the UUID at once: those of a burst, accepted in one turn of the loop, are read within this."""
SHED_AT_ONCE = 32
SHED_AGAIN_S = 0.01
"""Closing a thousand connections takes 100 ms: in parts, between which frames have their turn."""
MAX_ARRIVING = 1024
"""Connections that have not named a UUID yet, in all; the accept queue is no longer either."""
READ_BYTES = 65536
SMALL_BYTES, MAX_SMALL_MESSAGES = 32, 1000
"""Messages with less payload (2 ms of audio at 8 kHz, or a DTMF digit) that one leg may send in a second: each costs as
much as a whole frame."""
SEND_BUFFER_MS = 500
"""How much audio our kernel may hold for an Asterisk that does not read. By itself it would take megabytes; Asterisk's
kernel takes what it takes (docs/howto/index.md)."""


_ADVICE = "; if it is Asterisk, add it to audiosocket.allowed"


class Unexpected(BridgeError):
    """No leg is for a UUID; the text says why."""

    def __init__(self, reason: str = "no leg is expected with its UUID, and no uuid: route matches it") -> None:
        super().__init__(reason)


# One buffer serves every connection: what is read is consumed before the callback returns.
_read_bytes = bytearray(READ_BYTES)
_read_buffer = memoryview(_read_bytes)


@cache
def _whole_frame(fmt: AudioFormat) -> tuple[int, memoryview]:
    """Bytes of the message with 20 ms, and its payload where it is read to: the same objects for all connections."""
    size = HEADER_BYTES + fmt.frame_bytes
    return size, _read_buffer[HEADER_BYTES:size]


class Listener:
    """Accepts AudioSocket connections and hands each to the leg that expects its UUID.

    Args:
        handshake_timeout_s: how long a connection may take to name its UUID.
        admission: who may connect; everybody if it is not given.
    """

    def __init__(
        self, counters: Counters, *, handshake_timeout_s: float = 5.0, admission: Admission | None = None
    ) -> None:
        self.counters = counters
        self.admission = admission or Admission()
        self.last_refusal = ""
        """Which connection was refused last, and why; empty: none."""
        self.unnamed: dict[Connection, float] = {}
        """Connections that have named no UUID, oldest first, and when they came by the loop's clock."""
        self.handshake_timeout_s = handshake_timeout_s
        self.wheel = PlayoutClock(counters)
        self.connections: set[Connection] = set()
        self.unexpected: Callable[[UUID], MediaLeg] = _refuse_all
        """Returns the leg for a UUID that no leg expects, or raises `Unexpected`."""
        self._expected: dict[UUID, MediaLeg] = {}
        self._withdrawn: deque[UUID] = deque(maxlen=1000)
        """UUIDs of ours that came to nothing: who comes late with one is not from the dialplan."""
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
                loop, lambda: Connection(self), sock=SparingSocket(bound), backlog=MAX_ARRIVING
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
            connection.abort()
        for server in servers:
            await server.wait_closed()
        if self.connections:  # before Python 3.12 wait_closed does not wait for them; an abort takes one turn
            await asyncio.sleep(0)

    @property
    def listening(self) -> bool:
        """Whether Asterisk can connect."""
        return bool(self._servers) and all(server.is_serving() for server in self._servers)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        if not self._servers:
            raise RuntimeError("the listener is not started")
        port: int = self._servers[0].sockets[0].getsockname()[1]
        return port

    @property
    def expected(self) -> int:
        """How many legs wait for their connection."""
        return len(self._expected)

    def expect(self, leg: MediaLeg) -> None:
        """Let a connection that names ``leg.uuid`` in; to be called before Asterisk is asked to dial."""
        self._expected[leg.uuid] = leg

    def forget(self, leg: MediaLeg) -> None:
        """No longer expect ``leg``; harmless if it has come or was never expected."""
        if self._expected.pop(leg.uuid, None) is not None:
            self._withdrawn.append(leg.uuid)

    def claim(self, uuid: UUID, source: str) -> MediaLeg | None:
        """The leg that expects ``uuid``, once: a second connection with the same UUID is refused.

        Args:
            uuid: what the connection has named.
            source: the address that it comes from.
        """
        leg = self._expected.pop(uuid, None)
        if leg is not None:
            self.admission.learn(source)
            return leg
        if uuid in self._withdrawn:
            self._refuse("it names a UUID that is no longer expected", source)
        elif not self.admission.expects(source):
            self._refuse(f"neither its UUID nor its source is expected: {self.admission}{_ADVICE}", source)
        else:
            try:
                return self.unexpected(uuid)
            except Unexpected as error:
                self._refuse(str(error), source)
        return None

    def admit(self, connection: Connection, source: str) -> bool:
        """Let a new connection stand until it has named its UUID; False: it is refused."""
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
        """Note that a connection has named no UUID in time."""
        self._refuse(f"it has named no UUID within {self.handshake_timeout_s:g} s", source)

    def _shed(self) -> None:
        """Refuse connections that have had time to name a UUID, the oldest first, until few enough are left."""
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
        self._refuse("too many connections that have named no UUID", oldest.source)
        oldest.abort()

    def malformed(self, source: str) -> None:
        """Note that a connection does not speak AudioSocket: anyone may open one."""
        self._report("it does not begin with a UUID", source)

    def _refuse(self, reason: str, source: str) -> None:
        self.counters.legs_refused += 1
        self._report(reason, source)

    def _report(self, reason: str, source: str) -> None:
        self.last_refusal = f"{source}: {reason}"
        log.warning("connection refused: %s peer=%s", reason, source, extra=cause(reason))


class Connection(asyncio.BufferedProtocol):
    """One TCP connection from Asterisk."""

    # Slots here and in all that a frame passes: hundreds of calls do not fit into the processor's caches, and an
    # attribute without one is a further line of them.
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
        """Send whole messages: header and payload in one write, as Asterisk gives the payload only 5 ms."""
        self._listener = listener
        self._decoder = Decoder()
        self._leg: MediaLeg | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._peer = "?"
        self.source = "?"
        """The address that it comes from."""
        self._hung_up = False
        self._small_messages, self._small_since = 0, 0.0
        self._frame_bytes = 0  # of one whole frame of 20 ms, which is how Asterisk writes; 0: nothing may be one
        self._frame_header = b""
        self._payload = _read_buffer  # of such a frame, where it is read to

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # create_server gives TCP transports, TCP_NODELAY set
        self.write = self._transport.write
        host, port = transport.get_extra_info("peername")[:2]
        self.source, self._peer = host, f"{host}:{port}"
        self._listener.connections.add(self)
        if not self._listener.admit(self, host):
            # Not now: aiofastnet 1.2 adds its reader after this call, and then to a socket that is closed.
            asyncio.get_running_loop().call_soon(self._transport.abort)
            return
        # Frames are worthless when late: hold back early rather than pile up seconds of audio.
        self._transport.set_write_buffer_limits(high=16384)
        self._timer = asyncio.get_running_loop().call_later(self._listener.handshake_timeout_s, self._too_late)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (asyncio's signature)
        return _read_buffer

    def buffer_updated(self, nbytes: int) -> None:
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
                elif kind >= Kind.SLIN and kind != Kind.ERROR:
                    if len(payload) < SMALL_BYTES:
                        self._count_small_message()
                    leg.received(kind, payload)
                elif kind == Kind.DTMF:
                    self._count_small_message()
                    leg.on_dtmf(payload.decode("ascii", "replace"))
                elif kind == Kind.UUID:
                    raise AsteriskProtocolError("a second UUID on one connection")
                else:  # Asterisk never says so, other implementations do
                    self.hang_up()
                    return
            if not self._hung_up:  # which what was called here may have done
                self._frame_bytes = 0 if leg is None or self._decoder.pending else _whole_frame(leg.fmt)[0]
        except AsteriskProtocolError as error:
            self._listener.counters.protocol_errors += 1
            if leg is None:  # anybody may have sent it
                self._listener.malformed(self.source)
            else:
                log.warning("peer=%s leg=%s ended: %s", self._peer, leg.uuid, error)
            self.hang_up()

    def pause_writing(self) -> None:
        if self._leg is not None:
            self._leg.blocked = True

    def resume_writing(self) -> None:
        if self._leg is not None:
            self._leg.blocked = False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (a reset is a normal end: unread audio)
        self._listener.connections.discard(self)
        self._listener.unnamed.pop(self, None)
        self._cancel_timer()
        leg, self._leg, self._transport = self._leg, None, None
        self.write = ignore
        if leg is not None:
            self._listener.wheel.remove(leg)
            leg.detach()

    # What the leg calls

    def hang_up(self) -> None:
        """End the connection the way Asterisk likes it: 0x00, half-close, and abort if it does not follow."""
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
        except OSError:  # Asterisk has reset the connection, and the loop will tell us so in its next turn
            transport.abort()
            return
        self._timer = asyncio.get_running_loop().call_later(LINGER_S, transport.abort)

    def hand_over(self, leg: MediaLeg) -> None:
        """Be another leg's connection from now on."""
        if self._leg is not None:
            self._listener.wheel.remove(self._leg)
        self._leg = leg
        self._listener.wheel.add(leg)
        leg.attach(self)

    def abort(self) -> None:
        """Drop the connection now."""
        if self._transport is not None:
            self._transport.abort()

    # Inside

    def _begin(self, kind: int, payload: bytes) -> MediaLeg | None:
        """Hand the connection over to the leg that its first message names; None if it was refused."""
        self._cancel_timer()
        if kind != Kind.UUID:
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
        assert self._transport is not None  # data has just come on it
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
