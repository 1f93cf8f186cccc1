"""``asterisk-bridge call`` as people run it: a program of its own, a bridge with a token, a real phone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from bridge.app.application import Application
from bridge.config import HttpConfig
from bridge.testing.lab_engine import Lab
from tests.lab.conftest import Phones, configuration
from tests.lab.driving import begin_of, by_hand, caller_of, said
from tests.lab.target import Target
from tests.lab.waiting import PATIENCE_S

TOKEN = "0123456789abcdef0123456789abcdef"
TEXT = "Thank you for calling our office."
LINE = re.compile(r" *[0-9]+\.[0-9] s  (.*)")


@pytest.fixture
async def target(lab: Lab) -> AsyncIterator[Target]:
    """A bridge that requires a token."""
    config = configuration(lab).model_copy(update={"http": HttpConfig(port=0, tokens=(SecretStr(TOKEN),))})
    async with Application(config) as bridge:
        target = Target(lab, f"http://127.0.0.1:{bridge.http_port}", TOKEN, bridge)
        async with asyncio.timeout(PATIENCE_S):
            while (await target.get("/health"))[0] != 200:
                await asyncio.sleep(0.02)
        yield target
        await target.nothing_left()


@contextlib.asynccontextmanager
async def command(target: Target, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the program; kill it if it still runs at the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bridge", "call", "--url", target.url, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def result(process: asyncio.subprocess.Process, timeout_s: float = 20) -> tuple[int | None, list[str], str]:
    """Return the exit code, the lines of output without their times, and standard error."""
    async with asyncio.timeout(timeout_s):
        out, err = await process.communicate()
    lines = [LINE.fullmatch(line) for line in out.decode().splitlines()]
    assert all(lines), out
    return process.returncode, [line[1] for line in lines if line], err.decode()


async def test_the_progress_of_a_call(target: Target, phones: Phones) -> None:
    (alice,) = await phones("1001")
    async with command(target, "1001", "--token", TOKEN, "--from", "4930555", "--talk", TEXT) as process:
        code, lines, complaints = await result(process)
    assert (code, complaints) == (0, "")
    assert re.fullmatch(r"calling 1001 \(\S+\)", lines[0])
    assert lines[1:] == ["ringing", "answered", "action 1: talk", "over: normal"]
    begin_of((await said(target.lab, TEXT))[0], await alice.heard())
    assert "4930555" in caller_of(alice)


async def test_a_busy_phone_and_a_wrong_token(target: Target, phones: Phones) -> None:
    (alice,) = await phones("1001")
    async with by_hand(alice), command(target, "1001", "--token", TOKEN) as process:
        await alice.called()
        await alice.command("hangup")
        code, lines, complaints = await result(process)
    assert (code, lines[1:], complaints) == (1, ["ringing", "over: busy (SIP response 486)"], "")
    async with command(target, "1001", "--token", "x" * 32) as process:
        code, lines, complaints = await result(process)
    assert (code, lines) == (1, [])
    assert "requires a token" in complaints


async def test_ctrl_c_hangs_up(target: Target, phones: Phones) -> None:
    (alice,) = await phones("1001")
    async with command(target, "1001", "--token", TOKEN, "--talk", " ".join([TEXT] * 20)) as process:
        await alice.answered(10)
        assert process.stdout is not None
        while b"action 1" not in await asyncio.wait_for(process.stdout.readline(), PATIENCE_S):
            pass
        process.send_signal(signal.SIGINT)
        code, lines, complaints = await result(process, 5)
    assert (code, lines, complaints) == (0, ["over: normal"], "")
    await alice.ended(2)
