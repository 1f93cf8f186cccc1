"""Connection state that the kernel has and asyncio does not report."""

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
"""Limit of unsent data in the kernel and the transport; further data waits in the link, where it is counted."""
TCP_INFO_LAST_DATA_RECV = struct.Struct("@52xI")
"""Offset in Linux's ``struct tcp_info`` (linux/tcp.h) of the milliseconds since data was received."""
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""A linger time of 0: closing discards undelivered data (socket(7), SO_LINGER)."""


def held_bytes(transport: asyncio.Transport) -> int:
    """Return the unsent bytes in the transport, under TLS also in the transport below."""
    below = _below(transport)
    return transport.get_write_buffer_size() + (below.get_write_buffer_size() if below is not None else 0)


def bound_unsent(transport: asyncio.BaseTransport) -> None:
    """Limit the audio in the kernel and the transport, where it cannot be dropped and becomes late."""
    if isinstance(transport, asyncio.WriteTransport | aiofastnet.Transport):
        transport.set_write_buffer_limits(high=UNSENT_BYTES)
    # Under TLS there is a second transport, whose 64 KiB (4 s of 8 kHz audio) asyncio offers no other way to limit.
    below = _below(transport)
    if below is not None:
        below.set_write_buffer_limits(high=UNSENT_BYTES)
    sock = transport.get_extra_info("socket")
    if sock is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


def unacknowledged(sock: socket.socket | None) -> int:
    """Return the bytes that the peer has not acknowledged, including unsent ones (tcp(7), SIOCOUTQ)."""
    answer = bytearray(4)
    if sock is None:
        return 0
    with contextlib.suppress(OSError, ValueError):  # closed just now
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, answer)
    return int.from_bytes(answer, sys.byteorder)


def received_within(sock: socket.socket | None, seconds: float) -> bool:
    """Return whether any data was received in that time; False on systems without this information."""
    if sock is None or not hasattr(socket, "TCP_INFO"):
        return False
    with contextlib.suppress(OSError):  # closed just now
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_LAST_DATA_RECV.size)
        if len(info) == TCP_INFO_LAST_DATA_RECV.size:
            ago_ms: int = TCP_INFO_LAST_DATA_RECV.unpack(info)[0]
            return ago_ms < seconds * 1000
    return False


def reset_on_close(sock: socket.socket | None) -> None:
    """Reset the connection when it is closed, which discards undelivered data."""
    if sock is not None:
        with contextlib.suppress(OSError):  # closed just now
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)


def _below(transport: asyncio.BaseTransport) -> asyncio.WriteTransport | None:
    """Return asyncio's second transport under TLS."""
    below = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
    return below if isinstance(below, asyncio.WriteTransport) else None
