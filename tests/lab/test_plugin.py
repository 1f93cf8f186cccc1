"""The example of the plug-in's reference runs as a user runs it: in a folder of its own, with a lab of its own."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/test_agent.py"


async def test_the_example_of_a_test(tmp_path: Path) -> None:
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
