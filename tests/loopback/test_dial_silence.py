"""Dialed servers that do not exist or stop responding: this is reported in time, and no socket is left."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
from collections.abc import Iterator

import pytest

from bridge.media.dial import LinkFailed

from .dialling import SECRET, dialed
from .servers import Authority, answering, free_port, open_sockets, request, serving, third_party

pytestmark = pytest.mark.usefixtures("nothing_is_left")


async def test_nobody_listens_and_names_that_nobody_has() -> None:
    port = free_port()
    with pytest.raises(LinkFailed, match=rf"^127.0.0.1:{port}: connection refused$"):
        await dialed(f"ws://127.0.0.1:{port}/", {"Authorization": SECRET})
    name = ".".join(["x" * 60] * 5)  # too long for DNS: the resolver rejects it without a query
    with pytest.raises(LinkFailed, match="the host name cannot be resolved"):
        await dialed(f"ws://{name}/")


async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    while await reader.read(4096):
        pass


def never_accepting() -> socket.socket:
    """Return a listening socket whose queue is full: Linux answers no further SYN."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(0)
    return sock


@contextlib.contextmanager
def full_queue() -> Iterator[int]:
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(never_accepting())
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


@pytest.mark.parametrize("stage", ["tcp", "tls", "answer", "half an answer", "answer over tls"])
@pytest.mark.parametrize("ending", ["timeout", "cancelled"])
async def test_silence_ends_in_time_and_leaves_no_socket(
    stage: str, ending: str, authority: Authority, localhost_tls: ssl.SSLContext
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        if stage == "tcp":
            port = stack.enter_context(full_queue())
        elif stage == "half an answer":
            port = await stack.enter_async_context(serving(answering(b"HTTP/1.1 101 Swit")))
        else:
            port = await stack.enter_async_context(serving(silent, localhost_tls if "over" in stage else None))
        before = open_sockets()
        url = f"{'wss' if 'tls' in stage else 'ws'}://localhost:{port}/"
        began = asyncio.get_running_loop().time()
        if ending == "timeout":
            words = "connected, but no answer" if "answer" in stage else "no connection"
            with pytest.raises(LinkFailed, match=f"{words}.* within 0.4 s"):
                await dialed(url, connect_timeout_s=0.4, ca_file=str(authority.file))
            assert 0.3 < asyncio.get_running_loop().time() - began < 1
        else:
            task = asyncio.create_task(dialed(url, ca_file=str(authority.file)))
            await asyncio.sleep(0.4)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        async with asyncio.timeout(1):  # the server's side of it goes too
            while open_sockets() - before:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("turns", range(0, 40, 3))
async def test_cancelled_at_any_moment_no_socket_is_left(
    turns: int, authority: Authority, localhost_tls: ssl.SSLContext
) -> None:
    async with third_party(ssl=localhost_tls) as port:
        before = open_sockets()
        task = asyncio.create_task(dialed(f"wss://localhost:{port}/", ca_file=str(authority.file)))
        for _ in range(turns):
            await asyncio.sleep(0.0005)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            (await task).abort(1000, "")
        async with asyncio.timeout(60):
            while open_sockets() - before:
                await asyncio.sleep(0.01)
                # asyncio (3.11) loses the socket of a create_connection that is cancelled just when the first of the
                # addresses has answered; nobody has it any more, and the collector closes it.
                gc.collect()


@pytest.mark.parametrize("reset", [False, True])
async def test_a_server_that_closes_instead_of_answering(reset: bool) -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        if reset:
            linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    words = "reset by peer" if reset else "closed the connection without an answer"
    async with serving(close) as port:
        with pytest.raises(LinkFailed, match=words):
            await dialed(f"ws://127.0.0.1:{port}/")
