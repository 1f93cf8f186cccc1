"""The victim's side of a call: speaks AudioSocket, sends numbered frames and records what comes back, and when.

A process of its own, small and exact. ``python -m tests.attack.observer PORT UUID`` prints one line of JSON, a
`Recording`, for every line that it reads: everything since the previous one.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import sys
import time
from typing import TypedDict
from uuid import UUID

from tests.attack.clock import FRAME_S, LATE_S, first_in_line

SLIN, UUID_KIND = 0x10, 0x01
FRAME_BYTES = 320
"""20 ms of signed linear audio at 8 kHz."""
SILENCE, DAMAGED = -1, -2
"""Instead of a number: a frame of zeros, and one that was never sent."""
_MARK = 0x5A5A
_NUMBER = struct.Struct("<HIH")


class Recording(TypedDict):
    """What the observer has seen; times in seconds by ``time.monotonic()``, which all processes share."""

    sent: list[tuple[float, int]]
    """When each numbered frame was sent."""
    received: list[tuple[float, int]]
    """When each frame came, and its number, `SILENCE` or `DAMAGED`."""
    late: list[tuple[float, float]]
    """From when to when the observer itself should have run and did not."""
    ended: bool
    """The connection has ended."""


def frame_of(number: int) -> bytes:
    """Return the audio of a number: the same 8 bytes repeated, which makes a single wrong sample visible."""
    return _NUMBER.pack(_MARK, number, ~number & 0xFFFF) * (FRAME_BYTES // _NUMBER.size)


def number_of(frame: bytes) -> int:
    """Return the number of a frame, or `SILENCE` or `DAMAGED`."""
    if not any(frame):
        return SILENCE
    if len(frame) == FRAME_BYTES:
        mark, number, check = _NUMBER.unpack_from(frame)
        if mark == _MARK and check == ~number & 0xFFFF and frame == frame_of(number):
            return int(number)
    return DAMAGED


def _connected(port: int) -> socket.socket:
    """Connect; the worker whose port it is may begin to listen after another one has answered for the bridge."""
    give_up = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=5)
        except ConnectionRefusedError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.05)


class Observer:
    """One call, from its UUID until the end of the process."""

    def __init__(self, port: int, uuid: UUID) -> None:
        self._socket = _connected(port)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(struct.pack("!BH", UUID_KIND, 16) + uuid.bytes)
        self._socket.setblocking(False)
        self._pending = b""
        self._number = 0
        self._clear()

    def run(self) -> None:
        """Send, receive and answer until standard input ends."""
        due = time.monotonic()
        while True:
            sources = [sys.stdin] if self._seen["ended"] else [self._socket, sys.stdin]
            ready, _, _ = select.select(sources, [], [], max(0.0, due - time.monotonic()))
            now = time.monotonic()
            if self._socket in ready:
                self._receive(now)
            while now >= due:
                if now - due > LATE_S:
                    self._seen["late"].append((due, now))
                self._send(now)
                due += FRAME_S
            if sys.stdin in ready:
                if not sys.stdin.readline():
                    return
                print(json.dumps(self._seen), flush=True)
                self._clear()

    def _send(self, now: float) -> None:
        if self._seen["ended"]:
            return
        self._number += 1
        try:
            self._socket.send(struct.pack("!BH", SLIN, FRAME_BYTES) + frame_of(self._number))
        except OSError as error:
            self._seen["ended"] = not isinstance(error, BlockingIOError)
            return
        self._seen["sent"].append((now, self._number))

    def _receive(self, now: float) -> None:
        try:
            data = self._socket.recv(1 << 18)
        except OSError:
            data = b""
        if not data:
            self._seen["ended"] = True
            return
        data = self._pending + data
        at = 0
        while len(data) - at >= 3 and len(data) - at >= (size := 3 + int.from_bytes(data[at + 1 : at + 3], "big")):
            if data[at] == SLIN:
                self._seen["received"].append((now, number_of(data[at + 3 : at + size])))
            at += size
        self._pending = data[at:]

    def _clear(self) -> None:
        ended = self._seen["ended"] if hasattr(self, "_seen") else False
        self._seen: Recording = {"sent": [], "received": [], "late": [], "ended": ended}


if __name__ == "__main__":
    sys.stdin = os.fdopen(0, "r", buffering=1)
    first_in_line()
    Observer(int(sys.argv[1]), UUID(sys.argv[2])).run()
