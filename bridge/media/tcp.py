"""What the kernel holds of a connection, beyond what asyncio says of it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import sys
import termios

import aiofastnet

UNSENT_BYTES = 16384
"""What the kernel and the transport may hold unsent: beyond it, waiting happens in the link, where it is counted."""
TCP_INFO_LAST_DATA_RECV = struct.Struct("@52xI")
"""Where Linux's ``struct tcp_info`` (linux/tcp.h) says how many milliseconds ago data came in."""
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""A linger time of 0: closing throws away what was not delivered (socket(7), SO_LINGER)."""


def held_bytes(transport: asyncio.Transport) -> int:
    """How many bytes the transport holds unsent; under TLS also the one below it."""
    below = _below(transport)
    return transport.get_write_buffer_size() + (below.get_write_buffer_size() if below is not None else 0)


def bound_unsent(transport: asyncio.BaseTransport) -> None:
    """Keep little audio in the kernel and the transport: what waits there cannot be dropped and comes late."""
    if isinstance(transport, asyncio.WriteTransport | aiofastnet.Transport):
        transport.set_write_buffer_limits(high=UNSENT_BYTES)
    # Under TLS there is a second transport, whose 64 KiB asyncio offers no other way to bound: 4 s of 8 kHz audio.
    below = _below(transport)
    if below is not None:
        below.set_write_buffer_limits(high=UNSENT_BYTES)
    sock = transport.get_extra_info("socket")
    if sock is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


def unacknowledged(sock: socket.socket | None) -> int:
    """How many bytes the other machine has not acknowledged, those included that were not sent (tcp(7), SIOCOUTQ)."""
    answer = bytearray(4)
    if sock is None:
        return 0
    with contextlib.suppress(OSError, ValueError):  # closed just now
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, answer)
    return int.from_bytes(answer, sys.byteorder)


def received_within(sock: socket.socket | None, seconds: float) -> bool:
    """Whether anything at all came in that time; False where the system does not say."""
    if sock is None or not hasattr(socket, "TCP_INFO"):
        return False
    with contextlib.suppress(OSError):  # closed just now
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_LAST_DATA_RECV.size)
        if len(info) == TCP_INFO_LAST_DATA_RECV.size:
            ago_ms: int = TCP_INFO_LAST_DATA_RECV.unpack(info)[0]
            return ago_ms < seconds * 1000
    return False


def reset_on_close(sock: socket.socket | None) -> None:
    """Let the connection be reset when it is closed: what was not delivered is thrown away."""
    if sock is not None:
        with contextlib.suppress(OSError):  # closed just now
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)


def _below(transport: asyncio.BaseTransport) -> asyncio.WriteTransport | None:
    """Asyncio's second transport under TLS."""
    below = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
    return below if isinstance(below, asyncio.WriteTransport) else None
