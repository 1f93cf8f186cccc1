"""Servers for links to dial: of a third party, and ones that misbehave as a test specifies; certificates."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from websockets.asyncio.server import ServerConnection, serve

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def third_party(handler=None, **options) -> AsyncIterator[int]:  # type: ignore[no-untyped-def]
    """Run a server of the websockets library, by default an echo, and yield its port."""

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    options.setdefault("max_size", 1 << 22)
    async with serve(handler or echo, "127.0.0.1", 0, **options) as server:
        yield next(iter(server.sockets)).getsockname()[1]


@contextlib.asynccontextmanager
async def serving(
    serve: Serve, tls: ssl.SSLContext | None = None, sock: socket.socket | None = None
) -> AsyncIterator[int]:
    """Run a TCP or TLS server that calls ``serve`` for every connection and then closes it, and yield its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            writer.transport.abort()

    if sock is None:
        sock = socket.create_server(("127.0.0.1", 0))
    server = await asyncio.start_server(connected, sock=sock, ssl=tls)
    try:
        yield sock.getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def request(reader: asyncio.StreamReader) -> bytes:
    """Read the upgrade request."""
    return await reader.readuntil(b"\r\n\r\n")


def accept(head: bytes, first: bytes = b"HTTP/1.1 101 Switching Protocols", connection: bytes = b"Upgrade") -> bytes:
    """Return the response that accepts the request ``head``."""
    key = next(line[19:] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key: "))
    digest = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    return b"%b\r\nUpgrade: websocket\r\nConnection: %b\r\nSec-WebSocket-Accept: %b\r\n\r\n" % (
        first,
        connection,
        digest,
    )


def answering(answer: bytes, later: bytes = b"", *, stays: bool = True):  # type: ignore[no-untyped-def]
    """Return a server with this response, of which ``later`` comes in a packet of its own."""

    async def answer_so(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(answer)
        if later:
            await asyncio.sleep(0.05)
            writer.write(later)
        if stays:
            await reader.read()
        else:
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    return answer_so


def text_frame(text: bytes) -> bytes:
    """Return a short text message as a server sends it."""
    return bytes([0x81, len(text)]) + text


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Opcode and content of a frame of a client."""
    head = await reader.readexactly(2)
    size = head[1] & 0x7F
    if size >= 126:
        size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
    mask = await reader.readexactly(4)
    data = await reader.readexactly(size)
    return head[0] & 0x0F, bytes(byte ^ mask[n % 4] for n, byte in enumerate(data))


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def open_sockets() -> set[str]:
    """Return the sockets of this process."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/self/fd/{fd}"))
    return {name for name in found if name.startswith("socket:")}


class Authority:
    """A certificate authority of our own, made with the openssl program, as strict as Python 3.13 wants it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "ca.pem"
        _openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"),
            *("-subj", "/CN=a test's authority", "-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            *("-keyout", folder / "ca.key", "-out", self.file),
        )

    def server(self, names: str) -> ssl.SSLContext:
        """Return the TLS context of a server called ``names`` (as in subjectAltName)."""
        certificate, key = self.issue(names)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return context

    def issue(self, names: str) -> tuple[Path, Path]:
        """Issue a certificate for ``names`` and return its file and its key's."""
        stem = self.folder / names.replace(":", "-").replace(",", "_")
        _openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"),
            *("-CA", self.file, "-CAkey", self.folder / "ca.key", "-subj", "/CN=a server"),
            *("-addext", f"subjectAltName={names}", "-addext", "basicConstraints=critical,CA:FALSE"),
            *("-addext", "authorityKeyIdentifier=keyid"),
            *("-keyout", f"{stem}.key", "-out", f"{stem}.pem"),
        )
        return Path(f"{stem}.pem"), Path(f"{stem}.key")

    def by_hand(self, names: str) -> tuple[ssl.SSLContext, Path]:
        """Return the TLS context of a server with a self-signed certificate, and that certificate's file."""
        stem = self.folder / "by-hand"
        _openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=by hand"),
            *("-addext", f"subjectAltName={names}", "-keyout", f"{stem}.key", "-out", f"{stem}.pem"),
        )
        return _server_context(stem), Path(f"{stem}.pem")


def _server_context(stem: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{stem}.pem", f"{stem}.key")
    return context


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
