"""``tools/release`` on a copy of this checkout: builds, installs the wheel in an empty environment and makes calls."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

import bridge
from tests.checkout import ENVIRON, copy_checkout, git
from tests.lab.target import Target


async def test_a_release_is_built_installed_and_called(tmp_path: Path) -> None:
    checkout = await asyncio.to_thread(copy_checkout, tmp_path / "checkout")
    changelog = checkout / "CHANGELOG.md"
    text = changelog.read_text()
    at = text.index("\n## ") + 1
    changelog.write_text(f"{text[:at]}## [9.8.7] - 2026-11-30\n\n- Something.\n\n{text[at:]}")
    git(checkout, "commit", "--quiet", "-am", "Release 9.8.7")
    process = await asyncio.create_subprocess_exec(
        *(str(checkout / "tools/release"), "--rehearse", "9.8.7", "--wheel-only", "--no-image"),
        env=ENVIRON | {"PYTHON": sys.executable, "PATH": os.environ["PATH"]},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    printed = output.decode()
    assert process.returncode == 0, printed
    assert "asterisk_bridge-9.8.7-py3-none-any.whl on Python 3." in printed
    assert "2 passed" in printed
    assert "SKIPPED" in printed
    assert sorted(file.name for file in (checkout / "dist").iterdir()) == [
        "SHA256SUMS",
        "asterisk_bridge-9.8.7-py3-none-any.whl",
        "asterisk_bridge-9.8.7.tar.gz",
        "licenses.txt",
        "sbom.cdx.json",
    ]
    assert '"version": "9.8.7"' in (checkout / "dist/sbom.cdx.json").read_text()


@pytest.mark.core
async def test_the_bridge_under_test_is_of_this_version(target: Target) -> None:
    """In a container it was built without the repository, and was given the version."""
    status, health = await target.get("/health")
    assert status == 200
    assert health["version"] == bridge.__version__
    assert f'build_info{{version="{bridge.__version__}"}}' in await target.text("/metrics")
