"""Run the programs of the documents in tests/wire/seeds: with Node.js, Python or a shell, as their authors would."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.testing import packages
from tests.lab.waiting import PATIENCE_S, until

SEEDS = Path(__file__).parents[1] / "wire" / "seeds"
NODE_PACKAGES = ("nodejs", "node-ws")


def seed(name: str, replaced: dict[str, str] | None = None) -> str:
    """Return a file of the documents, with hosts, ids and tokens replaced; each of them occurs in it.

    Args:
        name: its path below `SEEDS`.
        replaced: by what is printed.
    """
    text = (SEEDS / name).read_text()
    for printed, ours in (replaced or {}).items():
        assert printed in text, (name, printed)
        text = text.replace(printed, ours)
    return text


class Program:
    """A running program; its output is complete once it has ended."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self.folder = folder
        self.output = ""
        self._process = process
        self._reading = asyncio.create_task(self._read())

    async def prints(self, text: str) -> None:
        """Wait until the program has printed a string."""
        await until(lambda: text in self.output)

    async def ended(self) -> int:
        """Wait until the program has ended by itself; return its exit code."""
        async with asyncio.timeout(PATIENCE_S):
            await self._reading
            return await self._process.wait()

    async def stop(self) -> None:
        """End the program if it runs."""
        if self._process.returncode is None:
            self._process.terminate()
        await self.ended()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while chunk := await self._process.stdout.read(65_536):
            self.output += chunk.decode()


@contextlib.asynccontextmanager
async def running(folder: Path, *command: str, **environment: str) -> AsyncIterator[Program]:
    """Run a program in a folder; it is ended at the end."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    program = Program(process, folder)
    try:
        yield program
    finally:
        await program.stop()


@contextlib.asynccontextmanager
async def node(folder: Path, script: str, *, browser: bool = False) -> AsyncIterator[Program]:
    """Run a script with this machine's Node.js and Debian's ``ws``; skip the test where there is no Node.js.

    Args:
        browser: the script is one for browsers, where ``WebSocket`` needs no ``require``.
    """
    program = shutil.which("node")
    if program is None:
        pytest.skip("needs Node.js")
    root = await asyncio.to_thread(packages.ensure, print, NODE_PACKAGES)
    (folder / "client.js").write_text(script)
    (folder / "browser.js").write_text("globalThis.WebSocket = require('ws');\n" if browser else "")
    options = ("--require", "./browser.js", "client.js")
    async with running(folder, program, *options, NODE_PATH=str(root.path / "usr" / "share" / "nodejs")) as started:
        yield started


@contextlib.asynccontextmanager
async def python(folder: Path, script: str) -> AsyncIterator[Program]:
    """Run a script with this Python, which has ``websocket-client``."""
    (folder / "client.py").write_text(script)
    async with running(folder, sys.executable, "-u", "client.py") as started:
        yield started
