"""The example of the plug-in's reference runs as a user runs it, and the calls of a test end with it."""

from __future__ import annotations

import asyncio
import shutil
import sys
from contextlib import asynccontextmanager
from pathlib import Path

from bridge.testing.lab_engine import Lab
from bridge.testing.plugin import _phones

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/test_agent.py"


async def test_the_example_of_a_test(tmp_path: Path) -> None:
    """In a folder of its own, with a lab of its own."""
    shutil.copy(EXAMPLE, tmp_path)
    page = (ROOT / "docs/reference/pytest-plugin.md").read_text()
    (tmp_path / "pyproject.toml").write_text(page.split("```toml\n", 1)[1].split("```", 1)[0])
    line = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "bridge.testing.plugin", EXAMPLE.name]
    process = await asyncio.create_subprocess_exec(
        *line, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    printed, _ = await process.communicate()
    assert b"2 passed" in printed.splitlines()[-1], printed.decode()
    assert process.returncode == 0


async def test_calls_that_a_test_leaves_up_end_with_it(lab: Lab) -> None:
    async with asynccontextmanager(_phones)(lab) as start:
        alice, bob = await start("1001", "1002")
        await alice.call("1002")
        await asyncio.gather(alice.answered(), bob.answered())
        assert (alice.in_call, bob.in_call) == (True, True)
    assert (alice.in_call, bob.in_call) == (False, False)
