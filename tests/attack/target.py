"""An attacker's view of the bridge, and the tools that attacks share: plain sockets, which allow every misuse."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import json
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from uuid import UUID, uuid4

HOST = "127.0.0.1"
DIALECTS = {"voipbin": "a0", "twilio": "a1", "voxology": "a2", "yeastar": "a3"}
"""First digits of the UUIDs whose AudioSocket connections the bridge gives to the attacker's application."""
VICTIM = "b0"
"""The same for the echo application."""
TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA
MOST_BYTES = 64 << 20
BLOCK_BYTES = 1 << 19
"""How much a flood sends at a time: a receiver that reads a lot in one turn has a lot to do in one turn."""
_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True)
class Target:
    """The bridge under attack.

    Args:
        http_port, audiosocket_port: its two ports.
        application_port: where it dials the attacker's application, and asks the attacker's flow server.
        token: a token that may do everything; attacks by outsiders do not use it.
        source: address of this machine from which attackers connect to the HTTP port: not loopback where there is
            another, for the bridge treats its own machine better; the connections stay on the loopback interface.
        conference: id of a conference that a token holder may stream.
        seconds: how long an attack is to take.
    """

    http_port: int
    audiosocket_port: int
    application_port: int
    source: str
    token: str
    conference: str
    seconds: float
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def from_json(cls, text: str) -> Target:
        """Read what `to_json` has written; the time begins now."""
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """Return it as one line."""
        return json.dumps({name: value for name, value in asdict(self).items() if name != "began"})

    @property
    def left_s(self) -> float:
        """Seconds until the attack is to end."""
        return max(0.0, self.began + self.seconds - time.monotonic())

    def wait(self) -> None:
        """Do nothing until the attack is to end."""
        time.sleep(self.left_s)

    def repeat(self, once: Callable[[], int]) -> int:
        """Do something again and again until the attack is to end; return how much was done.

        An attempt that the bridge turns away counts as one.
        """
        done = 0
        while self.left_s:
            try:
                done += once()
            except OSError:
                done += 1
                time.sleep(0.005)
        return done

    def many(self, count: int, connect: Callable[[], socket.socket]) -> list[socket.socket]:
        """Open many connections; return those that the bridge has taken before the attack is to end."""
        connections: list[socket.socket] = []
        for _ in range(count):
            if not self.left_s:
                break
            with contextlib.suppress(OSError):
                connections.append(connect())
        return connections

    # HTTP

    def connect(self, port: int | None = None, *, receive_buffer: int = 0) -> socket.socket:
        """Open a TCP connection, by default to the HTTP port."""
        connection = socket.socket()
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(max(0.5, self.left_s))
        if port is None:
            connection.bind((self.source, 0))
        connection.connect((HOST, port or self.http_port))
        return connection

    def head(self, method: str, path: str, *headers: str, token: bool = True) -> bytes:
        """Return the head of a request, with the token or without."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}:{self.http_port}", *headers]
        if token:
            lines.append(f"Authorization: Bearer {self.token}")
        return "\r\n".join([*lines, "", ""]).encode()

    def post(self, path: str, body: bytes, *headers: str, token: bool = True) -> bytes:
        """Return a whole POST of JSON."""
        length = f"Content-Length: {len(body)}"
        return self.head("POST", path, "Content-Type: application/json", length, *headers, token=token) + body

    def ask(self, request: bytes) -> int:
        """Send a whole request over a connection of its own; return the status code, 0 for none."""
        with contextlib.suppress(OSError), self.connect() as connection:
            connection.sendall(request)
            answer = connection.recv(65536)
            return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0
        return 0

    def ask_again(self, *requests: bytes) -> int:
        """Send requests again and again, one after the other; return how many were sent."""
        sent = 0
        for request in itertools.cycle(requests):
            if not self.left_s:
                break
            self.ask(request)
            sent += 1
        return sent

    # Floods

    def flood(self, connection: socket.socket, data: bytes, *, most: int = MOST_BYTES, reads: bool = False) -> int:
        """Send the same bytes again and again, as fast as they go; stop when the other side ends it.

        Args:
            most: stop after this many bytes.
            reads: take in what comes back; otherwise it is left to fill the buffers.

        Returns:
            How many times the data was sent.
        """
        block = data * max(1, BLOCK_BYTES // len(data))
        sent = 0
        view = memoryview(block)
        at = 0
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BLOCK_BYTES)
            connection.setblocking(False)
            while self.left_s and sent < most:
                readable, writable, _ = select.select([connection] if reads else [], [connection], [], self.left_s)
                if readable and not connection.recv(1 << 18):
                    break
                if writable:
                    count = connection.send(view[at:])
                    at = (at + count) % len(block)
                    sent += count
        return sent // len(data)

    def trickle(self, connections: list[socket.socket], data: bytes, every_s: float = 0.1) -> int:
        """Send one byte of the data on each connection from time to time; return how many bytes went out."""
        sent = 0
        for at in range(1 << 30):
            if not self.left_s or not connections:
                break
            for connection in tuple(connections):
                try:
                    sent += connection.send(data[at % len(data) : at % len(data) + 1])
                except OSError:
                    connections.remove(connection)
            time.sleep(every_s)
        return sent

    # WebSocket

    def websocket(self, path: str = "") -> socket.socket:
        """Open a WebSocket, by default a stream on the conference.

        Raises:
            OSError: refused.
        """
        path = path or f"/v1.0/conferences/{self.conference}/media_stream?encapsulation=sln"
        connection = self.connect()
        key = base64.b64encode(os.urandom(16)).decode()
        wanted = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}")
        connection.sendall(self.head("GET", path, *wanted))
        answer = connection.recv(4096)
        if b" 101 " not in answer.split(b"\r\n", 1)[0]:
            raise ConnectionRefusedError(answer[:300])
        return connection

    def audiosocket(self, uuid: UUID | None = None) -> socket.socket:
        """Open an AudioSocket connection, and name its UUID if there is one."""
        connection = self.connect(self.audiosocket_port)
        if uuid is not None:
            connection.sendall(uuid_message(uuid))
        return connection

    def application_called(self, dialect: str = "voipbin", times: int = 1) -> Iterator[socket.socket]:
        """Be an application that the bridge dials: yield its TCP connections, the request not yet read.

        Args:
            times: how many calls are made that need the application; the bridge dials again when it is cut off.
        """
        with socket.create_server((HOST, self.application_port), backlog=64) as server, contextlib.ExitStack() as calls:
            for _ in range(times):
                calls.enter_context(self.audiosocket(uuid_of(DIALECTS[dialect])))
            while self.left_s:
                server.settimeout(max(0.05, self.left_s))
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    return
                connection.settimeout(max(0.5, self.left_s))
                with connection:
                    yield connection

    def application(self, dialect: str = "voipbin", times: int = 1) -> Iterator[socket.socket]:
        """Be an application that the bridge dials: yield its WebSockets, the handshake done."""
        for connection in self.application_called(dialect, times):
            with contextlib.suppress(OSError):
                accept(connection)
                yield connection


def outside_address() -> str:
    """Return an address of this machine that is not loopback, or `HOST` if there is none; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # RFC 5737: of documentation
        return str(probe.getsockname()[0])
    return HOST


