"""Examples that do not reach a bridge say so in one line."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from .servers import free_port

EXAMPLES = Path(__file__).parents[2] / "examples"


async def run(*command: str, url: str) -> tuple[int | None, list[str]]:
    """Return the exit code and the lines of the error output."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "BRIDGE_URL": url},
        stderr=asyncio.subprocess.PIPE,
    )
    _, written = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode, written.decode().splitlines()


def command_of(name: str) -> tuple[str, str]:
    program = sys.executable if name.endswith(".py") else shutil.which("node")
    if program is None:
        pytest.skip("node is not installed")
    return program, str(EXAMPLES / name)


@pytest.mark.parametrize("name", ["listen.py", "listen.mjs"])
async def test_without_a_bridge(name: str) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    code, (line,) = await run(*command_of(name), url=url)
    assert code == 1
    assert line.startswith(f"{url}: ")
    assert "BRIDGE_URL" in line


@pytest.mark.parametrize("name", ["listen.py", "listen.mjs"])
async def test_with_a_token_that_is_not_its_own(name: str) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.json_response({"error": {}}, status=401)

    application = web.Application()
    application.router.add_get("/v1.0/calls", refuse)
    async with TestServer(application) as server:
        code, (line,) = await run(*command_of(name), url=str(server.make_url("")).rstrip("/"))
    assert code == 1
    assert "BRIDGE_TOKEN" in line
