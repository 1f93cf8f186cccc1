"""``serve`` as a process: what it says, how it ends. Asterisk need not be there for that."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator

import pytest

TOKEN = "a-token-nobody-guesses"
ENV = {
    "ASTERISK_BRIDGE_ARI__URL": "http://127.0.0.1:9",
    "ASTERISK_BRIDGE_ARI__USER": "bridge",
    "ASTERISK_BRIDGE_ARI__PASSWORD": "a secret word",
    "ASTERISK_BRIDGE_HTTP__PORT": "0",
    "ASTERISK_BRIDGE_AUDIOSOCKET__BIND_PORT": "0",
    "ASTERISK_BRIDGE_STREAMS__STATE_FILE": ":memory:",
}


@contextlib.asynccontextmanager
async def serving(**changes: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge", "serve", env=ENV | changes, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def read_until(process: asyncio.subprocess.Process, words: str) -> str:
    """What it has written to standard error up to the line that holds ``words``."""
    assert process.stderr
    text = ""
    async with asyncio.timeout(20):
        while words not in text:
            line = await process.stderr.readline()
            assert line, f"ended without saying {words!r}: {text}"
            text += line.decode()
    return text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_says_where_it_listens_and_ends_at_a_signal(number: signal.Signals) -> None:
    async with serving() as process:
        said = await read_until(process, "no token configured: listening on loopback only")
        port = re.search(r"applications: http://127\.0\.0\.1:([0-9]+)", said)
        assert port
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port[1]))
        writer.write(b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert b" 503 " in await reader.readline()
        writer.close()
        process.send_signal(number)
        said += await read_until(process, "stopped")
        assert await process.wait() == 0
    assert "Traceback" not in said
    assert "secret" not in said


async def test_tokens_are_counted_not_shown() -> None:
    async with serving(ASTERISK_BRIDGE_HTTP__TOKENS=TOKEN) as process:
        said = await read_until(process, "1 token(s) configured")
    assert TOKEN not in said


@pytest.mark.parametrize(("streams", "warns"), [("1", False), ("100000", True)])
async def test_it_warns_when_it_may_open_too_few_files(streams: str, warns: bool) -> None:
    async with serving(
        ASTERISK_BRIDGE_MEDIA__MAX_STREAMS=streams, ASTERISK_BRIDGE_HTTP__MAX_CONNECTIONS="1"
    ) as process:
        said = await read_until(process, "no token configured")
    assert ("files may be open" in said) == warns


@pytest.mark.parametrize("key", ["HTTP__PORT", "AUDIOSOCKET__BIND_PORT"])
async def test_a_port_that_is_taken(key: str) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        async with serving(**{f"ASTERISK_BRIDGE_{key}": port}) as process:
            assert process.stderr
            said = (await process.stderr.read()).decode()
            assert await process.wait() == 1
    assert f"asterisk-bridge: {key.lower().replace('__', '.')}: 127.0.0.1:{port} is already in use" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("key", ["HTTP__PORT", "AUDIOSOCKET__BIND_PORT"])
async def test_a_port_that_is_taken_ends_all_workers(key: str) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        async with serving(**{"ASTERISK_BRIDGE_WORKERS__COUNT": "2", f"ASTERISK_BRIDGE_{key}": port}) as process:
            assert process.stderr
            said = (await asyncio.wait_for(process.stderr.read(), 30)).decode()
            assert await process.wait() == 1
    assert f"asterisk-bridge: {key.lower().replace('__', '.')}: 127.0.0.1:{port} is already in use" in said
    assert "Traceback" not in said


async def test_a_worker_that_dies_is_started_again() -> None:
    async with serving(ASTERISK_BRIDGE_WORKERS__COUNT="2") as process:
        said = await read_until(process, "no token configured")
        (pid,) = re.findall(r"worker 2 is pid (\d+)", said)
        os.kill(int(pid), signal.SIGKILL)
        said = await read_until(process, "worker 2 is pid")
        assert f"worker 2 (pid {pid}) ended with signal SIGKILL" in said
        process.send_signal(signal.SIGTERM)
        said += await read_until(process, "INFO bridge.cli stopped")
        assert await process.wait() == 0
    assert "Traceback" not in said