def uuid_of(first_digits: str) -> UUID:
    """Return a UUID that begins so."""
    return UUID(first_digits + str(uuid4())[len(first_digits) :])


def uuid_message(uuid: UUID) -> bytes:
    """Return what every AudioSocket connection begins with."""
    return struct.pack("!BH", 0x01, 16) + uuid.bytes


def accept(connection: socket.socket) -> None:
    """Answer a WebSocket handshake as a server."""
    request = read_head(connection)
    key = next(
        line.split(b":", 1)[1].strip()
        for line in request.split(b"\r\n")
        if line.lower().startswith(b"sec-websocket-key:")
    )
    proof = base64.b64encode(hashlib.sha1(key + _WEBSOCKET_GUID).digest())
    connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + proof + b"\r\n\r\n"
    )


def read_head(connection: socket.socket) -> bytes:
    """Read up to the end of an HTTP head.

    Raises:
        ConnectionError: the connection ended before.
    """
    head = b""
    while b"\r\n\r\n" not in head:
        data = connection.recv(4096)
        if not data:
            raise ConnectionResetError("no whole head")
        head += data
    return head


def frame(opcode: int, payload: bytes = b"", *, final: bool = True, masked: bool = True) -> bytes:
    """Return one WebSocket frame (RFC 6455 5.2); a client's is masked, with a key of zeros that changes nothing."""
    size = len(payload)
    first = (0x80 if final else 0) | opcode
    mask = 0x80 if masked else 0
    if size < 126:
        head = struct.pack("!BB", first, mask | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, mask | 126, size)
    else:
        head = struct.pack("!BBQ", first, mask | 127, size)
    return head + (bytes(4) if masked else b"") + payload
