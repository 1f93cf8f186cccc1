"""The tutorials of the documentation work as they are written: their commands run, against a lab of ``./lab up``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.testing import judge
from bridge.testing.lab_engine import free_port, free_port_block
from bridge.testing.phone import RATE, read_wav

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "tutorials"
STEP_S = 120.0
"""How long a step may take: `./lab up` may have to fetch Asterisk."""
LAB = 'eval "$(./lab env)"'
KEPT_OUT = {".git", ".lab", ".pytest_cache"}


class Tutorial:
    """A page, and a checkout of its own in which its commands run."""

    def __init__(self, page: str, checkout: Path) -> None:
        text = (PAGES / page).read_text()
        self.checkout = checkout
        self.commands: list[str] = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        for name, content in re.findall(r"as\s+`([\w.]+)`:\n\n```\w+\n(.*?)```", text, re.DOTALL):
            (checkout / name).write_text(content)
        for entry in ROOT.iterdir():
            if entry.name not in KEPT_OUT:
                (checkout / entry.name).symlink_to(entry)
        self.ports = {
            "--http-port": free_port(),
            "--audiosocket-port": free_port(),
            "--ari-port": free_port(),
            "--sip-port": free_port(),
            "--phone-ports": free_port_block(32),
        }

    def block(self, part: str) -> str:
        """Return the commands that contain a string."""
        (found,) = [each for each in self.commands if part in each]
        return found

    async def run(self, part: str, after: str = "", environment: str = LAB) -> str:
        """Run commands in a terminal of the tutorial, and return what they print.

        Args:
            part: is in the commands.
            after: a shell command that follows them.
            environment: a shell command before them.
        """
        async with self.running(part, after, environment) as process, asyncio.timeout(STEP_S):
            output = (await process.communicate())[0].decode()
        assert process.returncode == 0, output
        return output

    @contextlib.asynccontextmanager
    async def running(
        self, part: str, after: str = "", environment: str = LAB
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run commands in a terminal that is closed at the end."""
        chosen = " ".join(f"{name} {port}" for name, port in self.ports.items())
        commands = self.block(part).replace("./lab up", f"./lab up --engine embedded {chosen}")
        process = await asyncio.create_subprocess_exec(
            "bash",
            "-ec",
            f"{'' if './lab up' in commands else environment}\n{commands}{after}",
            cwd=self.checkout,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 15)
            await process.wait()

    async def printed(self, process: asyncio.subprocess.Process, part: str) -> str:
        """Wait until a terminal has printed a string, and return what it has printed since the last time."""
        assert process.stdout is not None
        seen = ""
        async with asyncio.timeout(STEP_S):
            while part not in seen:
                line = await process.stdout.readline()
                assert line, seen
                seen += line.decode()
        return seen


@contextlib.asynccontextmanager
async def tutorial(page: str, checkout: Path) -> AsyncIterator[Tutorial]:
    """Open a page; its lab ends with it."""
    it = Tutorial(page, checkout)
    try:
        yield it
    finally:
        ended = await asyncio.create_subprocess_exec("./lab", "down", cwd=checkout, stdout=asyncio.subprocess.DEVNULL)
        await ended.wait()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return an empty folder that is short enough for the phones' recordings."""
    assert shutil.which("curl")
    return tmp_path


async def test_the_first_stream(checkout: Path) -> None:
    async with tutorial("first-stream.md", checkout) as it:
        assert "A real call went through the bridge" in await it.run("./lab up\n")
        assert "strongest frequency 1004 Hz" in await it.run("call 601")
        output = await it.run("examples/listen.py")
        assert "strongest frequency 440 Hz" in output
        assert "closed with 1000 call ended" in output
        received = read_wav(checkout / "heard.wav")
        assert judge.loudest(received, RATE) == pytest.approx(1004, abs=5)
        await it.run("./lab down")


async def test_the_first_voice_agent(checkout: Path) -> None:
    async with tutorial("first-voice-agent.md", checkout) as it:
        await it.run("./lab up\n")
        async with it.running("agent.py &", "wait") as agent, it.running("1001 answer") as phone:
            await it.printed(phone, "waiting")
            await it.run("curl")
            assert "connected to 1001" in await it.printed(agent, "repeats")
            assert "strongest frequency 1004 Hz" in await it.printed(phone, "recorded")
            await it.printed(agent, "call ended")
        received = judge.block_levels(read_wav(checkout / "phone.wav"), RATE, 1004)
        assert (received > 1000).sum() * judge.BLOCK_S > 2


async def test_the_first_flow(checkout: Path) -> None:
    async with tutorial("first-flow.md", checkout) as it:
        await it.run("./lab up\n")
        async with it.running("1001 answer") as phone:
            await it.printed(phone, "waiting")
            output = await it.run("asterisk-bridge call")
            assert re.findall(r"action \d: (\w+)", output) == [
                *("talk", "digits_receive", "branch", "variable_set", "talk", "talk"),
            ]
            assert "over: normal" in output
            await it.printed(phone, "recorded")
        assert judge.rms(read_wav(checkout / "phone.wav")) > 500
        assert '"table": "booked"' in await it.run("ended=true")


async def test_a_phone_that_is_in_a_call_answers_the_next_one(checkout: Path) -> None:
    """A reader repeats a step while the call of the first attempt is still up."""
    async with tutorial("first-flow.md", checkout) as it:
        await it.run("./lab up\n")
        async with it.running("asterisk-bridge call") as first:
            await it.printed(first, "answered")
            async with it.running("1001 answer") as phone:
                await it.printed(phone, "waiting")
                assert "action 6" not in await it.printed(first, "over:")
                assert "over: normal" in await it.run("asterisk-bridge call")
                await it.printed(phone, "recorded")


async def test_your_own_application(checkout: Path) -> None:
    it = Tutorial("test-your-application.md", checkout)
    output = await it.run("pytest", environment="")
    assert re.search(r"\b2 passed\b", output)
