"""Copies of the checkout, for tests that build it: a build writes into the folder that it builds."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
IDENTITY = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
ENVIRON = {name: value for name, value in os.environ.items() if name != "BUILD_VERSION" and name[:4] != "GIT_"}


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder and return what it printed."""
    line = ["git", "-C", str(folder), *IDENTITY, *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=True, env=ENVIRON).stdout.strip()


NEVER_COPIED = shutil.ignore_patterns(
    *(
        ".git",
        ".venv",
        "venv",
        ".lab",
        ".hypothesis",
        ".*_cache",
        "__pycache__",
        "dist",
        "build",
        "extra-ca",
        "_version.py",
    )
)


def copy_checkout(folder: Path) -> Path:
    """Make a repository of one commit with this checkout's files, those included that are not committed yet.

    Args:
        folder: where; it must not exist.
    """
    try:
        names = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    except subprocess.CalledProcessError:  # an archive, or a checkout of another user
        shutil.copytree(ROOT, folder, ignore=NEVER_COPIED)
    else:
        for name in filter(lambda name: (ROOT / name).is_file(), names):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "x")
    return folder
